"""Saving unasked and restoring, with napari's layers and no window: nothing is lost."""

from __future__ import annotations

import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from napari.components import ViewerModel

from fake_dock import ImagePredictor, draw_box
from fake_session import at_once
from lazy_arrays import Lazy
from napari_pisam.docks.segment import restoring
from napari_pisam.docks.segment.autosaver import Autosaver
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.files import saving_job
from napari_pisam.docks.segment.restoring import Restorer
from napari_pisam.session.session import ModelRef
from napari_pisam.session.storage import load_session

SHAPE = (3, 40, 50)
BOX = (5.0, 6.0, 20.0, 24.0)
OTHER = (22.0, 30.0, 34.0, 44.0)


def stack(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 60_000, shape).astype(np.uint16)


class Dock:
    """A controller that saves when told to."""

    def __init__(self, data=None, write=at_once, name="cells", **options):
        self.viewer = ViewerModel()
        data = stack() if data is None else data
        self.image = self.viewer.add_image(data, name=name, contrast_limits=(0, 60_000), **options)
        self.controller = SegmentController(self.viewer, at_once)
        self.work = self.controller.workspace
        self.failures, self.hints, self.woken = [], [], []
        self.work.failed.connect(self.failures.append)
        self.work.hinted.connect(self.hints.append)
        self.saver = Autosaver(self.work.planes, write, lambda: self.woken.append(1))
        self.saver.failed.connect(self.failures.append)
        self.restorer = Restorer(self.work, at_once, self._before)
        self.show(0)  # napari begins in the middle
        self.controller.start()
        self.controller.set_model(ImagePredictor(), ModelRef("fake"))

    def _before(self, image):
        self.saver.save()
        self.saver.file_of(image).begin_generation()

    @property
    def session(self):
        return self.controller.session

    @property
    def labels(self):
        return self.work.choice["labels"]

    def show(self, number):
        self.viewer.dims.set_current_step(0, number)

    def commit(self, box=BOX):
        draw_box_in(self.work.choice["boxes"], box, self.viewer)
        self.controller.commit()
        assert self.failures == []

    def ids(self):
        sessions = self.work.planes.sessions[self.image]
        return {
            plane.index[0]: [one.id for one in session.objects]
            for plane, session in sessions.items()
            if session.objects
        }


def draw_box_in(layer, box, viewer):
    r0, c0, r1, c1 = box
    corners = np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])
    if layer.ndim == 2:
        draw_box(layer, box)
        return
    order = viewer.dims.order
    shape = np.zeros((4, 3))
    shape[:, order[0]] = viewer.dims.current_step[order[0]]
    shape[:, order[1:]] = corners
    layer.add(shape, shape_type="rectangle")


def files(autosaves):
    return sorted(autosaves.rglob("*.pisam"))


def saved_planes(path):
    return {plane.view.plane[0]: len(plane.state.records) for plane in load_session(path).planes}


def test_a_slice_that_was_left_before_it_was_saved_is_saved(autosaves):
    dock = Dock()
    dock.commit()
    dock.show(1)
    assert dock.woken
    dock.saver.save()
    (path,) = files(autosaves)
    assert saved_planes(path) == {0: 1}


def test_an_empty_slice_does_not_replace_what_another_saved(autosaves):
    dock = Dock()
    dock.commit()
    dock.saver.save()
    dock.show(1)
    dock.commit(OTHER)
    dock.controller.undo()
    dock.saver.save()
    dock.show(2)
    dock.saver.save()
    (path,) = files(autosaves)
    assert saved_planes(path)[0] == 1


def test_closing_saves_every_slice_that_is_not_saved(autosaves):
    dock = Dock()
    dock.commit()
    dock.show(2)
    dock.commit(OTHER)
    dock.show(1)
    dock.saver.close()
    (path,) = files(autosaves)
    assert saved_planes(path) == {0: 1, 2: 1}


def test_an_image_that_was_left_before_it_was_saved_is_saved(autosaves):
    dock = Dock()
    dock.commit()
    other = dock.viewer.add_image(stack(1), name="other")
    dock.work.choice.choose("image", other)
    dock.viewer.layers.remove(dock.image)
    dock.saver.save()
    (path,) = files(autosaves)
    assert saved_planes(path) == {0: 1}


def test_an_unchanged_session_is_not_written(autosaves):
    dock = Dock()
    dock.saver.save()
    dock.saver.close()
    assert files(autosaves) == []


def test_closing_while_a_save_runs_leaves_whole_files_with_the_newest(autosaves, monkeypatch):
    from napari_pisam.session import autosave

    real = autosave.save_planes
    for _ in range(10):
        begun, go_on = threading.Event(), threading.Event()

        def slow(path, content, packed, begun=begun, go_on=go_on):
            begun.set()
            go_on.wait(10)
            real(path, content, packed)

        pool = ThreadPoolExecutor(1)
        dock = Dock(write=lambda job, done, failed, pool=pool: pool.submit(job))
        monkeypatch.setattr(autosave, "save_planes", slow)
        dock.commit()
        dock.saver.save()  # begins
        dock.commit(OTHER)
        dock.saver.save()  # waits
        assert begun.wait(10)
        timer = threading.Timer(0.05, go_on.set)
        timer.start()
        dock.saver.close()
        pool.shutdown(wait=True)
        timer.join()
        monkeypatch.setattr(autosave, "save_planes", real)
        newest = max(files(autosaves), key=lambda path: path.stat().st_mtime_ns)
        assert saved_planes(newest) == {0: 2}
    for path in files(autosaves):
        assert zipfile.ZipFile(path).testzip() is None


def test_the_first_box_after_a_crash_does_not_replace_what_was_saved(autosaves):
    first = Dock()
    for box in (BOX, OTHER):
        first.commit(box)
    first.saver.save()
    second = Dock()
    assert second.saver.offer.objects == 2
    second.commit()
    second.saver.save()
    assert sorted(saved_planes(path)[0] for path in files(autosaves)) == [1, 2]
    assert second.saver.offer.objects == 2


def test_two_viewers_on_one_image_write_two_files(autosaves):
    docks = [Dock(), Dock()]
    for dock, box in zip(docks, (BOX, OTHER), strict=True):
        dock.commit(box)
        dock.saver.save()
    assert len(files(autosaves)) == 2


def test_another_image_is_offered_nothing(autosaves):
    first = Dock()
    first.commit()
    first.saver.save()
    assert Dock(stack(1)).saver.offer is None
    assert Dock(name="renamed").saver.offer is not None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_all_slices_come_back_each_on_its_axes(autosaves, order):
    cube = stack(shape=(40, 40, 40))
    first = Dock(cube)
    first.viewer.dims.order = order
    for number, box in ((3, BOX), (7, (22.0, 8.0, 34.0, 20.0))):
        first.viewer.dims.set_current_step(order[0], number)
        first.commit(box)
    first.saver.save()
    second = Dock(cube)
    second.viewer.dims.order = order
    second.restorer.restore(second.saver.offer.path)
    assert second.failures == []
    np.testing.assert_array_equal(second.labels.data, first.labels.data)
    assert len(np.unique(second.labels.data)) == 3
    assert any("2 object(s) in 2 slices" in hint for hint in second.hints)


def test_restoring_is_one_step_that_can_be_undone(autosaves):
    first = Dock()
    first.commit()
    first.saver.save()
    second = Dock()
    second.commit(OTHER)
    before = second.labels.data.copy()
    second.restorer.restore(second.saver.offer.path)
    np.testing.assert_array_equal(second.labels.data, first.labels.data)
    second.session.undo()
    np.testing.assert_array_equal(second.labels.data, before)
    assert second.ids() == {0: [1]}
    assert second.session.objects[0].prompts.box == OTHER
    second.session.redo()
    np.testing.assert_array_equal(second.labels.data, first.labels.data)


def test_restoring_leaves_the_window_free_and_what_is_done_meanwhile_comes_after_it(
    autosaves, monkeypatch
):
    monkeypatch.setattr(restoring, "_STEP", -1.0)
    first = Dock(np.zeros((1100, 1600), np.uint16))
    boxes = [(4.0 + 40 * n, 5.0, 30.0 + 40 * n, 30.0 + 55 * n) for n in range(25)]
    first.session.live = False
    first.session.segment_all(boxes)
    first.saver.save()
    whole = first.labels.data.copy()
    for leave in (None, "commit", "undo"):
        second, waiting = Dock(np.zeros((1100, 1600), np.uint16)), []
        second.restorer._later = waiting.append
        second.restorer.restore(files(autosaves)[0])
        assert waiting
        assert not second.session.objects
        if leave == "commit":
            draw_box(second.work.choice["boxes"], (1050.0, 1500.0, 1090.0, 1590.0))
            second.controller.commit()
            assert len(second.session.objects) == 26
            second.controller.undo()
            second.controller.discard()
        elif leave == "undo":
            second.controller.undo()
            assert not second.labels.data.any()
            second.controller.redo()
        steps = 0
        while waiting:
            waiting.pop(0)()
            steps += 1
        assert steps > 5 or leave
        np.testing.assert_array_equal(second.labels.data, whole)
        assert len(second.session.objects) == 25
        assert second.failures == []


def test_what_was_there_before_restoring_stays_in_its_file(autosaves):
    first = Dock()
    first.commit()
    first.saver.save()
    second = Dock()
    second.commit(BOX)
    second.commit(OTHER)
    second.restorer.restore(second.saver.offer.path)
    second.saver.save()
    assert sorted(saved_planes(path)[0] for path in files(autosaves)) == [1, 1, 2]


def test_restoring_honours_the_rule_for_where_objects_meet(autosaves):
    first = Dock()
    first.commit()
    first.saver.save()
    second = Dock()
    second.labels.data[0, 5:10, 6:10] = 77
    second.restorer.restore(second.saver.offer.path)
    assert (second.labels.data[0, 5:10, 6:10] == 77).all()
    assert (second.labels.data[0] == 1).any()


def test_pixels_painted_and_erased_by_hand_come_back(autosaves):
    first = Dock()
    first.commit()
    first.saver.save()
    first.labels.selected_label = 9
    first.labels.brush_size = 4
    first.labels.paint((0, 30, 10), 9)
    first.labels.paint((0, 12, 12), 0)
    assert (first.labels.data[0, 11:14, 11:14] == 0).all()
    first.saver.save()
    second = Dock()
    second.restorer.restore(second.saver.offer.path)
    np.testing.assert_array_equal(second.labels.data, first.labels.data)


def test_large_numbers_that_were_painted_come_back_in_labels_that_are_wide_enough(autosaves):
    first = Dock()
    wide = first.viewer.add_labels(np.zeros(SHAPE, np.uint32))
    first.work.choice.choose("labels", wide)
    first.commit()
    wide.paint((0, 30, 10), 70_000)
    first.saver.save()
    second = Dock()
    assert second.labels.data.dtype == np.uint16
    second.restorer.restore(second.saver.offer.path)
    np.testing.assert_array_equal(second.labels.data, wide.data)


def test_restoring_onto_background_and_onto_labels_is_undone_alike(autosaves):
    first = Dock()
    first.commit()
    first.commit(OTHER)
    first.saver.save()
    for there in (0, 9):
        second = Dock()
        second.labels.data[0, :8] = there
        before = second.labels.data.copy()
        second.restorer.restore(files(autosaves)[0])
        wanted = np.where(before != 0, before, first.labels.data)
        np.testing.assert_array_equal(second.labels.data, wanted)
        second.controller.undo()
        np.testing.assert_array_equal(second.labels.data, before)
        second.controller.redo()
        np.testing.assert_array_equal(second.labels.data, wanted)


def test_a_stroke_alone_is_saved(autosaves):
    dock = Dock()
    dock.labels.paint((0, 30, 10), 9)
    dock.saver.save()
    (path,) = files(autosaves)
    second = Dock()
    second.restorer.restore(path)
    np.testing.assert_array_equal(second.labels.data, dock.labels.data)


def test_a_stroke_that_napari_takes_back_or_redoes_is_saved_so_whatever_slice_is_shown(autosaves):
    dock = Dock()
    dock.commit()
    blank = dock.labels.data.copy()
    dock.labels.paint((0, 30, 10), 9)
    painted = dock.labels.data.copy()
    dock.saver.save()
    (path,) = files(autosaves)
    for step, wanted in ((dock.labels.undo, blank), (dock.labels.redo, painted)):
        dock.woken.clear()
        dock.show(1)
        step()
        assert dock.woken
        dock.saver.save()
        second = Dock()
        second.restorer.restore(path)
        np.testing.assert_array_equal(second.labels.data, wanted)


def test_scrolling_through_slices_saves_nothing(autosaves):
    dock = Dock()
    dock.commit()
    dock.saver.save()
    dock.woken.clear()
    for number in (1, 2, 0):
        dock.show(number)
        dock.labels.refresh()
    assert not dock.woken


def test_a_session_of_another_image_is_refused(autosaves, tmp_path):
    first = Dock()
    first.commit()
    saving_job(first.work.planes, tmp_path / "s.pisam")()
    second = Dock(stack(1))
    second.restorer.restore(tmp_path / "s.pisam")
    assert "s.pisam belongs to another image (cells)" in second.failures[0]
    assert second.ids() == {}


def test_an_empty_session_replaces_no_file(tmp_path):
    dock = Dock()
    with pytest.raises(ValueError, match="nothing to save yet"):
        saving_job(dock.work.planes, tmp_path / "s.pisam")


def test_a_lazy_image_is_read_only_where_it_was_used(autosaves):
    data = Lazy((3, 2000, 3000))
    first = Dock(data)
    data.largest_read = 0
    assert first.session is not None
    first.session.new_object()
    first.saver.save()
    assert len(files(autosaves)) == 1
    assert data.largest_read == 0
    assert Dock(data).saver.offer.objects == 1


def test_a_folder_that_may_not_be_entered_stops_nothing(autosaves, monkeypatch):
    autosaves.parent.mkdir(parents=True, exist_ok=True)
    autosaves.write_text("not a folder")
    dock = Dock()
    dock.commit()
    dock.saver.save()
    dock.session.new_object()
    dock.saver.save()
    (sentence,) = dock.failures
    assert sentence.startswith("Saving the session automatically failed")
    dock.saver.close()


def test_another_contrast_is_kept_with_each_object():
    dock = Dock()
    dock.commit()
    dock.image.contrast_limits = (0, 30_000)
    dock.controller.set_live(False)
    draw_box_in(dock.work.choice["boxes"], OTHER, dock.viewer)
    dock.controller.predict()
    dock.controller.commit()
    journal = dock.session.to_state().journal
    assert [entry.model.contrast_limits for entry in journal] == [
        ((0.0, 60_000.0),),
        ((0.0, 30_000.0),),
    ]
