"""Objects in a Labels layer that others paint on as well: the dock's calls, without its window."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
import zarr
from napari.components import ViewerModel
from napari.layers._source import layer_source
from napari.layers.labels._labels_key_bindings import new_label

from fake_dock import ImagePredictor, draw_box
from fake_session import ByHand, at_once
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.disk_labels import finishing_job
from napari_pisam.images.ngff_labels import open_labels
from napari_pisam.images.zarr_files import attributes_of
from napari_pisam.layers import label_arrays
from napari_pisam.layers import labels as layer_labels
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session import numbers
from napari_pisam.session.rollback import RollbackJournal

SHAPE = (60, 80)
BOXES = [(2.0, 2.0, 12.0, 12.0), (20.0, 2.0, 30.0, 12.0), (40.0, 2.0, 50.0, 12.0)]


def dock_on(viewer, labels=None, execute=at_once):
    """The dock's commands on the topmost image and a Labels layer; by default its own."""
    controller = SegmentController(viewer, execute)
    controller.told = []
    controller.workspace.failed.connect(controller.told.append)
    controller.workspace.hinted.connect(controller.told.append)
    controller.workspace.choice.choose_first_image()
    if labels is not None:
        controller.workspace.choice.choose("labels", labels)
    controller.start()
    controller.set_model(ImagePredictor())
    return controller


@pytest.fixture
def viewer():
    model = ViewerModel()
    model.add_image(np.zeros(SHAPE))
    return model


def box(controller, number):
    draw_box(controller.workspace.choice["boxes"], BOXES[number])


def ids(controller):
    return [one.id for one in controller.session.objects]


def test_cells_that_are_there_keep_their_pixels_in_whatever_order_layers_are_chosen(viewer):
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    labels.data[55:, :3] = [1, 2, 3]
    controller = SegmentController(viewer, at_once)
    controller.start()
    controller.set_model(ImagePredictor())
    box(controller, 0)
    controller.workspace.choice.choose("labels", labels)
    controller.commit()
    assert ids(controller) == [4]
    assert [(labels.data == n).sum() for n in (1, 2, 3)] == [5, 5, 5]


def test_napari_s_new_label_between_two_commits_is_no_objects(viewer):
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    controller = dock_on(viewer, labels)
    box(controller, 0)
    controller.commit()
    # Begun before: its number is reserved, and napari does not know that.
    box(controller, 1)
    new_label(labels)
    by_hand = labels.selected_label
    controller.commit()
    labels.paint((58, 70), by_hand)
    box(controller, 2)
    controller.commit()
    assert by_hand == 2
    assert by_hand not in ids(controller)
    assert len(set(ids(controller))) == 3
    assert (labels.data[45:, 60:] == by_hand).sum() == (labels.data == by_hand).sum() > 0


def test_a_number_in_another_slice_is_not_given_again():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, *SHAPE)))
    labels = viewer.add_labels(np.zeros((3, *SHAPE), np.uint16))
    labels.data[2, 0, 0] = 8
    viewer.dims.set_point(0, 0)
    controller = dock_on(viewer, labels)
    shapes = controller.workspace.choice["boxes"]
    r0, c0, r1, c1 = BOXES[0]
    shapes.add([[[0, r0, c0], [0, r0, c1], [0, r1, c1], [0, r1, c0]]], shape_type="rectangle")
    labels.data[1, 5, 5] = 9
    controller.commit()
    assert ids(controller) == [10]


def test_a_commit_waits_until_large_labels_have_been_looked_through(viewer, monkeypatch):
    monkeypatch.setattr(numbers, "AT_ONCE", 100)
    data = zarr.zeros(SHAPE, chunks=(16, 16), dtype=np.uint16)
    data[59, 79] = 1
    labels = viewer.add_labels(data)
    execute = ByHand()
    controller = dock_on(viewer, labels, execute)
    *_, search = [job for job in execute.jobs if "numbers_in" in job[0].__code__.co_names]
    execute.jobs.remove(search)
    execute.run()
    box(controller, 0)
    execute.run()
    controller.commit()
    assert not controller.session.objects[0].committed
    assert any("being looked through" in text for text in controller.told)
    execute.jobs.append(search)
    execute.run()
    (one,) = controller.session.objects
    assert (one.id, one.committed) == (2, True)
    assert (data[:] == 1).sum() == 1
    # Looked through once; what is painted since is heard of.
    labels.data_setitem((np.array([58]), np.array([78])), 3)
    box(controller, 1)
    execute.run()
    controller.commit()
    execute.run()
    assert ids(controller) == [2, 4]


def test_a_cell_that_a_script_wrote_into_large_labels_does_not_melt_with_an_object(
    viewer, monkeypatch
):
    monkeypatch.setattr(numbers, "AT_ONCE", 100)
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    controller = dock_on(viewer, labels)
    box(controller, 0)
    controller.commit()
    labels.data[22:26, 4:8] = 2
    labels.refresh()
    box(controller, 1)
    controller.commit()
    assert ids(controller) == [1, 3]
    assert (labels.data == 2).sum() == 16
    # Picked up and committed again, an object keeps its number.
    controller.pick(3)
    controller.workspace.choice["clicks"].add([33, 20])
    controller.commit()
    assert ids(controller) == [1, 3]


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """Docks on an image in a file whose labels are too large for the memory."""
    monkeypatch.setattr(label_arrays, "IN_MEMORY", 100)
    monkeypatch.setattr(layer_labels, "_PLANE", 100)
    (tmp_path / "slide.ome.tif").touch()

    def open_dock():
        viewer = ViewerModel()
        with layer_source(path=str(tmp_path / "slide.ome.tif")):
            viewer.add_image(np.zeros(SHAPE), name="slide")
        return dock_on(viewer)

    return open_dock


def test_labels_too_large_for_the_memory_are_beside_the_image_and_come_back(on_disk, tmp_path):
    controller = on_disk()
    path = tmp_path / "slide-labels.ome.zarr"
    assert not path.exists()  # nothing is made because somebody looks
    box(controller, 0)
    controller.commit()
    assert any(str(path) in text for text in controller.told)
    written = open_labels(path)[:]
    assert set(np.unique(written)) == {0, 1}
    controller.close()
    controller = on_disk()
    labels = controller.workspace.choice["labels"]
    np.testing.assert_array_equal(labels.data, written)
    box(controller, 1)
    controller.commit()
    assert ids(controller) == [2]
    controller.undo()
    np.testing.assert_array_equal(open_labels(path)[:], written)
    finishing_job(labels, {})()
    assert "datasets" in attributes_of(path).at("multiscales").items()[0].value


def test_labels_that_cannot_be_beside_the_image_are_in_a_chosen_folder_or_in_a_file_that_goes(
    on_disk, tmp_path
):
    controller = on_disk()
    (tmp_path / "slide-labels.ome.zarr").mkdir()
    box(controller, 0)
    controller.commit()
    assert any("temporary file" in text for text in controller.told)
    assert ids(controller) == [1]
    (tmp_path / "mine").mkdir()
    controller = on_disk()
    controller.workspace.on_disk.choose_folder(str(tmp_path / "mine"))
    box(controller, 0)
    controller.commit()
    assert open_labels(tmp_path / "mine" / "slide-labels.ome.zarr")[5, 5] == 1


def test_half_an_object_that_a_kill_left_on_disk_is_taken_back_and_told(
    viewer, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(tmp_path / "autosaves"))
    data = zarr.create_array(tmp_path / "labels.zarr", shape=SHAPE, chunks=(8, 8), dtype="uint16")
    controller = dock_on(viewer, viewer.add_labels(data))
    box(controller, 0)
    controller.commit()
    whole = data[:]
    # As a process that is killed in the midst of the second one.
    journal = RollbackJournal(data)
    journal.note((slice(20, 40), slice(0, 20)), np.full((20, 20), 2))
    data[20:32, :20] = 2
    journal.close(is_whole=False)
    controller.close()
    again = ViewerModel()
    again.add_image(np.zeros(SHAPE))
    controller = dock_on(again, again.add_labels(zarr.open_array(tmp_path / "labels.zarr")))
    np.testing.assert_array_equal(data[:], whole)
    assert any("taken back" in text for text in controller.told)
    box(controller, 1)
    controller.commit()
    assert ids(controller) == [2]
    assert not list((tmp_path / "autosaves" / "unfinished").iterdir())


def test_int16_labels_that_are_full_become_wider_by_themselves(viewer):
    labels = viewer.add_labels(np.zeros(SHAPE, np.int16))
    labels.data[55:, :2] = [32_766, 32_767]
    controller = dock_on(viewer, labels)
    box(controller, 0)
    controller.commit()
    assert labels.data.dtype == np.int32
    assert controller.told == []
    assert (labels.data == 32_768).any()


def test_what_was_erased_with_the_brush_stays_erased_when_the_object_is_corrected(viewer):
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    controller = dock_on(viewer, labels)
    box(controller, 0)
    controller.commit()
    labels.brush_size = 5
    labels.paint((4, 4), 0)
    erased = labels.data.copy()
    for _ in range(2):
        controller.pick(1)
        assert not labels.data.any()
        controller.commit()
        np.testing.assert_array_equal(labels.data, erased)


# -- layers that the dock did not make -----------------------------------------------------------


def foreign(viewer):
    """Somebody's annotations: (shapes, points)."""
    shapes = viewer.add_shapes(
        [np.reshape(one, (2, 2)) for one in BOXES[:2]],
        shape_type="rectangle",
        features={"note": [5, 6]},
        edge_color="red",
        name="rois",
    )
    points = viewer.add_points(
        [[5.0, 5.0], [25.0, 5.0], [26.0, 6.0]],
        features={"label": ["positive", "positive", "negative"]},
        face_color="yellow",
        symbol="star",
        name="seeds",
    )
    return shapes, points


def everything(layer):
    state = dict(layer._get_state())
    return {key: str(value) for key, value in state.items()}


def test_layers_that_others_made_are_read_and_stay_as_they_are(viewer):
    shapes, points = foreign(viewer)
    controller = dock_on(viewer)
    work = controller.workspace
    before = everything(shapes), everything(points)
    work.choice.choose("boxes", shapes)
    work.choice.choose("clicks", points)
    controller.set_foreground(False)
    controller.toggle_foreground()
    controller.draw_box()
    controller.segment_all()
    assert ids(controller) == [1, 2]
    assert all(one.committed for one in controller.session.objects)
    controller.pick(1)
    controller.discard()
    controller.undo()
    assert (everything(shapes), everything(points)) == before
    assert any("stays as it is" in text for text in controller.told)


def test_a_box_of_a_layer_that_is_only_read_is_predicted_and_corrected_by_clicks(viewer):
    shapes, _points = foreign(viewer)
    controller = dock_on(viewer)
    work = controller.workspace
    before = everything(shapes)
    work.choice.choose("boxes", shapes)
    controller.set_live(False)
    controller.predict()
    assert controller.session.current.prompts.box == BOXES[1]
    work.choice["clicks"].add([40, 40])
    controller.predict()
    prompts = controller.session.current.prompts
    assert (prompts.box, prompts.points.tolist()) == (BOXES[1], [[40, 40]])
    assert everything(shapes) == before


@pytest.mark.parametrize("role", ["boxes", "clicks"])
def test_an_object_of_a_layer_that_is_only_read_stays_one_when_its_slice_comes_back(role):
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, *SHAPE)))
    viewer.dims.set_point(0, 0)
    labels = viewer.add_labels(np.zeros((3, *SHAPE), np.uint16))
    labels.data[2, 55, 70] = 7
    if role == "boxes":
        corners = [[0, 2, 2], [0, 2, 12], [0, 12, 12], [0, 12, 2]]
        layer = viewer.add_shapes([corners], shape_type="rectangle", features={"object": [7]})
    else:
        layer = viewer.add_points([[0, 5, 5], [0, 6, 7]], features={"object": [7, 7]})
    controller = dock_on(viewer, labels)
    controller.workspace.choice.choose(role, layer)
    controller.commit()
    # 7 is in another slice.
    assert ids(controller) == [8]
    viewer.dims.set_point(0, 1)
    viewer.dims.set_point(0, 0)
    assert ids(controller) == [8]
    assert controller.session.objects[0].committed


def test_what_is_moved_in_somebodys_layer_is_its_object_under_whatever_number(viewer):
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    labels.data[55, 70] = 7
    corners = np.array([[2, 2], [2, 12], [12, 12], [12, 2]])
    shapes = viewer.add_shapes([corners], shape_type="rectangle", features={"object": [7]})
    controller = dock_on(viewer, labels)
    work = controller.workspace
    work.choice.choose("boxes", shapes)
    work.choice["clicks"].add([20, 20])
    controller.commit()
    assert ids(controller) == [8]
    shapes.data = [corners + np.array([0, 30])]
    assert ids(controller) == [8]
    prompts = controller.session.current.prompts
    assert (prompts.box, prompts.points.tolist()) == ((2, 32, 12, 42), [[20, 20]])
    controller.commit()
    # Again, now that it has been moved once.
    shapes.data = [corners + 30]
    controller.commit()
    assert ids(controller) == [8]
    assert np.unique(labels.data).tolist() == [0, 7, 8]
    assert labels.data[35, 35] == 8
    assert labels.data[7, 35] == labels.data[7, 7] == 0


def test_a_copy_of_somebodys_layers_is_drawn_on(viewer):
    shapes, points = foreign(viewer)
    controller = dock_on(viewer)
    work = controller.workspace
    for role, layer in (("boxes", shapes), ("clicks", points)):
        work.choice.choose(role, layer)
        before = everything(layer)
        work.copy_layer(role)
        copy = work.choice[role]
        assert copy is not layer
        assert copy.name == f"{layer.name} copy"
        np.testing.assert_array_equal(np.array(copy.data), np.array(layer.data))
        assert everything(layer) == before
    assert list(work.choice["boxes"].features["note"]) == [5, 6]
    assert list(work.choice["clicks"].features["label"]) == ["FG", "FG", "BG"]
    assert work.viewer.layers.selection.active is work.choice["clicks"]
    assert str(work.choice["clicks"].mode) == "add"


# -- which image is seen -------------------------------------------------------------------------


def test_a_hidden_image_that_is_segmented_is_told_once_until_it_is_shown(viewer):
    controller = dock_on(viewer)
    viewer.layers[0].visible = False
    for number in (0, 1):
        box(controller, number)
    assert len([text for text in controller.told if "is hidden" in text]) == 1
    assert "though hidden" in controller.workspace.planes.seen
    viewer.layers[0].visible = True
    assert "hidden" not in controller.workspace.planes.seen


def test_values_changed_in_place_are_seen_by_the_next_prediction(viewer):
    controller = dock_on(viewer)
    image = viewer.layers["Image"]
    image.contrast_limits = (0, 1)
    box(controller, 0)
    predictor = controller.workspace.planes._predictor
    read = len(predictor.images)
    image.data[:] = 1
    image.refresh()
    box(controller, 1)
    assert len(predictor.images) > read


def test_the_dock_says_which_channel_and_contrast_the_network_sees():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, *SHAPE)), contrast_limits=(0, 200), axis_labels=("c", "y", "x"))
    viewer.dims.set_point(0, 1)
    controller = dock_on(viewer)
    seen = controller.workspace.planes.seen
    assert seen == "Seen: grey; c 1 (0 to 2); contrast 0 to 200"
    viewer.layers.clear()
    assert controller.workspace.planes.seen == ""
    viewer.add_image(np.zeros((*SHAPE, 3)), rgb=True)
    assert "red, green and blue" in controller.workspace.planes.seen


def test_a_thicker_slice_is_the_picture_of_the_next_prediction():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((5, *SHAPE)), projection_mode="max")
    viewer.dims.set_point(0, 2)
    controller = dock_on(viewer)
    session, predictor = controller.session, controller.workspace.planes._predictor
    assert session.new_object(Prompts(BOXES[0])) == 1
    read = len(predictor.images)
    image.data[3, 5, 5] = 7
    viewer.dims.margin_right = (1, 0, 0)
    assert controller.session is session
    assert "the max of axis 0 from 2 to 3" in controller.workspace.planes.seen
    controller.predict()
    assert len(predictor.images) == read + 1
    assert predictor.images[-1].read((slice(5, 6), slice(5, 6))).max() > 0
