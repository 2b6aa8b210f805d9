"""What is displayed of an image layer, read lazily."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from lazy_arrays import Lazy

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel
from napari.layers import Image

from napari_pisam.layers.geometry import plane_of
from napari_pisam.layers.images import axis_name, describe_view, image_source_of

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 255, (4, 20, 30), dtype=np.uint8)
ALL = (slice(0, 20), slice(0, 30))


def whole(source):
    height, width = source.shape
    return source.read((slice(0, height), slice(0, width)))


def test_a_grey_image_is_seen_with_its_contrast_limits():
    image = Image(STACK[0], contrast_limits=(20, 90))
    source, _plane, axes = image_source_of(image)
    assert axes == (0, 1)
    assert source.contrast_limits.tolist() == [[20, 90]]
    np.testing.assert_array_equal(source.read(ALL)[..., 0], STACK[0])


def test_rgb_is_three_channels():
    rgb = RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    source = image_source_of(Image(rgb, rgb=True)).source
    assert source.is_rgb
    np.testing.assert_array_equal(source.read(ALL), rgb)
    assert source.contrast_limits.tolist() == [[0, 255]] * 3


def test_three_columns_are_not_rgb_where_napari_does_not_say_so():
    narrow = RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    viewer = ViewerModel()
    image = viewer.add_image(narrow, rgb=False)
    assert image_source_of(image, viewer.dims).source.shape == (30, 3)


@pytest.mark.parametrize(
    "wrap",
    [np.asarray, lambda a: da.from_array(a, chunks=8), lambda a: zarr.array(a, chunks=(2, 8, 8))],
    ids=["numpy", "dask", "zarr"],
)
@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 1, 0)]
)
def test_any_two_axes_of_any_container(wrap, order):
    viewer = ViewerModel()
    image = viewer.add_image(wrap(STACK))
    viewer.dims.order = order
    viewer.dims.point = (2, 7, 11)
    view = image_source_of(image, viewer.dims)
    expected = np.take(STACK.transpose(order), (2, 7, 11)[order[0]], axis=0)
    np.testing.assert_array_equal(whole(view.source)[..., 0], expected)
    part = view.source.read((slice(1, 4), slice(2, 4)))
    np.testing.assert_array_equal(part[..., 0], expected[1:4, 2:4])
    # Exactly what napari draws.
    np.testing.assert_array_equal(image._slice.image.view, expected)


def test_transposed_rgb_stack_keeps_its_colours():
    rgb = RNG.integers(0, 255, (4, 20, 30, 3), dtype=np.uint8)
    viewer = ViewerModel()
    image = viewer.add_image(rgb, rgb=True)
    viewer.dims.order = (0, 2, 1)
    viewer.dims.point = (3, 0, 0)
    np.testing.assert_array_equal(
        whole(image_source_of(image, viewer.dims).source), rgb[3].transpose(1, 0, 2)
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_can_be_seen_together(axis):
    channels = RNG.integers(0, 255, (2, 5, 20, 30), dtype=np.uint8)
    viewer = ViewerModel()
    image = viewer.add_image(channels, contrast_limits=(1, 9))
    viewer.dims.point = (1, 1, 0, 0)
    view = image_source_of(image, viewer.dims, channel_axis=axis, channels=(1, 0))
    plane = channels[:, 1] if axis == 0 else channels[1]
    np.testing.assert_array_equal(whole(view.source), np.moveaxis(plane[[1, 0]], 0, -1))
    assert view.source.contrast_limits.tolist() == [[1, 9]] * 2
    assert view.plane.index[axis] is None


def test_displayed_channels_are_an_error():
    viewer = ViewerModel()
    image = viewer.add_image(STACK)
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ValueError, match="displays that axis"):
        image_source_of(image, viewer.dims, channel_axis=0)


def test_a_pyramid_gives_all_its_levels():
    image = Image([STACK[0], STACK[0][::2, ::2]], multiscale=True)
    source = image_source_of(image).source
    assert source.levels == [(20, 30), (10, 15)]
    part = source.read((slice(0, 10), slice(0, 15)), level=1)
    np.testing.assert_array_equal(part[..., 0], STACK[0][::2, ::2])


def test_nothing_materialises_a_lazy_layer():
    # napari itself asks for the displayed slice of a single-scale image: only a pyramid is lazy.
    levels = [Lazy((6, 4096, 4096)), Lazy((6, 1024, 1024)), Lazy((6, 256, 256))]
    viewer = ViewerModel()
    image = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 250))
    viewer.dims.set_point(0, 3)
    for level in levels:
        level.largest_read = 0
    view = image_source_of(image, viewer.dims)
    assert max(level.largest_read for level in levels) == 0
    part = view.source.read((slice(4000, 4010), slice(70, 90)))
    assert levels[0].largest_read == 200
    assert part[0, 0, 0] == levels[0].expected(3, 4000, 70)
    viewer.dims.order = (0, 2, 1)
    part = image_source_of(image, viewer.dims).source.read((slice(70, 90), slice(4000, 4010)))
    assert part.shape == (20, 10, 1)
    assert part[5, 3, 0] == levels[0].expected(3, 4003, 75)


def test_a_lazy_array_needs_no_layer():
    array = Lazy((5000, 7000))
    source = image_source_of(array).source
    assert source.shape == (5000, 7000)
    assert array.largest_read == 0


def test_constant_limits_are_left_to_the_predictor(monkeypatch):
    image = Image(STACK[0])
    monkeypatch.setattr(Image, "contrast_limits", (7, 7))
    low, high = image_source_of(image).source.contrast_limits[0]
    assert high > low


# -- thick slices --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["mean", "max", "min", "sum"])
@pytest.mark.parametrize(
    ("margins", "scale", "order"),
    [
        ((1.0, 1.0), 1.0, (0, 1, 2, 3)),
        ((0.0, 2.0), 1.0, (0, 1, 2, 3)),
        ((1.2, 0.7), 1.0, (0, 1, 2, 3)),
        ((3.0, 3.0), 2.0, (0, 1, 2, 3)),
        ((90.0, 90.0), 1.0, (0, 1, 2, 3)),
        ((1.0, 1.0), 1.0, (0, 2, 1, 3)),
    ],
)
def test_a_thick_slice_is_seen_as_napari_shows_it(mode, margins, scale, order):
    values = np.random.default_rng(3).integers(0, 200, (3, 6, 9, 11)).astype(np.uint8)
    viewer = ViewerModel()
    image = viewer.add_image(
        da.from_array(values, chunks=(1, 2, 4, 4)),
        projection_mode=mode,
        scale=(1, scale, 1, 1),
        contrast_limits=(0, 200),
    )
    viewer.dims.order = order
    viewer.dims.set_point([0, order[1]], [1, 3 * scale])
    for name, margin in zip(("margin_left", "margin_right"), margins, strict=True):
        along = [0.0] * 4
        along[0], along[order[1]] = 1.0, margin
        setattr(viewer.dims, name, along)
    shown = Image(np.asarray(image._slice.image.raw), contrast_limits=(0, 200))
    seen = whole(image_source_of(image, viewer.dims).source)
    np.testing.assert_allclose(seen, whole(image_source_of(shown).source))


def test_a_thin_slice_or_a_layer_that_projects_nothing_is_one_slice():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((5, 9, 11)), projection_mode="none")
    viewer.dims.margin_left = viewer.dims.margin_right = (1, 0, 0)
    assert plane_of(image, viewer.dims).projection is None
    image.projection_mode = "max"
    thick = plane_of(image, viewer.dims)
    assert thick.projection.mode == "max"
    assert "the max of axis 0 from 1 to 3" in describe_view(image, thick)
    viewer.dims.margin_left = viewer.dims.margin_right = (0, 0, 0)
    assert plane_of(image, viewer.dims).projection is None
    # Prompts and labels lie where the slider stands, however thick the slice is.
    assert plane_of(image, viewer.dims) == thick


def test_axes_that_nobody_named_are_counted_from_the_first():
    layer = Image(np.zeros((2, 3, 4, 5)))
    assert [axis_name(layer, axis) for axis in (0, 3)] == ["axis 0", "axis 3"]
    layer.axis_labels = ("t", "-3", "y", "x")
    assert [axis_name(layer, axis) for axis in (0, 1)] == ["t", "axis 1"]
