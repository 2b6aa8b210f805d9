"""Windows hold the prompts, frames show the pixels, and coordinates map exactly."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.preprocessing import FrameTransform, to_frame
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.predict.windows import Window, choose_window, level_scale, stable_window

sizes = st.integers(1, 5000)
shares = st.tuples(*[st.floats(0, 1)] * 4)


def box_in(shape, share):
    height, width = shape
    r, c = share[0] * (height - 1), share[1] * (width - 1)
    return (
        r - 0.5,
        c - 0.5,
        r + 0.5 + share[2] * (height - 1 - r),
        c + 0.5 + share[3] * (width - 1 - c),
    )


def pyramid(shape, levels=5):
    return [tuple(-(-n // 2**k) for n in shape) for k in range(levels)]


# -- windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1024, 3), (700, 1024)])
def test_a_small_image_is_seen_whole(shape):
    window = choose_window(Prompts((0, 0, 0.5, 0.5)), shape)
    assert window == Window(0, 0, 0, *shape)


def test_a_large_image_is_seen_at_native_resolution_around_the_box():
    window = choose_window(Prompts((5000, 7000, 5100, 7200)), (20_000, 20_000))
    assert (window.level, window.step) == (0, 1)
    assert (window.row1 - window.row0, window.col1 - window.col0) == (1024, 1024)
    assert window.row0 < 4975
    assert window.row1 > 5125


def test_a_window_at_the_border_is_shifted_inside():
    window = choose_window(Prompts((0, 19_990, 5, 19_999)), (20_000, 20_000))
    assert (window.row0, window.row1, window.col0, window.col1) == (0, 1024, 18_976, 20_000)


def test_a_large_box_takes_the_level_that_still_has_a_frame_of_it():
    shape = (20_000, 20_000)
    window = choose_window(Prompts((4000, 4000, 10_000, 10_000)), shape, pyramid(shape))
    assert window.level == 3  # 9000 px / 8 = 1125 px
    assert window.step == 1
    assert 1125 <= window.row1 - window.row0 <= 1130


def test_a_large_box_without_a_pyramid_is_averaged_while_reading():
    window = choose_window(Prompts((0, 0, 50_000, 50_000)), (100_000, 100_000))
    assert window.level == 0
    assert 1024 <= max(window.reduced_shape) < 2048


@settings(max_examples=200, deadline=None)
@given(height=sizes, width=sizes, share=shares, levels=st.integers(1, 5))
def test_every_window_is_inside_and_holds_its_prompts(height, width, share, levels):
    shape = (height, width)
    prompts = Prompts(box_in(shape, share)).validated_for(shape)
    every = pyramid(shape, levels)
    window = choose_window(prompts, shape, every, frame=64)
    size = every[window.level]
    assert 0 <= window.row0 < window.row1 <= size[0]
    assert 0 <= window.col0 < window.col1 <= size[1]
    assert window.holds(prompts)
    assert max(window.reduced_shape) <= max(128, 64)
    assert max(FrameTransform.of(window, 64).size) == 64
    row0, col0, row1, col1 = window.native_bbox(shape)
    assert row0 <= prompts.box[0] + 1
    assert col0 <= prompts.box[1] + 1
    assert row1 >= prompts.box[2]
    assert col1 >= prompts.box[3]


def test_clicks_inside_the_window_of_a_box_do_not_move_it():
    shape, box = (5000, 5000), (2000, 2000, 2100, 2100)
    window = stable_window(Prompts(box), shape)
    clicks = [(window.row0 + 3, window.col0 + 3), (2050, 2050), (window.row1 - 3, window.col0 + 9)]
    assert stable_window(Prompts(box, clicks, [True, False, False]), shape) == window


def test_a_click_outside_leads_to_a_window_that_later_clicks_do_not_move():
    shape, box = (9000, 9000), (2000, 2000, 2100, 2100)
    clicks = [(2050, 4000), (2050, 2070), (2100, 3900)]
    first = stable_window(Prompts(box, clicks[:1], [True]), shape)
    assert first.holds(Prompts(box, clicks, [True] * 3))
    assert stable_window(Prompts(box, clicks, [True] * 3), shape) == first


def test_the_first_foreground_click_chooses_the_window_without_a_box():
    clicks = [(100, 100), (4000, 4000), (4010, 4010)]
    window = stable_window(Prompts(points=clicks[1:], labels=[True, True]), (5000, 5000))
    assert window.holds(Prompts(points=clicks[1:], labels=[True, True]))
    assert window.step == 1


def test_near_boxes_share_a_window():
    boxes = [(2000, 2000, 2030, 2040), (2050, 2040, 2090, 2080), (2100, 2020, 2140, 2060)]
    assert len({choose_window(Prompts(box), (9000, 9000)) for box in boxes}) == 1


@pytest.mark.parametrize(
    ("base", "here", "scale"),
    [
        ((1001, 1001), (500, 501), (2.0, 2.0)),
        ((1000, 1000), (1000, 1000), (1.0, 1.0)),
        ((1000, 999), (300, 333), (1000 / 300, 3.0)),
    ],
)
def test_the_scale_of_a_level_sees_through_rounding(base, here, scale):
    assert level_scale(base, here) == pytest.approx(scale)


def test_a_trimmed_level_still_reaches_the_image_border():
    window = Window(1, 0, 0, 500, 500, 1, (2.0, 2.0))
    assert window.native_bbox((1001, 1000)) == (0, 0, 1001, 1000)
    assert Window(1, 0, 0, 499, 400, 1, (2.0, 2.0)).native_bbox((1001, 1000)) == (0, 0, 998, 800)


# -- coordinates --------------------------------------------------------------------------------


def test_pixel_centres_become_half_pixels_and_axes_are_flipped():
    transform = FrameTransform.of(Window(0, 10, 20, 10 + 1024, 20 + 512))
    np.testing.assert_allclose(
        transform.points_to_frame([(10, 20), (12, 25)]), [(0.5, 0.5), (5.5, 2.5)]
    )
    np.testing.assert_allclose(transform.box_to_frame((9.5, 19.5, 11.5, 24.5)), (0, 0, 5, 2))


def test_an_enlarged_image_keeps_its_edges():
    transform = FrameTransform.of(Window(0, 0, 0, 4, 2), 64)
    assert transform.size == (64, 32)
    np.testing.assert_allclose(
        transform.points_to_frame([(-0.5, -0.5), (3.5, 1.5)]), [(0, 0), (32, 64)]
    )


@settings(max_examples=200, deadline=None)
@given(
    row0=st.integers(0, 10**5),
    col0=st.integers(0, 10**5),
    height=sizes,
    width=sizes,
    step=st.integers(1, 9),
    factor=st.sampled_from([1.0, 2.0, 3.7]),
    point=st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
)
def test_coordinates_survive_the_round_trip(row0, col0, height, width, step, factor, point):
    window = Window(0, row0, col0, row0 + height, col0 + width, step, (factor, factor))
    transform = FrameTransform.of(window)
    back = transform.from_frame(transform.points_to_frame([point]))
    np.testing.assert_allclose(back, [point], atol=1e-6)


def test_a_box_is_clipped_to_the_valid_part_of_the_frame():
    transform = FrameTransform.of(Window(0, 0, 0, 32, 64), 64)
    np.testing.assert_allclose(transform.box_to_frame((-9, -9, 99, 99)), (0, 0, 64, 32))


def test_a_mask_becomes_logits_by_the_share_of_each_cell():
    crop = np.ones((6, 8), bool)
    transform = FrameTransform.of(Window(0, 0, 0, 64, 64), 64)
    logits = transform.mask_to_logits(MaskPrompt.from_any((crop, (4, 8))), 64)
    expected = np.full((16, 16), -10.0)
    expected[1, 2:4] = 10
    expected[2, 2:4] = 0  # two of four rows
    np.testing.assert_allclose(logits, [expected], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
def test_mask_logits_keep_the_area(height, width, seed):
    window = Window(0, 0, 0, 90, 90)
    crop = np.random.default_rng(seed).random((height, width)) > 0.5
    crop[0, 0] = True
    transform = FrameTransform.of(window, 64)
    share = (transform.mask_to_logits(MaskPrompt.from_any(crop), 64) + 10) / 20
    area = share.sum() * 16 / (transform.scale[0] * transform.scale[1])
    assert area == pytest.approx(crop.sum(), rel=1e-4)


# -- pixels -------------------------------------------------------------------------------------


def test_pixels_are_mapped_from_limits_to_0_255():
    image = np.linspace(-1, 3, 64 * 64).reshape(64, 64)
    frame = to_frame(ImageSource(image, contrast_limits=(0, 2)), Window(0, 0, 0, 64, 64), 64)
    assert frame.shape == (3, 64, 64)
    assert frame.dtype == np.float32
    for plane in frame:
        np.testing.assert_allclose(plane, np.clip(image / 2, 0, 1) * 255, atol=1e-4)


def test_rgb_of_8_bits_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (64, 50, 3), dtype=np.uint8)
    frame = to_frame(ImageSource(image), Window(0, 0, 0, 64, 50), 64)
    np.testing.assert_allclose(frame, image.transpose(2, 0, 1), atol=1e-4)


def test_two_channels_are_red_and_green():
    image = np.random.default_rng(0).random((2, 64, 64))
    source = ImageSource(image, channel_axis=0, contrast_limits=(0, 1))
    frame = to_frame(source, Window(0, 0, 0, 64, 64), 64)
    np.testing.assert_allclose(frame[:2], image * 255, atol=1e-3)
    assert not frame[2].any()


def test_nan_is_black_and_infinity_is_clipped():
    image = np.full((64, 64), 0.5)
    image[0, :3] = np.nan, np.inf, -np.inf
    frame = to_frame(ImageSource(image, contrast_limits=(0, 1)), Window(0, 0, 0, 64, 64), 64)
    assert frame[0, 0, :3].tolist() == [0, 255, 0]
    assert np.isfinite(frame).all()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float32, np.float64])
def test_large_values_keep_their_contrast(dtype):
    image = (np.arange(64 * 64).reshape(64, 64) % 256).astype(dtype)
    offset = dtype(2**40) if dtype != np.float32 else dtype(2**14)
    frame = to_frame(
        ImageSource(image + offset, contrast_limits=(offset, offset + dtype(255))),
        Window(0, 0, 0, 64, 64),
        64,
    )
    np.testing.assert_allclose(frame[0], image.astype(float), atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 1), (64, 64)), ((10, 20), (32, 64)), ((90, 30), (64, 21)), ((1, 500), (1, 64))],
)
def test_the_longer_side_fills_the_frame(shape, size):
    image = np.full(shape, 9, np.uint8)
    frame = to_frame(ImageSource(image, contrast_limits=(0, 255)), Window(0, 0, 0, *shape), 64)
    assert frame.shape == (3, *size)
    np.testing.assert_allclose(frame, 9, atol=1e-4)


def test_reduction_is_anti_aliased():
    image = np.indices((126, 126)).sum(axis=0) % 2 * 255
    frame = to_frame(ImageSource(image, contrast_limits=(0, 255)), Window(0, 0, 0, 126, 126), 64)
    assert np.abs(frame - 127.5).max() < 40


@pytest.mark.parametrize("step", [2, 3, 7])
@pytest.mark.parametrize("shape", [(128, 128), (130, 127), (1, 99)])
def test_averaged_reading_is_the_mean_of_each_block(step, shape):
    image = np.random.default_rng(0).random(shape)
    window = Window(0, 0, 0, *shape, step)
    frame_side = max(window.reduced_shape)
    frame = to_frame(ImageSource(image, contrast_limits=(0, 1)), window, frame_side)
    for r, c in [(0, 0), (window.reduced_shape[0] - 1, window.reduced_shape[1] - 1)]:
        block = image[r * step : (r + 1) * step, c * step : (c + 1) * step]
        assert frame[0, r, c] == pytest.approx(block.mean() * 255, abs=1e-2)


@pytest.mark.parametrize("size", [999, 1000, 1001, 1007, 1023])
def test_sampled_reading_of_far_larger_windows_follows_the_image(size):
    rows, cols = np.mgrid[:size, :size]
    image = rows + 2.0 * cols
    window = choose_window(Prompts((0, 0, size - 1, size - 1)), image.shape, frame=16)
    assert window.step >= 32
    frame = to_frame(ImageSource(image, contrast_limits=(0, 3.0 * size)), window, 16)
    transform = FrameTransform.of(window, 16)
    y, x = np.mgrid[1:15, 1:15]
    rc = transform.from_frame(np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1))
    expected = (rc[:, 0] + 2 * rc[:, 1]) * 255 / (3.0 * size)
    np.testing.assert_allclose(frame[0, 1:15, 1:15].ravel(), expected, atol=2)


def test_the_frame_shows_what_the_transform_says():
    image = np.zeros((300, 300))
    image[100:140, 200:260] = 1
    window = choose_window(Prompts((100, 200, 139, 259)), image.shape, frame=64)
    frame = to_frame(ImageSource(image, contrast_limits=(0, 1)), window, 64)[0]
    x0, y0, x1, y1 = FrameTransform.of(window, 64).box_to_frame((99.5, 199.5, 139.5, 259.5))
    rows, cols = np.nonzero(frame > 127.5)
    np.testing.assert_allclose(
        [rows.min(), rows.max() + 1, cols.min(), cols.max() + 1], [y0, y1, x0, x1], atol=0.51
    )


def test_choosing_a_window_does_not_import_torch():
    code = "import sys, napari_pisam.predict.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
