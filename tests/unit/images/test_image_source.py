"""Any image is a lazy 2D view of which only windows are read."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_pisam.images.image_source import ImageSource

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (40, 50), dtype=np.uint8)
RGB = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
WINDOW = (slice(5, 17), slice(20, 45))


class Lazy:
    """A huge computed image that counts what is read and refuses to be read whole."""

    def __init__(self, shape, dtype=np.uint16):
        self.shape, self.dtype, self.bytes_read = shape, np.dtype(dtype), 0

    def __array__(self, *args, **kwargs):
        raise AssertionError("the whole array was read")

    def __getitem__(self, key):
        rows, cols = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
        block = ((rows[:, None] * 7 + cols * 13) % 251).astype(self.dtype)
        self.bytes_read += block.nbytes
        return block


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def in_zarr(array):
    store = zarr.create_array({}, shape=array.shape, dtype=array.dtype, chunks=(16,) * array.ndim)
    store[...] = array
    return store


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        lambda a: da.from_array(a, chunks=16),
        in_zarr,
        read_only,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[::-1][::-1],
        lambda a: [a],
    ],
    ids=["numpy", "dask", "zarr", "read_only", "fortran", "strided", "reversed", "list"],
)
@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_a_window_is_the_same_from_every_container(image, wrap):
    source = ImageSource(wrap(image))
    expected = image[WINDOW].reshape(12, 25, -1)
    np.testing.assert_array_equal(source.read(WINDOW), expected)
    np.testing.assert_array_equal(source.contrast_limits, ImageSource(image).contrast_limits)


def test_a_nested_list_of_numbers_is_an_image():
    assert ImageSource([[1, 2, 3], [4, 5, 6]]).shape == (2, 3)


def test_alpha_is_dropped():
    rgba = np.concatenate([RGB, np.full((40, 50, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(ImageSource(rgba).read(WINDOW), RGB[WINDOW])


@pytest.mark.parametrize(("axis", "moved"), [(0, 0), (1, 1), (-1, 2), (-3, 0)])
def test_channels_may_be_any_axis(axis, moved):
    source = ImageSource(np.moveaxis(RGB, -1, moved), channel_axis=axis)
    assert source.shape == (40, 50)
    assert source.is_rgb
    np.testing.assert_array_equal(source.read(WINDOW), RGB[WINDOW])


def test_planes_and_channels_of_five_axes():
    image = RNG.integers(0, 9, (2, 5, 3, 40, 50), dtype=np.uint16)  # t c z y x
    source = ImageSource(image, plane=(1, 2), channel_axis=1, channels=(4, 0))
    expected = np.stack([image[1, 4, 2], image[1, 0, 2]], axis=-1)[WINDOW]
    np.testing.assert_array_equal(source.read(WINDOW), expected)
    assert source.n_channels == 2


def test_first_three_of_many_channels_are_used():
    image = RNG.integers(0, 9, (7, 40, 50), dtype=np.uint16)
    source = ImageSource(image, channel_axis=0)
    np.testing.assert_array_equal(source.read(WINDOW), np.moveaxis(image[:3], 0, -1)[WINDOW])
    assert not source.is_rgb


def test_a_plane_for_every_axis_means_that_there_are_no_channels():
    image = RNG.integers(0, 9, (6, 40, 3), dtype=np.uint8)
    assert ImageSource(image, plane=2).shape == (40, 3)
    assert ImageSource(image).shape == (6, 40)


def test_leading_axes_of_length_one_need_no_plane():
    np.testing.assert_array_equal(ImageSource(GREY[None, None]).read(WINDOW)[..., 0], GREY[WINDOW])


def test_one_pixel_may_be_rgb():
    assert ImageSource(np.zeros((1, 1, 3), np.uint8), rgb=True).shape == (1, 1)


def test_a_pyramid_gives_its_levels():
    source = ImageSource([GREY, GREY[::2, ::2], GREY[::4, ::4]])
    assert source.levels == [(40, 50), (20, 25), (10, 13)]
    part = source.read((slice(1, 5), slice(2, 4)), level=2)
    np.testing.assert_array_equal(part[..., 0], GREY[::4, ::4][1:5, 2:4])


def test_a_pyramid_may_shrink_its_planes_too():
    stack = RNG.integers(0, 99, (8, 40, 50))
    source = ImageSource([stack, stack[::2, ::2, ::2]], plane=5)
    part = source.read((slice(0, 5), slice(0, 4)), level=1)
    np.testing.assert_array_equal(part[..., 0], stack[4, :10:2, :8:2])


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros(5), {}, "two axes"),
        (np.zeros((0, 5)), {}, "empty"),
        (np.zeros((3, 3), complex), {}, "complex"),
        (np.zeros((3, 3), object), {}, "object"),
        ("picture.png", {}, "expected an array"),
        (None, {}, "NoneType"),
        (np.zeros((5, 20, 30)), {}, "plane=|channel_axis="),
        (np.zeros((5, 20, 30)), {"plane": 5}, "indices within"),
        (np.zeros((5, 20, 30)), {"plane": (1, 2)}, "indices into the leading axes"),
        (np.zeros((20, 30)), {"channel_axis": 0}, "channel_axis"),
        (np.zeros((20, 30, 5)), {"channel_axis": 3}, "channel_axis"),
        (np.zeros((20, 30, 5)), {"rgb": True}, "last axis of 3 or 4"),
        (np.zeros((5, 20, 30)), {"channel_axis": 0, "channels": (5,)}, "5 channels"),
        (np.zeros((20, 30)), {"contrast_limits": (1, 1)}, "white > black"),
        (np.zeros((20, 30)), {"contrast_limits": (0, np.nan)}, "white > black"),
        ([np.zeros((4, 4)), np.zeros((8, 8))], {}, "pyramid"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_message(image, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageSource(image, **arguments)


@pytest.mark.parametrize("window", [(slice(0, 41), slice(0, 5)), (slice(3, 3), slice(0, 5))])
def test_a_window_outside_the_image_is_refused(window):
    with pytest.raises(ValueError, match="40 rows x 50 cols"):
        ImageSource(GREY).read(window)


@pytest.mark.parametrize(
    ("image", "limits"),
    [
        (RGB, (0, 255)),
        (RGB / 255, (0, 1)),
        (GREY > 100, (0, 1)),
        (np.full((5, 5), 7), (7, 8)),
        (np.full((5, 5), np.nan), (0, 1)),
        (np.array([[np.nan, np.inf, -np.inf, 3.0, 3.0]]), (3, 4)),
    ],
)
def test_limits_where_percentiles_say_nothing(image, limits):
    found = ImageSource(image).contrast_limits
    np.testing.assert_allclose(found, np.broadcast_to(limits, found.shape), 1e-12)


def test_limits_are_percentiles_of_each_channel():
    image = RNG.normal(100, 10, (2, 60, 60))
    image[0, 0, 0] = np.nan
    image[1, 0, 0] = np.inf
    expected = [np.percentile(c[np.isfinite(c)], (0.5, 99.5)) for c in image]
    np.testing.assert_allclose(ImageSource(image, channel_axis=0).contrast_limits, expected)


def test_a_sparse_image_keeps_its_few_bright_pixels():
    image = np.zeros((100, 100), np.uint16)
    image[50, 50] = 900
    np.testing.assert_allclose(ImageSource(image).contrast_limits, [(0, 900)])


def test_given_limits_are_kept():
    np.testing.assert_allclose(
        ImageSource(RGB, contrast_limits=(3, 9)).contrast_limits, [(3, 9)] * 3
    )


@pytest.mark.parametrize(
    "shape", [(100_000, 100_000), (100_000, 40), (40, 100_000), (2000, 2000), (1025, 1025)]
)
def test_limits_cost_at_most_a_million_pixels_of_any_image(shape):
    lazy = Lazy(shape)
    low, high = ImageSource(lazy).contrast_limits[0]
    assert 0 <= low < 5
    assert 245 < high <= 250
    assert lazy.bytes_read <= 2 << 20


def test_only_the_window_is_read():
    lazy = Lazy((100_000, 100_000))
    source = ImageSource(lazy)
    assert lazy.bytes_read == 0
    source.read((slice(99_000, 99_100), slice(7, 57)))
    assert lazy.bytes_read == 100 * 50 * 2


def test_only_the_chosen_window_of_a_dask_array_is_computed():
    seen = []
    image = da.zeros((64, 64), chunks=16, dtype=np.uint8).map_blocks(
        lambda block, block_id=None: (seen.append(block_id), block)[1],
        dtype=np.uint8,
        meta=GREY[:0],
    )
    ImageSource(image).read((slice(0, 16), slice(16, 32)))
    assert seen == [(0, 1)]


def test_16_bit_grey_is_shown_by_its_contrast():
    image = np.linspace(1000, 3000, 400).reshape(20, 20).astype(np.uint16)
    shown = ImageSource(image).read_rgb((slice(0, 20), slice(0, 20)))
    assert (shown.shape, shown.dtype) == ((20, 20, 3), np.float32)
    assert (shown.min(), shown.max()) == (0, 255)
    assert (shown[..., 0] == shown[..., 2]).all()
