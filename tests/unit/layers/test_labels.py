"""Labels layers for results: where they lie, what is written, what it costs."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import zarr

from lazy_arrays import Lazy

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel
from napari.layers import Labels

from napari_pisam.layers import label_arrays
from napari_pisam.layers.geometry import plane_of
from napari_pisam.layers.label_drawing import refresh_labels_windows
from napari_pisam.layers.labels import (
    LabelsPlane,
    labels_plane,
    new_labels_layer,
    plane_is_displayed,
    promote_labels,
)
from napari_pisam.layers.preview import (
    PREVIEW_COLORS,
    color_unlike,
    new_preview_layer,
    show_preview,
)
from napari_pisam.predict.mask import Mask

ORDERS = [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (1, 0, 2), (2, 1, 0)]


@pytest.fixture
def viewer():
    model = ViewerModel()
    model.add_image(
        np.zeros((5, 20, 30), np.uint8), scale=(4, 2, 3), translate=(1, 2, 3), units="um"
    )
    return model


def mask_of(crop, row, col, shape=(20, 30)):
    crop = np.asarray(crop, bool)
    bbox = (row, col, row + crop.shape[0], col + crop.shape[1])
    return Mask(shape, bbox, crop, 0.9, (0, 0, *shape))


def test_new_labels_lie_on_the_image_pixel_for_pixel(viewer):
    image = viewer.layers[0]
    labels = new_labels_layer(viewer, image)
    assert (labels.data.shape, labels.data.dtype) == ((5, 20, 30), np.uint16)
    assert labels.units == image.units
    np.testing.assert_allclose(labels.data_to_world((3, 7, 9)), image.data_to_world((3, 7, 9)))


def test_labels_of_rgb_and_of_channels_have_no_channels():
    viewer = ViewerModel()
    rgb = viewer.add_image(np.zeros((40, 50, 3), np.uint8), rgb=True)
    assert new_labels_layer(viewer, rgb).data.shape == (40, 50)
    channels = viewer.add_image(np.zeros((3, 40, 50), np.uint8))
    assert new_labels_layer(viewer, channels, channel_axis=0).data.shape == (40, 50)


def test_labels_of_a_pyramid_are_level_0_and_read_nothing():
    viewer = ViewerModel()
    # napari itself reads the smallest level, for the thumbnail.
    levels = [Lazy((3000, 4000)), np.zeros((300, 400), np.uint16)]
    image = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 250))
    levels[0].largest_read = 0
    labels = new_labels_layer(viewer, image)
    assert labels.data.shape == (3000, 4000)
    assert not labels.multiscale
    assert levels[0].largest_read == 0


def test_large_labels_take_no_memory_and_windows_of_them_are_written(monkeypatch):
    viewer = ViewerModel()
    image = viewer.add_image(np.broadcast_to(np.uint8(0), (20_000, 20_000)), contrast_limits=(0, 1))
    tracemalloc.start()
    try:
        labels = new_labels_layer(viewer, image)
        plane = labels_plane(labels, plane_of(image), image)
        plane[19_000:19_100, 500:700] = np.full((100, 200), 7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert isinstance(labels.data, np.memmap)
    assert int(np.asarray(labels.data[18_990:19_110, 400:800]).sum()) == 7 * 100 * 200


def test_a_full_disk_is_told_before_anything_is_lost(viewer, monkeypatch):
    monkeypatch.setattr(label_arrays, "IN_MEMORY", 100)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("U", (), {"free": 10})())
    with pytest.raises(ValueError, match="Make room, or set TMPDIR"):
        new_labels_layer(viewer, viewer.layers[0])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["numpy", "zarr", "memmap"])
def test_a_window_is_written_where_it_is_seen(viewer, order, kind, monkeypatch):
    if kind == "memmap":
        monkeypatch.setattr(label_arrays, "IN_MEMORY", 100)
    image = viewer.layers[0]
    if kind == "zarr":
        transform = {"scale": image.scale, "translate": image.translate}
        layer = viewer.add_labels(
            zarr.zeros((5, 20, 30), chunks=(2, 8, 8), dtype="uint16"), **transform
        )
    else:
        layer = new_labels_layer(viewer, image)
    viewer.dims.order = order
    viewer.dims.point = (9, 12, 15)  # data 2, 5, 4
    plane = plane_of(image, viewer.dims)
    view = labels_plane(layer, plane, image)
    block = np.arange(1, 7).reshape(2, 3)
    view[1:3, 2:5] = block
    expected = np.zeros((5, 20, 30), int)
    seen = np.moveaxis(expected, order, (0, 1, 2))[(2, 5, 4)[order[0]]]
    seen[1:3, 2:5] = block
    np.testing.assert_array_equal(np.asarray(layer.data), expected)
    np.testing.assert_array_equal(view[1:3, 2:5], block)
    assert view.shape == seen.shape
    layer.refresh()
    np.testing.assert_array_equal(layer._slice.image.raw, seen)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("is_shared", [False, True])
def test_an_edit_of_labels_on_disk_that_fails_leaves_nothing(
    viewer, order, is_shared, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(tmp_path))
    data = zarr.create_array(tmp_path / "a.zarr", shape=(5, 20, 30), chunks=(2, 8, 8), dtype="u2")
    before = np.random.default_rng(0).integers(0, 9, (5, 20, 30), dtype=np.uint16)
    data[:] = before
    axes = order[1], order[2]
    index = [None, None, None]
    index[order[0]] = None if is_shared else 3
    view = LabelsPlane(SimpleNamespace(data=data), axes, tuple(index))

    def write(last):
        with view.edit():
            view[1:4, 2:5] = np.arange(9).reshape(3, 3)
            view[0:3, 0:3] = np.full((3, 3), 70)
            view[0:3, 0:3] = last

    with pytest.raises(ValueError, match="shape"):
        write(np.full((2, 2), 71))
    np.testing.assert_array_equal(data[:], before)
    with view.edit():
        view[1:4, 2:5] = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(view[1:4, 2:5], np.arange(9).reshape(3, 3))


def test_one_value_can_be_written_to_a_window(viewer):
    layer = new_labels_layer(viewer, viewer.layers[0])
    view = labels_plane(layer, plane_of(viewer.layers[0], viewer.dims))
    view[2:4, 3:6] = 5
    assert int(layer.data.sum()) == 30


def test_inner_channels_share_their_labels():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 3, 20, 30)))
    layer = new_labels_layer(viewer, image, channel_axis=1)
    plane = plane_of(image, viewer.dims, channel_axis=1)
    view = labels_plane(layer, plane, image)
    view[2:4, 3:6] = np.full((2, 3), 9)
    assert layer.data.shape == (4, 3, 20, 30)
    assert [int(layer.data[plane.index[0], c].sum()) for c in range(3)] == [54] * 3
    assert view[2:4, 3:6].tolist() == [[9] * 3] * 2


def test_leading_channels_have_one_plane_of_labels():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 20, 30)), scale=(2, 5, 5))
    layer = new_labels_layer(viewer, image, channel_axis=0)
    viewer.dims.set_point(0, 4)
    view = labels_plane(layer, plane_of(image, viewer.dims, channel_axis=0), image)
    view[2:4, 3:6] = 9
    assert int(layer.data.sum()) == 54


def test_what_was_read_cannot_be_changed(viewer):
    view = labels_plane(
        new_labels_layer(viewer, viewer.layers[0]), plane_of(viewer.layers[0], viewer.dims)
    )
    with pytest.raises(ValueError, match="read-only"):
        view[0:2, 0:2][0, 0] = 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Labels(np.zeros((20, 30), np.uint8)), "has shape"),
        (lambda: Labels(np.zeros((5, 20, 31), np.uint8)), "has shape"),
        (lambda: Labels(np.zeros((5, 20, 30), np.uint8)), "lies elsewhere"),
        (lambda: Labels(da.zeros((5, 20, 30), dtype=np.uint8)), "dask"),
        (
            lambda: Labels(
                [np.zeros((5, 20, 30), np.uint8), np.zeros((5, 10, 15), np.uint8)], multiscale=True
            ),
            "pyramid",
        ),
        (lambda: Labels(np.broadcast_to(np.uint8(0), (5, 20, 30))), "read-only"),
    ],
    ids=["axes", "size", "place", "dask", "pyramid", "read_only"],
)
def test_labels_that_do_not_fit_are_an_error_that_says_so(viewer, make, reason):
    image = viewer.layers[0]
    with pytest.raises(ValueError, match=reason):
        labels_plane(make(), plane_of(image, viewer.dims), image)


def test_numbers_that_need_more_bits_get_them(viewer):
    layer = new_labels_layer(viewer, viewer.layers[0])
    view = labels_plane(layer, plane_of(viewer.layers[0], viewer.dims))
    view[0:2, 0:2] = 65_535
    assert view.dtype == np.uint16
    view[4:6, 0:2] = 65_536
    assert layer.data.dtype == view.dtype == np.uint32
    assert view[0:6:5, 0:1].tolist() == [[65_535], [65_536]]


@pytest.mark.parametrize(
    ("dtype", "wider"), [(np.int8, np.int32), (np.int16, np.int32), (np.int32, np.int64)]
)
def test_signed_labels_that_are_full_stay_signed(viewer, dtype, wider):
    image, full = viewer.layers[0], int(np.iinfo(dtype).max)
    data = np.full((5, 20, 30), full, dtype)
    # For some tools, -1 is "not labelled".
    data[0, 10, 10] = -1
    layer = viewer.add_labels(data)
    view = labels_plane(layer, plane_of(image, viewer.dims))
    view[0:1, 0:1] = full + 1
    assert layer.data.dtype == wider
    assert np.unique(layer.data).tolist() == [-1, full, full + 1]


@pytest.mark.parametrize("kind", ["zarr", "memmap"])
def test_labels_on_disk_that_are_full_are_not_replaced_by_some_that_end_with_napari(
    viewer, kind, tmp_path
):
    if kind == "zarr":
        data = zarr.create_array(tmp_path / "a.zarr", shape=(5, 20, 30), dtype="uint8")
    else:
        data = np.memmap(tmp_path / "a.raw", "uint8", "w+", shape=(5, 20, 30))
    layer = viewer.add_labels(data, name="mine")
    view = labels_plane(layer, plane_of(viewer.layers[0], viewer.dims))
    view[0:1, 0:1] = 255
    with pytest.raises(ValueError, match=r"'mine' is on disk as uint8.* 256 .*uint32"):
        view[4:6, 0:2] = 256
    assert layer.data is data
    assert view[0:6:5, 0:1].tolist() == [[255], [0]]


def test_labels_are_promoted_without_loss_and_only_where_that_is_necessary(viewer):
    layer = new_labels_layer(viewer, viewer.layers[0])
    layer.data[...] = np.arange(3000).reshape(5, 20, 30)
    before = layer.data.copy()
    promote_labels(layer, 65_535)
    assert layer.data.dtype == np.uint16
    promote_labels(layer, 65_536)
    assert layer.data.dtype == np.uint32
    np.testing.assert_array_equal(layer.data, before)


def test_a_displayed_window_is_sent_alone(viewer):
    image = viewer.layers[0]
    layer = new_labels_layer(viewer, image)
    plane = plane_of(image, viewer.dims)
    view = labels_plane(layer, plane, image)
    sent, all_drawn = [], []
    layer.events.labels_update.connect(lambda e: sent.append((e.data.tolist(), list(e.offset))))
    layer.events.set_data.connect(lambda e: all_drawn.append(1))
    view[2:4, 3:5] = [[1, 2], [3, 4]]
    assert plane_is_displayed(plane, image, viewer.dims)
    refresh_labels_windows(view, [(2, 3, 4, 5)], is_displayed=True)
    assert (sent, all_drawn) == ([([[1, 2], [3, 4]], [2, 3])], [])
    refresh_labels_windows(view, [(2, 3, 4, 5)])
    layer.contour = 1
    all_drawn.clear()
    refresh_labels_windows(view, [(2, 3, 4, 5)], is_displayed=True)
    assert (len(sent), len(all_drawn)) == (1, 1)
    viewer.dims.set_point(0, 1)
    assert not plane_is_displayed(plane, image, viewer.dims)


# -- preview ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_preview_is_the_mask_at_its_place(viewer, order):
    image = viewer.layers[0]
    viewer.dims.order = order
    viewer.dims.point = (9, 12, 15)
    plane = plane_of(image, viewer.dims)
    layer = new_preview_layer(viewer, image, plane)
    crop = np.array([[1, 1, 0], [0, 1, 1]], bool)
    show_preview(layer, image, plane, mask_of(crop, 1, 2, plane.size))
    assert layer.data.sum() == crop.sum()
    for (row, col), value in np.ndenumerate(crop):
        place = [2, 5, 4]
        place[plane.axes[0]], place[plane.axes[1]] = 1 + row, 2 + col
        assert layer.get_value(image.data_to_world(place), world=True) == value
    assert layer._slice.image.raw.sum() == crop.sum()
    viewer.dims.point = (1, 2, 3)
    assert layer._slice.empty


@pytest.mark.parametrize(
    ("colormap", "color"),
    [
        ("gray", "yellow"),
        ("gray_r", "yellow"),
        ("blue", "yellow"),
        ("green", "magenta"),
        ("yellow", "magenta"),
        ("red", "cyan"),
        ("magenta", "yellow"),
        ("viridis", "magenta"),
        ("inferno", "cyan"),
    ],
)
def test_a_preview_has_another_colour_than_the_image(colormap, color):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((20, 30)), colormap=colormap)
    layer = new_preview_layer(viewer, image, plane_of(image, viewer.dims))
    assert color_unlike(image) == color
    wanted = [int(PREVIEW_COLORS[color][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    np.testing.assert_allclose(layer.get_color(1)[:3], wanted, atol=1e-3)
    assert layer.get_color(0) is None or not layer.get_color(0)[3]


def test_a_preview_follows_a_rotated_image():
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((20, 30)),
        rotate=30,
        scale=(2, 5),
        shear=[0.2],
        affine=[[0, 2, 1], [1, 0, 5], [0, 0, 1]],
    )
    before = np.asarray(image.affine), image.translate.copy()
    plane = plane_of(image, viewer.dims)
    layer = new_preview_layer(viewer, image, plane)
    for corner in ((4, 6), (11, 3)):
        show_preview(layer, image, plane, mask_of(np.ones((2, 3)), *corner))
        rows, cols = np.nonzero(layer.data)
        for place, expected in (
            ((rows.min(), cols.min()), corner),
            ((rows.max(), cols.max()), np.add(corner, (1, 2))),
        ):
            np.testing.assert_allclose(layer.data_to_world(place), image.data_to_world(expected))
    np.testing.assert_array_equal(before[0], np.asarray(image.affine))
    np.testing.assert_array_equal(before[1], image.translate)


def test_a_preview_in_a_huge_image_costs_what_the_object_costs():
    viewer = ViewerModel()
    image = viewer.add_image(np.broadcast_to(np.uint8(0), (50_000, 50_000)), multiscale=False)
    plane = plane_of(image, viewer.dims)
    layer = new_preview_layer(viewer, image, plane)
    for corner in ((40_000, 30), (100, 100)):
        show_preview(layer, image, plane, mask_of(np.ones((200, 300)), *corner))
        assert layer.data.sum() == 60_000
        assert layer.data.size < 10 * 60_000


def test_no_mask_is_shown_as_nothing(viewer):
    image = viewer.layers[0]
    plane = plane_of(image, viewer.dims)
    layer = new_preview_layer(viewer, image, plane)
    show_preview(layer, image, plane, mask_of(np.ones((2, 3)), 4, 4))
    for nothing in (None, mask_of(np.zeros((0, 0)), 4, 4)):
        show_preview(layer, image, plane, nothing)
        assert not np.asarray(layer.data).any()
    assert not layer.editable


def test_a_preview_of_channels_is_seen_on_all_of_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 3, 20, 30)))
    plane = plane_of(image, viewer.dims, channel_axis=1)
    layer = new_preview_layer(viewer, image, plane)
    show_preview(layer, image, plane, mask_of(np.ones((2, 3)), 4, 4))
    assert layer.data.shape[:2] == (1, 3)
    np.testing.assert_array_equal(layer.data.sum(axis=(0, 2, 3)), [6, 6, 6])
