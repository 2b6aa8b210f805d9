"""A Labels layer's plane in an OME-Zarr on disk: committed by windows, and opened again."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from fake_session import fake_session
from napari_pisam.images.ngff_labels import new_labels, open_labels
from napari_pisam.layers import labels as labels_module
from napari_pisam.layers.label_arrays import MirroredLabels, wider_labels
from napari_pisam.layers.labels import LabelsPlane, labels_layer_on_disk, labels_plane
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.merge import CommitRule

SIDE = 50_000
CHUNK = 512


class Squares:
    """A network whose mask is the box."""

    def predict(self, prompts):
        row0, col0, row1, col1 = (round(value + 0.5) for value in prompts.box)
        crop = np.ones((row1 - row0, col1 - col0), bool)
        return Mask.of_crop(crop, (row0, col0), (SIDE, SIDE), 1.0)


def test_a_commit_takes_a_moment_and_writes_the_chunks_it_touches(tmp_path):
    path = tmp_path / "labels.zarr"
    layer = SimpleNamespace(data=new_labels(path, (SIDE, SIDE)), name="labels")
    plane = LabelsPlane(layer, (0, 1), (None, None))
    session = fake_session(labels=plane, shape=(SIDE, SIDE), rule=CommitRule.KEEP)
    session.set_predictor(Squares())
    seconds = []
    for place in (20_000, 30_000):
        number = session.new_object(Prompts((place - 0.5, 99.5, place + 999.5, 1099.5)))
        began = time.process_time()
        assert session.commit(number)
        seconds.append(time.process_time() - began)
    files = {
        (int(one.parent.name), int(one.name))
        for one in (path / "0" / "c").rglob("*")
        if one.is_file()
    }
    rows = {r // CHUNK for place in (20_000, 30_000) for r in (place, place + 999)}
    rows |= {r for low, high in ((39, 41), (58, 60)) for r in range(low, high + 1)}
    assert files == {(row, col) for row in rows for col in range(3)}
    assert min(seconds) <= 0.3
    session.undo()
    again = open_labels(path)
    assert again[20_500, 600] == 1
    assert again[30_500, 600] == 0


def test_a_layer_on_disk_is_painted_written_and_opened_again(tmp_path):
    pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    from napari_pisam.layers.geometry import plane_of

    path = tmp_path / "labels.zarr"
    for turn in range(2):
        viewer = ViewerModel()
        image = viewer.add_image(np.zeros((5, 20, 30), np.uint8), scale=(4, 2, 3), units="um")
        layer = labels_layer_on_disk(viewer, image, path)
        np.testing.assert_allclose(layer.data_to_world((3, 7, 9)), image.data_to_world((3, 7, 9)))
        if turn == 0:
            viewer.dims.set_point(0, 8)
            layer.selected_label = 3
            layer.paint((2, 5, 5), 3)
            plane = labels_plane(layer, plane_of(image, viewer.dims), image)
            plane[10:12, 20:30] = np.full((2, 10), 4)
    assert layer.data[2, 5, 5] == 3
    assert (layer.data[2, 10:12, 20:30] == 4).all()
    other = viewer.add_image(np.zeros((5, 20, 31), np.uint8))
    with pytest.raises(ValueError, match="as the image"):
        labels_layer_on_disk(viewer, other, path)


def test_labels_that_are_mirrored_are_on_disk_whoever_writes_them(tmp_path):
    array = new_labels(tmp_path / "labels.zarr", (1100, 700), np.uint32)
    labels = MirroredLabels.of(array)
    assert (labels.dtype, type(labels[:9])) == (np.uint16, np.ndarray)
    labels[600:610, -20:] = 4
    labels[600, 5], labels[-1] = 7, 9
    rows, cols = np.nonzero(np.eye(40, dtype=bool))
    labels[rows + 500, cols + 490] = np.arange(40)
    labels[labels == 9] = 3
    np.testing.assert_array_equal(array[:], labels)
    # Numbers above 16 bits come only now, and after it was opened again.
    wide = wider_labels(labels, np.dtype(np.uint32))
    wide[0, 0] = 70_000
    again = MirroredLabels.of(open_labels(tmp_path / "labels.zarr"))
    assert again.dtype == np.uint32
    np.testing.assert_array_equal(again, wide)


def test_what_a_hand_paints_on_a_large_plane_is_on_disk_and_undone_there(tmp_path, monkeypatch):
    pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    monkeypatch.setattr(labels_module, "_PLANE", 100)
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((20, 30), np.uint8))
    layer = labels_layer_on_disk(viewer, image, tmp_path / "labels.zarr")
    layer.selected_label = 3
    layer.paint((5, 5), 3)
    layer.fill((15, 15), 2)
    layer.data_setitem((np.array([1]), np.array([2])), 5)
    on_disk = open_labels(tmp_path / "labels.zarr")
    assert [on_disk[place] for place in ((5, 5), (15, 15), (1, 2))] == [3, 2, 5]
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(on_disk[:], layer.data)
    assert set(np.unique(on_disk)) == {0, 3}
