"""Objects carried through stacks by the dock's logic: a viewer model and a predictor of bright."""

from __future__ import annotations

import csv

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from fake_session import ByHand, at_once
from fake_stack import SIDE, BrightPredictor, disc, moving
from lazy_arrays import Lazy
from napari_pisam.docks.segment.classes import Classes
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.files import saving_job
from napari_pisam.docks.segment.object_table import ObjectTable
from napari_pisam.docks.segment.restoring import Restorer
from napari_pisam.layers.measuring import measuring_job
from napari_pisam.measure.regions import Pixel
from napari_pisam.measure.volumes import measure_volumes, sums_of_slice
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.propagation import EndOfObject
from napari_pisam.session.session import ModelRef


class Dock:
    """A controller on a stack, and what it said."""

    def __init__(self, stack, execute=at_once, **options):
        self.viewer = ViewerModel()
        options.setdefault("contrast_limits", (0, 1))
        self.image = self.viewer.add_image(stack, name="stack", **options)
        self.controller = SegmentController(self.viewer, execute)
        self.failures, self.hints = [], []
        self.controller.workspace.failed.connect(self.failures.append)
        self.controller.workspace.hinted.connect(self.hints.append)
        self.predictor = BrightPredictor()
        self.controller.start()
        self.controller.set_model(self.predictor, ModelRef("fake"))
        self.stacks = self.controller.stacks

    @property
    def session(self):
        return self.controller.session

    @property
    def labels(self):
        return np.asarray(self.controller.workspace.choice["labels"].data)

    def go_to(self, *index):
        for axis, value in enumerate(index):
            self.viewer.dims.set_point(axis, value)

    def box(self, k, col=15):
        """Make an object of the disc of a slice by hand, and leave it open."""
        self.go_to(k)
        row, col = 20 + 2 * k, col + 2 * k
        return self.session.new_object(Prompts((row - 9.0, col - 9.0, row + 9.0, col + 9.0)))

    def select(self, number):
        self.session.select(number)

    def correct(self, k, number, place):
        """Click on the object of a slice and commit it."""
        self.go_to(k)
        one = self.session.get(number)
        self.session.set_prompts(number, one.prompts.with_clicks([place], [True]))
        self.controller.commit()

    def where(self, number):
        """The slices that have an object's pixels."""
        return np.flatnonzero((self.labels == number).any(axis=(1, 2))).tolist()


@pytest.fixture
def dock():
    return Dock(moving())


def running(first, steps):
    """A dock that carries the object of a slice to higher ones, so many steps in."""
    hand = ByHand()
    dock = Dock(moving(), hand)
    dock.box(first)
    hand.run()
    dock.controller.propagate(1)
    for _ in range(steps):
        hand.step()
    return dock, hand


def test_an_object_goes_through_the_stack_under_one_number(dock):
    number = dock.box(4)
    dock.controller.propagate(0)
    np.testing.assert_array_equal(dock.labels, moving() * number)
    assert "Object 1 both ways: 9 slices" in dock.hints[-1]
    assert dock.failures == []
    statuses = []
    for k in (3, 4, 5):
        dock.go_to(k)
        statuses.append(dock.session.get(number).is_carried)
        # The same object is at hand in every slice.
        assert dock.session.current.id == number
    assert statuses == [True, False, True]


@pytest.mark.parametrize(
    ("direction", "first", "last", "expected"),
    [
        (1, 0, None, [4, 5, 6, 7, 8, 9]),
        (-1, 0, None, [0, 1, 2, 3, 4]),
        (0, 2, 6, [2, 3, 4, 5, 6]),
        (1, 0, 7, [4, 5, 6, 7]),
    ],
)
def test_it_goes_where_it_was_told(dock, direction, first, last, expected):
    dock.box(4)
    dock.controller.propagate(direction, first, last)
    assert dock.where(1) == expected


def test_one_undo_takes_back_the_whole_run_and_redo_brings_it_back(dock):
    dock.box(4)
    dock.controller.propagate(0)
    dock.controller.undo()
    assert dock.where(1) == [4]
    dock.controller.redo()
    assert dock.where(1) == list(range(10))
    # From any of its slices.
    dock.go_to(8)
    dock.controller.undo()
    assert dock.where(1) == [4]


def test_undo_in_a_slice_that_has_nothing_of_its_own_takes_the_last_run_back(dock):
    dock.box(4)
    dock.controller.propagate(1)
    dock.go_to(0)
    dock.controller.undo()
    assert dock.where(1) == [4]


def test_it_ends_where_the_limits_say_and_says_why():
    stack = moving()
    stack[7:] = 0
    dock = Dock(stack)
    dock.box(4)
    dock.controller.propagate(1)
    assert dock.where(1) == [4, 5, 6]
    assert "ends before 7 (nothing found)" in dock.hints[-1]
    dock.controller.set_end(EndOfObject(score=0.95))
    dock.controller.propagate(-1)
    assert dock.where(1) == [4, 5, 6]
    assert "score 0.90" in dock.hints[-1]


def test_masks_land_as_they_come_and_stop_keeps_them():
    dock, hand = running(4, steps=3)
    assert dock.where(1) == [4, 5, 6, 7]
    assert dock.stacks.title == "Object 1 to higher slices: 3 slices"
    dock.stacks.stop()
    hand.run()
    assert dock.where(1) == [4, 5, 6, 7]
    assert dock.stacks.title == ""
    # Goes on from there, and asks about no slice again.
    asked = len(dock.predictor.images)
    dock.controller.propagate(1)
    hand.run()
    assert dock.where(1) == [4, 5, 6, 7, 8, 9]
    assert len(dock.predictor.images) - asked == 5


def test_undo_while_it_runs_stops_it_and_takes_it_back():
    dock, hand = running(4, steps=3)
    dock.controller.undo()
    hand.run()
    assert dock.where(1) == [4]


def test_clicks_come_in_between_and_see_their_own_slice():
    dock, hand = running(4, steps=1)
    other = dock.session.new_object(Prompts((2.0, 2.0, 6.0, 6.0)))
    hand.run()
    np.testing.assert_array_equal(
        dock.predictor.images[-1].read(np.s_[0:64, 0:64])[..., 0], moving()[4]
    )
    assert dock.session.get(other).mask is not None


def test_a_slice_that_was_corrected_is_kept_and_its_neighbours_are_redone(dock):
    dock.box(0)
    dock.controller.propagate(0)
    dock.correct(9, 1, (60.0, 60.0))
    dock.go_to(9)
    dock.select(1)
    anchor = dock.session.get(1)
    assert not anchor.is_carried
    dock.predictor.images.clear()
    dock.correct(5, 1, (10.0, 50.0))
    # From 0 the slices up to 4 had come already; what lies between was done from both sides.
    assert dock.stacks.title == ""
    seen = {int(source._plane[0]) for source in dock.predictor.images} - {5}
    assert seen == {1, 2, 3, 4, 6, 7, 8}
    dock.go_to(9)
    assert dock.session.get(1).mask is anchor.mask
    for k in (1, 4, 6, 8):
        dock.go_to(k)
        assert len(dock.session.get(1).source) == 2
    # One undo takes the redoing back, the next one the correction.
    dock.predictor.images.clear()
    dock.controller.propagate(0)
    assert [int(s._plane[0]) for s in dock.predictor.images if s._plane[0] not in (5, 8)] == []


def test_a_correction_that_is_not_to_be_carried_on_is_not(dock):
    dock.box(0)
    dock.controller.propagate(0)
    dock.stacks.redoes = False
    before = dock.labels[1:5].copy()
    dock.correct(5, 1, (10.0, 50.0))
    np.testing.assert_array_equal(dock.labels[1:5], before)


def test_what_a_hand_painted_is_kept(dock):
    dock.box(4)
    dock.controller.propagate(0)
    layer = dock.controller.workspace.choice["labels"]
    layer.data[7, 2:5, 2:5] = 1
    layer.data[7, 30:36, 20:30] = 0
    painted = layer.data[7].copy()
    dock.go_to(4)
    dock.select(1)
    dock.controller.propagate(0)
    np.testing.assert_array_equal(layer.data[7], painted)
    dock.go_to(6)
    assert len(dock.session.get(1).source) == 2


def test_a_label_that_is_there_already_under_the_number_continues_the_object(dock):
    dock.controller.workspace.choice["labels"].data[8] = moving()[8] * 1
    dock.go_to(4)
    dock.session.first_id = 1
    row, col = 28, 23
    dock.session.new_object(Prompts((row - 9.0, col - 9.0, row + 9.0, col + 9.0)), id=1)
    dock.session._document._mine.add(1)
    dock.controller.propagate(1)
    assert dock.where(1) == [4, 5, 6, 7, 8, 9]
    dock.go_to(6)
    assert len(dock.session.get(1).source) == 2


def test_others_pixels_follow_the_rule():
    dock = Dock(moving())
    layer = dock.controller.workspace.choice["labels"]
    layer.data[6, 30:33, 25:30] = 7
    dock.go_to(4)
    dock.box(4)
    dock.controller.propagate(1)
    assert (layer.data[6] == 7).sum() == 15
    dock.controller.undo()
    dock.controller.set_rule("overwrite")
    dock.controller.propagate(1)
    assert not (layer.data[6] == 7).any()
    dock.controller.undo()
    assert (layer.data[6] == 7).sum() == 15


def test_a_slice_that_is_covered_by_others_is_told(dock):
    dock.controller.workspace.choice["labels"].data[6] = 7
    dock.box(4)
    dock.controller.propagate(1)
    assert dock.where(1) == [4, 5, 7, 8, 9]
    assert "other labels cover it in 1" in dock.hints[-1]


def test_an_object_that_is_open_elsewhere_is_left_alone(dock):
    dock.box(4)
    dock.controller.propagate(0)
    dock.go_to(6)
    dock.session.reopen(1)
    dock.session.set_prompts(1, dock.session.get(1).prompts.with_clicks([(2.0, 2.0)], [True]))
    dock.go_to(4)
    dock.select(1)
    dock.controller.propagate(0)
    dock.go_to(6)
    assert not dock.session.get(1).committed
    assert 6 not in dock.where(1)


def test_split_gives_the_rest_another_number_and_can_be_undone(dock):
    dock.box(4)
    dock.controller.propagate(0)
    dock.go_to(6)
    dock.controller.split()
    assert dock.where(1) == [0, 1, 2, 3, 4, 5]
    assert dock.where(2) == [6, 7, 8, 9]
    assert dock.session.current.id == 2
    dock.controller.undo()
    assert dock.where(1) == list(range(10))
    dock.controller.redo()
    assert dock.where(2) == [6, 7, 8, 9]


def test_two_numbers_are_merged_by_picking(dock):
    dock.box(2)
    dock.controller.propagate(0, 0, 4)
    dock.go_to(7)
    second = dock.box(7)
    dock.controller.propagate(0, 5, 9)
    assert dock.where(second) == [5, 6, 7, 8, 9]
    dock.go_to(2)
    dock.select(1)
    dock.controller.begin_merge()
    dock.go_to(7)
    dock.controller.pick(second)
    assert dock.where(1) == list(range(10))
    assert dock.where(second) == []
    dock.controller.undo()
    assert dock.where(1) == [0, 1, 2, 3, 4]
    assert dock.where(second) == [5, 6, 7, 8, 9]


def test_merging_joins_what_both_have_in_a_slice(dock):
    dock.box(2)
    dock.controller.propagate(0)
    layer = dock.controller.workspace.choice["labels"]
    layer.data[5, 2:6, 50:56] = 9
    dock.go_to(5)
    dock.select(1)
    dock.controller.begin_merge()
    dock.controller.pick(9)
    assert (layer.data[5] == 1).sum() == moving()[5].sum() + 24
    assert not (layer.data == 9).any()
    dock.controller.undo()
    assert (layer.data[5] == 9).sum() == 24


def test_a_run_that_was_cut_off_goes_on_from_the_session_file(tmp_path):
    dock, _ = running(2, steps=4)
    path = saving_job(dock.controller.workspace.planes, tmp_path / "cut.pisam")()

    again = Dock(moving())
    Restorer(again.controller.workspace, at_once, lambda image: None).restore(path)
    assert again.failures == []
    np.testing.assert_array_equal(again.labels, dock.labels)
    assert again.where(1) == [2, 3, 4, 5, 6]
    again.go_to(2)
    again.select(1)
    again.predictor.images.clear()
    again.controller.propagate(1)
    assert again.where(1) == list(range(2, 10))
    # Not asked again about what had come.
    assert {int(s._plane[0]) for s in again.predictor.images} == {2, 7, 8, 9}


def test_only_windows_of_a_lazy_image_are_read():
    class Discs(Lazy):
        """A bright square of 40 px in slices of 4,000 px."""

        def __getitem__(self, key):
            values = super().__getitem__(key)
            down, across = (np.arange(4000)[part] for part in key[1:])
            bright = ((down >= 2000) & (down < 2040))[:, None] & ((across >= 900) & (across < 940))
            return np.where(bright, 1, values * 0).astype(np.uint8)

    stack = Discs((12, 4000, 4000), np.uint8)
    dock = Dock(stack)
    dock.go_to(5)
    dock.session.new_object(Prompts((1998.0, 898.0, 2042.0, 942.0)))
    stack.largest_read = 0
    dock.controller.propagate(0)
    assert dock.where(1) == list(range(12))
    assert 0 < stack.largest_read < 100**2


@pytest.mark.parametrize("axis", [0, 1])
def test_of_several_axes_one_is_gone_along(axis):
    stack = np.zeros((6, 5, SIDE, SIDE), np.uint8)
    for t in range(6):
        for z in range(5):
            stack[t, z] = disc(20 + 2 * t, 20 + 2 * z)
    dock = Dock(stack, axis_labels=("t", "z", "y", "x"))
    assert dock.stacks.axes == {0: "t (6)", 1: "z (5)"}
    dock.stacks.axis = axis
    dock.go_to(2, 3)
    dock.session.new_object(Prompts((15.0, 17.0, 33.0, 35.0)))
    dock.controller.propagate(0)
    expected = np.zeros_like(stack)
    line = np.s_[:, 3] if axis == 0 else np.s_[2]
    expected[line] = stack[line]
    np.testing.assert_array_equal(dock.labels, expected)


def test_both_axes_are_gone_along_one_after_the_other_in_one_step_to_undo():
    stack = np.zeros((4, 5, SIDE, SIDE), np.uint8)
    for t in range(4):
        for z in range(t, 5):
            stack[t, z] = disc(20 + 2 * t, 20 + 2 * z)
    dock = Dock(stack, axis_labels=("t", "z", "y", "x"))
    dock.stacks.axis, dock.stacks.then = 0, 1
    dock.go_to(2, 3)
    dock.session.new_object(Prompts((15.0, 17.0, 33.0, 35.0)))
    dock.controller.propagate(0)
    np.testing.assert_array_equal(dock.labels, stack)
    dock.controller.undo()
    assert np.argwhere(dock.labels.any(axis=(2, 3))).tolist() == [[2, 3]]


def test_channels_that_are_seen_together_are_so_in_every_slice():
    dock = Dock(moving(), colormap="green")
    dock.viewer.add_image(moving()[::-1], name="other", blending="additive", contrast_limits=(0, 1))
    dock.box(4)
    dock.predictor.images.clear()
    dock.controller.propagate(1, 4, 6)
    assert {image.n_channels for image in dock.predictor.images} == {3}
    assert dock.where(1) == [4, 5, 6]


def test_what_cannot_be_done_is_said():
    dock = Dock(np.zeros((SIDE, SIDE), np.uint8))
    dock.controller.propagate(1)
    assert "one slice only" in dock.failures[-1]
    dock = Dock(moving())
    dock.controller.propagate(1)
    assert "Choose an object first" in dock.failures[-1]
    dock.controller.show_tracks()
    dock.box(0)
    dock.controller.split()
    assert "first slice" in dock.failures[-1]


def test_a_failed_prediction_stops_it_and_keeps_what_came(dock):
    dock.box(4)
    dock.predictor.predict_ = dock.predictor.predict
    count = [0]

    def predict(*args, **kwargs):
        count[0] += 1
        if count[0] == 4:
            raise RuntimeError("out of luck")
        return dock.predictor.predict_(*args, **kwargs)

    dock.predictor.predict = predict
    dock.controller.propagate(1)
    assert "out of luck" in dock.failures[-1]
    assert dock.stacks.title == ""
    assert 4 in dock.where(1)


def test_tracks_are_shown_and_saved(dock, tmp_path):
    dock.box(4)
    dock.controller.propagate(0)
    dock.controller.show_tracks()
    layer = dock.viewer.layers["stack labels tracks"]
    np.testing.assert_allclose(layer.data[:, 0], 1)
    np.testing.assert_allclose(layer.data[:, 2], 20 + 2 * np.arange(10), atol=0.01)
    np.testing.assert_allclose(layer.data[:, 3], 15 + 2 * np.arange(10), atol=0.01)
    dock.controller.show_tracks()
    assert sum(one.name == layer.name for one in dock.viewer.layers) == 1
    dock.controller.save_tracks(tmp_path / "tracks.csv")
    lines = (tmp_path / "tracks.csv").read_text().splitlines()
    assert lines[:2] == ["track_id,t,y,x,area", f"1,0,20.000,15.000,{moving()[0].sum()}"]
    assert len(lines) == 11


def test_an_objects_class_is_its_class_in_all_slices_and_one_undo_takes_it_back(dock):
    number = dock.box(4)
    dock.controller.propagate(0)

    def classes():
        sessions = dock.controller.workspace.planes.sessions[dock.image].values()
        return {one.class_name for session in sessions for one in session.objects}

    given = Classes(dock.controller.workspace)
    dock.go_to(2)
    given.give("cell", [number])
    assert classes() == {"cell"}
    dock.controller.undo()
    assert classes() == {""}
    assert len(dock.where(number)) == 10
    dock.controller.redo()
    assert classes() == {"cell"}


# -- volumes ----------------------------------------------------------------------------------


@pytest.fixture
def boxed():
    """A stack of voxels that are no cubes, an object through it, and the table of its volumes."""
    dock = Dock(moving(), scale=(2, 0.5, 0.25), units=("um", "um", "um"))
    dock.number = dock.box(4)
    dock.controller.propagate(0)
    work = dock.controller.workspace
    dock.table = ObjectTable(work, at_once, lambda call: call(), lambda: dock.stacks.line)
    dock.table.choose(("id", "volume", "slices", "centroid_3d_z", "first_slice"))
    return dock


def volumes(dock):
    return measure_volumes(dock.labels, pixel=Pixel(0.5, 0.25, "um", depth=2))


def test_volumes_are_columns_of_every_slices_table(boxed):
    row = next(iter(boxed.table.rows()))
    known = volumes(boxed)[boxed.number]
    assert {key: row.value(key) for key in known} == known
    assert known["slices"] == 10
    titles = [column.title for column in boxed.table.shown_columns()]
    assert titles == ["Object", "Volume (um³)", "Slices", "First slice", "Z in 3D (um)"]
    boxed.table.choose(boxed.table.shown, in_pixels=True)
    assert boxed.table.rows()[0].value("volume") == known["volume_vx"]


def test_one_changed_slice_is_read_again_and_no_other(boxed, monkeypatch):
    boxed.table.rows()
    read = []

    def counted(labels, z):
        read.append(z)
        return sums_of_slice(labels, z)

    monkeypatch.setattr("napari_pisam.docks.segment.volumes.sums_of_slice", counted)
    layer = boxed.controller.workspace.choice["labels"]
    layer.brush_size = 3
    layer.paint((4, 1, 1), boxed.number)
    assert boxed.table.rows()[0].value("volume") == volumes(boxed)[boxed.number]["volume"]
    assert set(read) == {4}
    boxed.go_to(9)
    boxed.table.rows()
    read.clear()
    boxed.controller.undo()
    # The whole run is taken back, but where it was painted on.
    assert boxed.table.volumes.row(boxed.number) is not None
    boxed.table.rows()
    assert boxed.table.volumes.row(boxed.number) == volumes(boxed).get(boxed.number)
    assert 9 in read


def test_times_have_no_volumes(tmp_path):
    dock = Dock(moving(), axis_labels=("t", "y", "x"))
    dock.box(4)
    dock.controller.propagate(0)
    work = dock.controller.workspace
    table = ObjectTable(work, at_once, lambda call: call(), lambda: dock.stacks.line)
    assert not any("olume" in column.title for column in table.columns())
    dock.controller.save_volumes(tmp_path / "volumes.csv")
    assert "no volume" in dock.failures[-1]


def test_volumes_are_saved_with_intensities_and_by_the_table(boxed, tmp_path):
    Classes(boxed.controller.workspace).give("cell")
    boxed.controller.save_volumes(tmp_path / "volumes.csv")
    assert boxed.hints[-1] == "Wrote volumes.csv."
    (row,) = csv.DictReader((tmp_path / "volumes.csv").read_text().splitlines())
    known = volumes(boxed)[boxed.number]
    assert float(row["volume_um3"]) == pytest.approx(known["volume"], rel=1e-6)
    assert (row["class"], row["intensity_3d_mean"]) == ("cell", "1")
    boxed.table.choose(("id",))
    boxed.table.saving_job(tmp_path / "slice.csv")()
    (row,) = csv.DictReader((tmp_path / "slice.csv").read_text().splitlines())
    assert float(row["centroid_3d_y_um"]) == pytest.approx(known["centroid_3d_y"], rel=1e-6)
    assert "area_um2" in row


def test_a_labels_layer_is_measured_through_its_slices_without_a_dock():
    viewer = ViewerModel()
    labels = moving().astype(np.uint16) * 3
    placed = {"scale": (2, 0.5, 0.25), "units": ("um", "um", "um")}
    picture = np.random.default_rng(0).random(labels.shape)
    viewer.add_image(picture, **placed)
    layer = viewer.add_labels(labels, **placed)
    (row,) = measuring_job(layer, viewer.layers)().values()
    there = labels > 0
    assert row["volume_um3"] == pytest.approx(there.sum() * 0.25)
    assert row["intensity_3d_mean"] == pytest.approx(picture[there].mean())
    layer.units = ("s", "um", "um")
    with pytest.raises(ValueError, match="have no volume"):
        measuring_job(layer, viewer.layers)
