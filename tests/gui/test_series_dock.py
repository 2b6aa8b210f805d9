"""A series of images with napari's layers and no window: one after the other, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from fake_dock import ImagePredictor, click, draw_box, expected
from fake_session import ByHand, at_once
from napari_pisam.docks.segment.autosaver import Autosaver
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.series import SeriesWork
from napari_pisam.session.series import Series, State
from napari_pisam.session.session import ModelRef
from napari_pisam.session.storage import load_session

SHAPE = (40, 50)
BOX = (5.0, 6.0, 20.0, 24.0)
OTHER = (22.0, 30.0, 34.0, 44.0)


def pixels(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 60_000, shape).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        tifffile.imwrite(tmp_path / f"cell{number}.tif", pixels(number))
    return tmp_path


class Dock:
    """A controller with a series that saves when told to."""

    def __init__(self, folder, run=at_once, viewer=None):
        self.viewer, self.run = viewer or ViewerModel(), run
        self.controller = SegmentController(self.viewer, at_once)
        self.work = self.controller.workspace
        self.failures, self.hints = [], []
        self.work.failed.connect(self.failures.append)
        self.work.hinted.connect(self.hints.append)
        self.saver = Autosaver(self.work.planes, run, lambda: None)
        self.saver.failed.connect(self.failures.append)
        self.series = SeriesWork(self.controller, run, self.saver)
        self.controller.start()
        self.controller.set_model(ImagePredictor(), ModelRef("fake"))
        if folder is not None:
            self.series.open([folder])
            self.finish()

    def finish(self):
        if isinstance(self.run, ByHand):
            self.run.run()

    def close(self):
        self.series.close(viewer_stays=True)
        self.saver.close()
        self.controller.close(viewer_stays=True)

    def __getattr__(self, role):
        return self.work.choice[role]

    @property
    def at(self):
        return self.series.series.at

    @property
    def session(self):
        return self.controller.session

    def segment(self, box=BOX):
        draw_box(self.boxes, box)
        self.controller.commit()

    def state(self, place):
        return self.series.series.state(place)


def file(folder, number):
    return tifffile.imread(folder / "labels" / f"cell{number}.tif")


def test_images_are_shown_one_after_the_other_in_one_layer(folder):
    dock = Dock(folder)
    image = dock.image
    layers = list(dock.viewer.layers)
    for number in (0, 1, 2, 3):
        assert dock.image is image
        np.testing.assert_array_equal(image.data, pixels(number))
        assert image.name == f"cell{number}"
        assert dock.labels.name == f"cell{number} labels"
        dock.series.move(1)
    assert dock.at == 3
    assert "There is no image beyond this one" in dock.hints[-1]
    assert list(dock.viewer.layers) == layers
    assert not dock.failures


def test_what_was_done_is_saved_and_taken_up_again(folder):
    dock = Dock(folder)
    dock.segment()
    draw_box(dock.boxes, OTHER)
    click(dock.clicks, 25, 35)
    dock.series.move(1)
    assert not dock.session.objects
    assert not len(dock.boxes.data)
    assert not len(dock.clicks.data)
    assert not dock.labels.data.any()
    np.testing.assert_array_equal(file(folder, 0), expected(SHAPE, BOX))
    assert [dock.state(place) for place in range(2)] == ["begun", "untouched"]
    dock.series.move(-1)
    committed, opened = dock.session.objects
    assert committed.committed
    assert not opened.committed
    assert opened.prompts.box == pytest.approx(OTHER)
    assert opened.prompts.points.tolist() == [[25, 35]]
    assert len(dock.boxes.data) == len(dock.clicks.data) == 1
    np.testing.assert_array_equal(dock.labels.data, expected(SHAPE, BOX))
    dock.controller.undo()
    assert len(dock.session.objects) == 2  # what was done before cannot be undone by mistake
    dock.controller.commit()
    assert dock.labels.data.max() == 2
    dock.series.move(1)
    assert file(folder, 0).max() == 2


def test_what_was_painted_by_hand_comes_back(folder):
    dock = Dock(folder)
    dock.labels.data_setitem((np.array([2, 3]), np.array([4, 4])), 7)
    dock.series.move(1)
    dock.series.move(-1)
    assert sorted(zip(*np.nonzero(dock.labels.data == 7), strict=True)) == [(2, 4), (3, 4)]
    dock.labels.undo()
    assert dock.labels.data.any()


def test_boxes_that_wait_stay_with_their_image(folder):
    dock = Dock(folder)
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    draw_box(dock.boxes, OTHER)
    dock.series.move(1)
    assert not len(dock.boxes.data)
    assert not dock.session.objects
    dock.series.move(-1)
    assert sorted(one.prompts.box for one in dock.session.objects) == [BOX, OTHER]
    dock.controller.segment_all()
    assert all(one.committed for one in dock.session.objects)


@pytest.mark.parametrize("steps", [(1, 1, 1), (1, 1, -1), (1, -1), (1, -1, 1, -1)])
def test_quick_keys_lose_nothing(folder, steps):
    """The image is worked on until another one is there, and read only where it is wanted."""
    run = ByHand()
    dock = Dock(folder, run)
    dock.segment()
    for step in steps:
        dock.series.move(step)
    draw_box(dock.boxes, OTHER)  # while another image is read
    dock.controller.commit()
    run.run()
    assert dock.at == sum(steps)
    np.testing.assert_array_equal(dock.image.data, pixels(sum(steps)))
    dock.series.go(0)
    run.run()
    assert BOX in [one.prompts.box for one in dock.session.objects]
    assert sum(len(objects(folder, number)) for number in range(4)) == 2
    assert not dock.failures


def objects(folder, number):
    path = folder / "labels" / "sessions" / f"cell{number}.pisam"
    return load_session(path).state.records if path.is_file() else ()


def test_an_image_that_cannot_be_read_is_said_and_left_out(folder):
    (folder / "cell1.tif").write_bytes(b"II*\0 broken")
    dock = Dock(folder)
    dock.segment()
    dock.series.move(1)
    assert dock.at == 2
    assert dock.state(1) is State.SKIPPED
    assert "cell1.tif cannot be read" in dock.failures[0]
    assert "left out" in dock.failures[0]
    dock.series.move(-1)
    assert dock.at == 0
    assert dock.session.objects[0].committed


def test_done_and_skipped_go_on_and_empty_images_have_labels(folder):
    dock = Dock(folder)
    dock.series.finish()
    assert dock.at == 1
    assert not file(folder, 0).any()
    dock.series.skip()
    assert not (folder / "labels" / "cell1.tif").exists()
    dock.segment()
    assert dock.labels.data.max() == 1
    dock.series.finish()
    dock.segment()
    assert dock.labels.data.max() == 1
    dock.series.finish()
    assert dock.at == 3
    assert "last image" in dock.hints[-1]
    assert [dock.state(place) for place in range(4)] == ["done", "skipped", "done", "done"]
    assert Series(folder).summary == "4 of 4, 3 done, 1 skipped"


def test_closed_and_opened_it_is_where_one_was(folder):
    dock = Dock(folder)
    dock.series.move(2)
    dock.segment()
    dock.close()
    np.testing.assert_array_equal(file(folder, 2), expected(SHAPE, BOX))
    again = Dock(folder)
    assert again.at == 2
    assert [one.committed for one in again.session.objects] == [True]
    np.testing.assert_array_equal(again.labels.data, expected(SHAPE, BOX))


def test_another_dock_of_the_viewer_goes_on(folder):
    dock = Dock(folder)
    dock.series.move(1)
    dock.segment()
    dock.close()
    again = Dock(None, viewer=dock.viewer)
    assert again.at == 1
    assert again.session.objects[0].committed
    again.segment(OTHER)
    again.series.move(1)
    assert file(folder, 1).max() == 2


def test_labels_of_others_are_taken_up_and_not_lost(folder):
    before = np.zeros(SHAPE, np.uint8)
    before[30:, :10] = 3
    (folder / "labels").mkdir()
    tifffile.imwrite(folder / "labels" / "cell0.tif", before)
    dock = Dock(folder)
    np.testing.assert_array_equal(dock.labels.data, before)
    assert dock.state(0) is State.BEGUN
    dock.segment()
    dock.series.move(1)
    assert set(np.unique(file(folder, 0))) == {0, 3, 4}


def test_files_that_do_not_fit_are_said_and_kept(folder):
    labels, sessions = folder / "labels", folder / "labels" / "sessions"
    sessions.mkdir(parents=True)
    tifffile.imwrite(labels / "cell0.tif", np.ones((7, 7), np.uint8))
    (sessions / "cell0.pisam").write_bytes(b"PK damaged")
    dock = Dock(folder)
    assert "cell0.tif is not used: has shape (7, 7)" in dock.failures[0]
    assert "cell0.pisam is not used" in dock.failures[1]
    assert tifffile.imread(labels / "cell0.tif").shape == (7, 7)
    dock.segment()
    dock.series.move(1)
    assert file(folder, 0).shape == SHAPE
    assert tifffile.imread(labels / "cell0 (unused 1).tif").shape == (7, 7)
    assert (sessions / "cell0 (unused 1).pisam").read_bytes() == b"PK damaged"


def test_an_image_of_other_values_does_not_get_the_objects(folder):
    dock = Dock(folder)
    dock.segment()
    dock.close()
    tifffile.imwrite(folder / "cell0.tif", pixels(9))
    again = Dock(folder)
    assert not again.session.objects
    assert "cell0.pisam is not used: It was made with an image of other values" in again.failures[0]
    np.testing.assert_array_equal(again.labels.data, expected(SHAPE, BOX))


def test_what_the_labels_file_lacks_after_a_crash_is_in_the_session(folder):
    dock = Dock(folder)
    dock.segment()
    dock.saver.save()  # and then the power was cut
    again = Dock(folder)
    np.testing.assert_array_equal(again.labels.data, expected(SHAPE, BOX))


def test_a_full_disk_is_said_and_what_was_done_is_kept(folder, monkeypatch):
    dock = Dock(folder)
    dock.segment()

    def full(*_given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_pisam.docks.segment.autosaver.save_planes", full)
        dock.series.move(1)
        assert any("Saving cell0 failed" in text for text in dock.failures)
        dock.series.move(-1)  # neither shown nor left out: what is on the disk is too old
        assert dock.at == 1
        assert dock.state(0) is State.BEGUN
    dock.series.move(-1)
    assert dock.session.objects[0].committed
    np.testing.assert_array_equal(file(folder, 0), expected(SHAPE, BOX))


def test_what_could_not_be_saved_is_tried_again_at_the_end(folder, monkeypatch):
    dock = Dock(folder)
    dock.series.go(3)
    dock.segment()

    def full(*_given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("napari_pisam.docks.segment.autosaver.save_planes", full)
        dock.series.finish()  # the last one: it stays
    assert "Saving cell3 failed" in dock.failures[0]
    dock.close()
    np.testing.assert_array_equal(file(folder, 3), expected(SHAPE, BOX))
    assert len(objects(folder, 3)) == 1
    assert Series(folder).state(3) is State.DONE


def test_closing_on_a_full_disk_is_said(folder, monkeypatch):
    dock = Dock(folder)
    dock.segment()

    def full(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_pisam.docks.segment.autosaver.save_planes", full)
    dock.close()
    assert any("Saving cell0 failed" in text for text in dock.failures)


def test_other_layers_stay_as_they_are(folder):
    dock = Dock(folder)
    mine = dock.viewer.add_image(pixels(7), name="mine")
    notes = dock.viewer.add_points([[1, 2]], name="notes")
    masks = dock.viewer.add_labels(np.ones(SHAPE, np.uint8), name="masks")
    for step in (1, 1, -1):
        dock.series.move(step)
    np.testing.assert_array_equal(mine.data, pixels(7))
    np.testing.assert_array_equal(notes.data, [[1, 2]])
    assert masks.data.all()
    assert [mine.name, notes.name, masks.name] == ["mine", "notes", "masks"]
    assert dock.image.name == "cell1"


def test_contrast_is_kept_where_it_was_chosen(folder):
    dock = Dock(folder)
    first = tuple(dock.image.contrast_limits)
    dock.series.move(1)
    assert tuple(dock.image.contrast_limits) == (pixels(1).min(), pixels(1).max()) != first
    dock.image.contrast_limits = (100, 2_000)
    dock.series.move(1)
    assert tuple(dock.image.contrast_limits) == (100, 2_000)


def test_images_of_other_kinds(tmp_path):
    """Grey, RGB, a stack, another size: new layers where the old ones cannot show it."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(0))
    tifffile.imwrite(tmp_path / "b.tif", pixels(1, (30, 20)))
    colours = np.random.default_rng(2).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", colours, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "d.tif",
        pixels(3, (3, 40, 50)),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    dock = Dock(tmp_path)
    for place in (1, 2, 3, 2, 0):
        dock.series.go(place)
        shape = [(40, 50), (30, 20), (40, 50), (3, 40, 50)][place]
        assert dock.labels.data.shape == shape
        assert dock.boxes.ndim == dock.clicks.ndim == len(shape)
        assert len([one for one in dock.viewer.layers if type(one).__name__ == "Image"]) == 1
    assert not dock.failures


def test_every_slice_of_a_stack_is_kept(tmp_path):
    for name in ("a", "b"):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(
            path, pixels(ord(name), (3, *SHAPE)), metadata={"axes": "ZYX"}, photometric="minisblack"
        )
    dock = Dock(tmp_path)
    r0, c0, r1, c1 = BOX

    def draw(z):
        corners = [[z, r0, c0], [z, r0, c1], [z, r1, c1], [z, r1, c0]]
        dock.boxes.add(np.array(corners), shape_type="rectangle")

    for z in (0, 2):
        dock.viewer.dims.set_point(0, z)
        draw(z)
        dock.controller.commit()
    dock.controller.set_live(False)
    draw(1)  # waits in a slice that nobody looks at
    dock.series.move(1)
    assert not len(dock.boxes.data)
    assert not dock.work.planes.sessions[dock.image][dock.work.planes.plane].objects
    dock.series.move(-1)
    sessions = dock.work.planes.sessions[dock.image]
    assert sorted(plane.index[0] for plane, one in sessions.items() if one.objects) == [0, 1, 2]
    assert [bool(plane.any()) for plane in dock.labels.data] == [True, False, True]


def test_the_next_image_is_read_ahead_and_once(folder, monkeypatch):
    read = []
    wrapped = Series.open
    monkeypatch.setattr(
        Series, "open", lambda self, place: read.append(place) or wrapped(self, place)
    )
    dock = Dock(folder)
    assert read == [0, 1]
    dock.series.move(1)
    assert read == [0, 1, 2]
    dock.series.move(-1)
    assert read == [0, 1, 2, 0]


def test_a_damaged_state_is_a_sentence(folder):
    (folder / "labels").mkdir()
    (folder / "labels" / "series.json").write_text("{")
    dock = Dock(folder)
    assert dock.series.series is None
    assert "does not say how far the images are" in dock.failures[0]
