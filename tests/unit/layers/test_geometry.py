"""A box drawn in the world gives the same pixels, however the layers are transformed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

from napari_pisam.layers.geometry import PlaneMap, plane_of
from napari_pisam.layers.prompts import prompts_from_layers
from napari_pisam.layers.transforms import placement_of, transform_of

SHAPE = (60, 80)
FAST = settings(max_examples=40, deadline=None)

finite = st.floats(-50, 50)
scales = st.floats(0.05, 20).flatmap(lambda s: st.sampled_from([s, -s]))


@st.composite
def upright(draw):
    """Scale, translation and an affine that keeps the axes."""
    affine = np.diag([draw(scales), draw(scales), 1.0])
    affine[:2, 2] = draw(finite), draw(finite)
    return {
        "scale": (draw(scales), draw(scales)),
        "translate": (draw(finite), draw(finite)),
        "affine": affine,
    }


@st.composite
def turned(draw):
    """All that napari has."""
    parts = draw(upright())
    parts["scale"] = tuple(abs(s) for s in parts["scale"])
    parts["rotate"] = draw(st.floats(-180, 180))
    parts["shear"] = [draw(st.floats(-1, 1))]
    angle = math.radians(draw(st.floats(-180, 180)))
    c, s = math.cos(angle), math.sin(angle)
    parts["affine"][:2, :2] = np.array([[c, -s], [s, c]]) @ np.diag([draw(st.floats(0.1, 5)), 1])
    return parts


def matrix(parts):
    """The same by napari's documentation: affine * (rotate * shear * scale + translate)."""
    angle = math.radians(parts.get("rotate", 0))
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1, parts.get("shear", [0])[0]], [0, 1]])
    inner = np.eye(3)
    inner[:2, :2] = rotate @ shear @ np.diag(parts["scale"])
    inner[:2, 2] = parts["translate"]
    return parts["affine"] @ inner


def apply(m, rc):
    return np.asarray(rc) @ m[:2, :2].T + m[:2, 2]


def image_layer(**parts):
    return Image(np.zeros(SHAPE, np.uint8), **parts)


def state(layer):
    """All of a layer that a user would miss."""
    data = [np.array(part) for part in layer.data] if isinstance(layer, Shapes) else layer.data
    return (
        np.asarray(layer.affine).tolist(),
        np.asarray(layer.scale).tolist(),
        np.asarray(layer.translate).tolist(),
        np.asarray(layer.rotate).tolist(),
        np.asarray(layer.shear).tolist(),
        [np.asarray(part).tolist() for part in data],
        layer.features.to_dict() if hasattr(layer, "features") else None,
        layer.units,
    )


boxes = st.tuples(
    st.integers(0, 25), st.integers(0, 35), st.integers(30, 59), st.integers(40, 79)
).map(lambda b: (b[0] - 0.5, b[1] - 0.5, b[2] + 0.5, b[3] + 0.5))


@FAST
@given(upright(), upright(), boxes)
def test_an_upright_box_is_the_same_under_every_transform(image_parts, shape_parts, box):
    world = apply(matrix(image_parts), np.reshape(box, (2, 2)))
    drawn = apply(np.linalg.inv(matrix(shape_parts)), world)
    image, shapes = image_layer(**image_parts), Shapes([drawn], ndim=2, **shape_parts)
    before = state(image), state(shapes)
    found = prompts_from_layers(image, shapes)
    assert (state(image), state(shapes)) == before
    # Shapes keeps 32-bit floats: what they lose, seen in px of the image.
    per_px = np.abs(np.diag(np.linalg.inv(matrix(image_parts)) @ matrix(shape_parts))[:2])
    lost = 4e-7 * np.abs(drawn).max() * per_px.max() + 1e-9
    np.testing.assert_allclose(found.prompts[1].box, box, atol=lost)


@FAST
@given(turned(), boxes)
def test_a_box_on_a_layer_that_lies_like_the_image_is_exact(parts, box):
    image = image_layer(**parts)
    shapes = Shapes([np.reshape(box, (2, 2))], **parts)
    assert prompts_from_layers(image, shapes).prompts[1].box == box


@FAST
@given(turned(), turned(), st.tuples(finite, finite), st.tuples(finite, finite))
def test_any_shape_gives_the_bounding_box_of_its_vertices_in_the_image(
    image_parts, shape_parts, low, high
):
    total = np.linalg.inv(matrix(image_parts)) @ matrix(shape_parts)
    (row0, col0), (row1, col1) = low, high
    # Turned against the image, as a rule.
    corners = [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]
    kept = np.asarray(corners, np.float32).astype(float)
    assume(np.ptp(kept, axis=0).min() > 1e-3)
    image = image_layer(**image_parts)
    shapes = Shapes([kept], shape_type="rectangle", **shape_parts)
    mapped = apply(total, kept)
    mapping = PlaneMap(image, plane_of(image), shapes)
    size = np.abs(mapped).max() + np.abs(total).max()
    np.testing.assert_allclose(mapping.to_image(kept), mapped, atol=1e-8 * size)
    expected = np.clip([*mapped.min(axis=0), *mapped.max(axis=0)], -0.5, [59.5, 79.5, 59.5, 79.5])
    found = prompts_from_layers(image, shapes)
    if (expected[2:] - expected[:2] > 1e-6).all():
        np.testing.assert_allclose(found.prompts[1].box, expected, atol=1e-8 * size)
    else:
        assert len(found.ignored) == 1 or found.prompts


@FAST
@given(turned(), turned(), st.tuples(st.floats(0, 59), st.floats(0, 79)))
def test_a_click_is_where_it_is_seen_and_comes_back(image_parts, point_parts, place):
    drawn = apply(np.linalg.inv(matrix(point_parts)) @ matrix(image_parts), [place])
    image, points = image_layer(**image_parts), Points(drawn, **point_parts)
    before = state(image), state(points)
    found = prompts_from_layers(image, None, points)
    np.testing.assert_allclose(found.prompts[1].points, [place], atol=1e-6)
    back = PlaneMap(image, plane_of(image), points).to_layer(found.prompts[1].points)
    np.testing.assert_allclose(back, drawn, rtol=1e-7, atol=1e-6)
    assert (state(image), state(points)) == before


@FAST
@given(turned())
def test_a_copied_transform_is_the_same_transform(parts):
    image = image_layer(**parts)
    copy = Image(np.zeros(SHAPE), **transform_of(image))
    np.testing.assert_allclose(placement_of(copy).linear, matrix(parts)[:2, :2], atol=1e-7)
    corner = Image(np.zeros((5, 5)), **transform_of(image, origin=(7, 11)))
    np.testing.assert_allclose(
        corner.data_to_world((2, 3)), image.data_to_world((9, 14)), rtol=1e-9, atol=1e-7
    )


@pytest.mark.parametrize(
    "parts",
    [
        {"scale": (2e-10, 3e-10), "rotate": 30},
        {"shear": np.array([[1, 0], [0.4, 1]])},
        {"scale": (-2, 3), "rotate": 20},
        {"scale": (1e6, 1e-6), "translate": (1e7, -1e7)},
    ],
    ids=["tiny", "lower_shear", "mirrored", "uneven"],
)
def test_transforms_that_napari_decomposes_badly_are_copied_too(parts):
    image = image_layer(**parts)
    copy = Image(np.zeros(SHAPE), **transform_of(image))
    for place in ((0, 0), (5, 7), (59, 79)):
        np.testing.assert_allclose(
            copy.data_to_world(place), image.data_to_world(place), rtol=1e-9, atol=1e-15
        )


def test_units_are_converted_where_the_viewer_converts_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE), scale=(0.5, 0.5), units=("um", "um"))
    shapes = viewer.add_shapes([[[5000, 10_000], [20_000, 30_000]]], ndim=2, units=("nm", "nm"))
    assert viewer.dims.units is not None
    expected = pytest.approx((10, 20, 40, 60))
    assert prompts_from_layers(image, shapes, dims=viewer.dims).prompts[1].box == expected
    assert prompts_from_layers(image, shapes).prompts[1].box == expected


def test_units_are_left_alone_where_they_do_not_compare():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE), units=("um", "um"))
    shapes = viewer.add_shapes([[[5, 10], [20, 30]]], ndim=2)
    assert viewer.dims.units is None
    assert prompts_from_layers(image, shapes, dims=viewer.dims).prompts[1].box == (5, 10, 20, 30)
    assert prompts_from_layers(image, shapes).prompts[1].box == (5, 10, 20, 30)


def test_one_layer_without_units_stops_the_conversion_as_in_napari():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE), units=("um", "um"))
    shapes = viewer.add_shapes([[[5, 10], [20, 30]]], ndim=2, units=("nm", "nm"))
    viewer.add_points([[1, 1]])
    assert viewer.dims.units is None
    assert prompts_from_layers(image, shapes, dims=viewer.dims).prompts[1].box == (5, 10, 20, 30)


# -- planes of stacks ---------------------------------------------------------------------------


@pytest.fixture
def stack():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((9, 12, 15), np.uint8), scale=(5, 2, 1), translate=(10, 0, 0))
    return viewer


def test_the_plane_is_the_one_that_napari_shows(stack):
    image = stack.layers[0]
    for z in range(9):
        stack.dims.set_point(0, 10 + 5 * z + 1.5)
        plane = plane_of(image, stack.dims)
        assert (plane.axes, plane.index) == ((1, 2), (z, None, None))


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 1, 0)]
)
def test_any_two_axes_can_be_displayed(stack, order):
    stack.dims.order = order
    stack.dims.point = (25, 8, 4)
    plane = plane_of(stack.layers[0], stack.dims)
    index = {0: 3, 1: 4, 2: 4}
    assert plane.axes == order[1:]
    assert plane.index == tuple(index[a] if a == order[0] else None for a in range(3))
    assert plane.size == tuple((9, 12, 15)[axis] for axis in order[1:])


def test_a_slider_outside_the_image_is_an_error(stack):
    stack.add_points([[100, 0, 0]])
    stack.dims.set_point(0, 100)
    with pytest.raises(ValueError, match=r"expected 0 to 8.*Move the slider"):
        plane_of(stack.layers[0], stack.dims)


def test_3d_display_is_an_error(stack):
    stack.dims.ndisplay = 3
    with pytest.raises(ValueError, match="shows 3D"):
        plane_of(stack.layers[0], stack.dims)


def test_a_stack_without_a_viewer_needs_a_plane(stack):
    with pytest.raises(ValueError, match=r"pass dims=viewer\.dims"):
        plane_of(stack.layers[0])
    assert plane_of(stack.layers[0], index=(4,)).index == (4, None, None)


def test_only_prompts_in_the_images_plane_count(stack):
    image = stack.layers[0]
    # World z 25 is the image's plane 3; the points count their own z in steps of 1.
    points = stack.add_points([[25, 4, 5], [26, 8, 6], [30, 8, 6]])
    stack.dims.set_point(0, 25)
    found = prompts_from_layers(image, None, points, dims=stack.dims)
    assert found.prompts[1].points.tolist() == [[2, 5], [4, 6]]


def test_prompts_without_the_sliced_axis_are_in_every_plane(stack):
    points = stack.add_points([[4, 5]])
    for z in (10, 30):
        stack.dims.set_point(0, z)
        found = prompts_from_layers(stack.layers[0], None, points, dims=stack.dims)
        assert found.prompts[1].points.tolist() == [[2, 5]]


def test_prompts_with_more_axes_than_the_image_count_where_the_slider_stands():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(SHAPE))
    points = viewer.add_points([[0, 4, 5], [3, 8, 6]])
    viewer.dims.set_point(0, 3)
    found = prompts_from_layers(image, None, points, dims=viewer.dims)
    assert found.prompts[1].points.tolist() == [[8, 6]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_places_in_a_plane_come_back_whatever_is_displayed(stack, order):
    image = stack.layers[0]
    points = stack.add_points(np.zeros((1, 3)), scale=(2, 1, 3), translate=(-4, 7, 1))
    stack.dims.order = order
    stack.dims.point = (25, 8, 4)
    plane = plane_of(image, stack.dims)
    mapping = PlaneMap(image, plane, points)
    rc = np.array([[0, 0], [3.5, 6.25]])
    placed = mapping.to_layer(rc)
    assert mapping.on_plane(placed).all()
    np.testing.assert_allclose(mapping.to_image(placed), rc, atol=1e-9)
    # Independently: through the world by the two scales.
    world = placed * (2, 1, 3) + (-4, 7, 1)
    data = (world - (10, 0, 0)) / (5, 2, 1)
    np.testing.assert_allclose(data[:, list(plane.axes)], rc, atol=1e-9)
    np.testing.assert_allclose(data[:, order[0]], plane.index[order[0]], atol=1e-9)
    assert not mapping.on_plane(placed + np.eye(3)[order[0]] * 12).any()
