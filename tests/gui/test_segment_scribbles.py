"""Scribbles, outlines and further boxes in the dock, without a window."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel

from fake_dock import ImagePredictor, click, draw_box
from fake_session import at_once
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.model.variants import get_variant
from napari_pisam.predict.areas import Answer, Area
from napari_pisam.predict.prompts import Prompts

BOX = (4.0, 5.0, 20.0, 30.0)
LINE = [[5.0, 6.0], [10.0, 12.0], [10.0, 20.0]]
STROKE = tuple(tuple(place) for place in LINE)


class Dock:
    def __init__(self):
        self.viewer = ViewerModel()
        self.viewer.add_image(np.zeros((40, 50), np.uint8), name="cells")
        self.controller = SegmentController(self.viewer, at_once)
        self.predictor = ImagePredictor()
        self.controller.start()
        self.controller.set_model(self.predictor)
        choice = self.controller.workspace.choice
        self.boxes, self.clicks, self.labels = (choice[r] for r in ("boxes", "clicks", "labels"))

    @property
    def session(self):
        return self.controller.session

    def prompts(self, number=1):
        return self.session.get(number).prompts

    def scribble(self, line=LINE):
        self.controller.draw("scribble")
        self.boxes.add([line], shape_type="path")

    def outline(self, corners):
        self.controller.draw("outline")
        self.boxes.add([corners], shape_type="polygon")


@pytest.fixture
def dock():
    made = Dock()
    yield made
    made.controller.close(viewer_stays=True)


def test_a_scribble_is_of_the_current_object_and_one_step_of_undo(dock):
    draw_box(dock.boxes, BOX)
    dock.scribble()
    assert dock.prompts().box == BOX
    assert dock.prompts().strokes == [(STROKE, True)]
    assert dock.controller.tools.role == "scribble"
    dock.controller.undo()
    assert dock.prompts().strokes == []
    assert list(dock.boxes.shape_type) == ["rectangle"]
    dock.controller.redo()
    assert dock.prompts().strokes == [(STROKE, True)]
    assert list(dock.boxes.shape_type) == ["rectangle", "path"]


def test_bg_before_a_scribble_makes_it_bg_and_the_scribble_tool_stays(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.draw("scribble")
    dock.controller.set_foreground(False)
    dock.controller.take_click_tool()
    assert dock.controller.tools.role == "scribble"
    dock.boxes.add([LINE], shape_type="path")
    assert dock.prompts().strokes == [(STROKE, False)]
    dock.boxes.mode = "select"
    dock.boxes.selected_data = {1}
    dock.controller.toggle_foreground()
    assert dock.prompts().strokes == [(STROKE, True)]


def test_clicks_and_scribbles_keep_the_order_in_which_they_were_made(dock):
    draw_box(dock.boxes, BOX)
    click(dock.clicks, 8, 8)
    dock.scribble()
    click(dock.clicks, 9, 9)
    expected = [(((8.0, 8.0),), True), (STROKE, True), (((9.0, 9.0),), True)]
    assert dock.prompts().strokes == expected
    for count in (2, 1, 0):
        dock.controller.undo()
        assert dock.prompts().strokes == expected[:count]
    for count in (1, 2, 3):
        dock.controller.redo()
        assert dock.prompts().strokes == expected[:count]


def test_every_scribble_comes_after_the_clicks_that_are_there(dock):
    draw_box(dock.boxes, BOX)
    dock.scribble()
    click(dock.clicks, 8, 8)
    dock.scribble([[6, 6], [7, 9]])
    assert [len(places) for places, _ in dock.prompts().strokes] == [3, 1, 2]
    assert list(dock.boxes.features["after"]) == [-1, 0, 1]
    dock.controller.clean("split", [1])
    dock.boxes.add([[[1, 14], [30, 14]]], shape_type="path")
    assert len(dock.session.objects) == 2


def test_a_scribble_where_no_object_is_begins_one_and_a_box_begins_the_next(dock):
    dock.scribble()
    assert dock.prompts().strokes == [(STROKE, True)]
    dock.controller.next_object()
    draw_box(dock.boxes, BOX)
    assert dock.prompts(2).box == BOX
    assert dock.prompts(1).box is None


def test_a_scribble_corrects_an_object_that_was_committed(dock):
    draw_box(dock.boxes, BOX)
    click(dock.clicks, 8, 8)
    dock.controller.commit()
    dock.controller.show(1)
    dock.scribble()
    assert not dock.session.get(1).committed
    assert dock.prompts().strokes == [(((8.0, 8.0),), True), (STROKE, True)]
    assert list(dock.boxes.features["after"]) == [1, -1]


def test_an_outline_is_the_mask_and_the_next_one_another_object(dock):
    dock.outline([[2, 2], [2, 9], [9, 9], [9, 2]])
    assert dock.session.get(1).mask.bbox == (2, 2, 10, 10)
    assert dock.predictor.calls == []
    dock.outline([[12, 2], [12, 9], [19, 9], [19, 2]])
    assert dock.session.get(2).mask.bbox == (12, 2, 20, 10)
    dock.controller.undo()
    assert [one.id for one in dock.session.objects] == [1]


def test_a_further_box_and_one_without_the_object_belong_to_it(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.draw("part")
    draw_box(dock.boxes, (25, 5, 35, 20))
    dock.controller.draw("not_here")
    draw_box(dock.boxes, (6, 6, 9, 9))
    assert [one.id for one in dock.session.objects] == [1]
    assert dock.prompts().box == BOX
    assert list(dock.prompts().areas) == [
        Area.of((25, 5, 35, 20)),
        Area.of((6, 6, 9, 9), False),
    ]
    dock.controller.undo()
    dock.controller.undo()
    assert dock.prompts().areas == ()
    assert len(dock.boxes.data) == 1
    dock.controller.draw_box()
    draw_box(dock.boxes, (22, 22, 38, 38))
    assert dock.prompts(2).box == (22, 22, 38, 38)


def test_what_is_drawn_for_one_object_is_there_again_when_it_is_picked_up(dock):
    draw_box(dock.boxes, BOX)
    dock.scribble()
    dock.controller.draw("not_here")
    draw_box(dock.boxes, (6, 6, 9, 9))
    asked = dock.prompts()
    dock.controller.commit()
    assert len(dock.boxes.data) == 0
    dock.controller.pick(1)
    assert dock.prompts() == asked
    assert sorted(dock.boxes.shape_type) == ["path", "rectangle", "rectangle"]
    dock.controller.put_back()


# -- the Clean menu ---------------------------------------------------------------------------


def with_two(dock):
    """Two committed objects, two px of background between them, and their labels."""
    for box in ((4, 4, 12, 12), (4, 15, 12, 23)):
        draw_box(dock.boxes, box)
        dock.controller.commit()
    return np.array(dock.labels.data)


def test_an_object_is_grown_in_one_step_and_not_over_its_neighbour(dock):
    before = with_two(dock)
    for _ in range(3):
        dock.controller.clean("grow", [1])
    after = np.array(dock.labels.data)
    assert np.array_equal(after == 2, before == 2)
    assert (after == 1).sum() > (before == 1).sum()
    assert dock.session.get(1).committed
    for _ in range(3):
        dock.controller.undo()
    assert np.array_equal(dock.labels.data, before)


def test_selected_objects_are_merged_and_one_is_split_along_a_line(dock):
    before = with_two(dock)
    dock.controller.clean("merge", [1])
    assert np.array_equal(dock.labels.data, before)
    dock.controller.clean("merge", [1, 2])
    assert set(np.unique(dock.labels.data)) == {0, 1}
    dock.controller.clean("split", [1])
    dock.boxes.add([[[1, 14], [20, 14]]], shape_type="path")
    assert set(np.unique(dock.labels.data)) == {0, 1}
    dock.controller.clean("split", [1])
    dock.boxes.add([[[8, 1], [8, 30]]], shape_type="path")
    assert len(np.unique(dock.labels.data)) > 2
    assert len(dock.boxes.data) == 0
    assert np.array_equal(np.asarray(dock.labels.data) > 0, before > 0)
    dock.controller.undo()
    dock.controller.undo()
    assert np.array_equal(dock.labels.data, before)


def test_a_line_that_cuts_nothing_and_an_object_that_would_vanish_are_told(dock):
    told = []
    dock.controller.workspace.failed.connect(told.append)
    before = with_two(dock)
    dock.controller.clean("split", [1])
    dock.boxes.add([[[5, 5], [6, 6]]], shape_type="path")
    for _ in range(6):
        dock.controller.clean("shrink", [2])
    assert "does not cut object 1" in told[0]
    assert "Nothing would be left of object 2" in told[1]
    assert np.array_equal(np.asarray(dock.labels.data) == 1, before == 1)


def test_another_tool_in_the_hand_ends_the_splitting(dock):
    with_two(dock)
    dock.controller.clean("split", [1])
    dock.controller.draw_box()
    dock.controller.show(1)
    dock.scribble()
    assert dock.prompts(1).strokes == [(STROKE, True)]


def test_an_open_preview_is_cleaned_and_clicks_go_on_from_there(dock):
    draw_box(dock.boxes, BOX)
    area = dock.session.get(1).mask.area
    dock.controller.clean("shrink")
    assert dock.session.get(1).mask.area < area
    assert len(dock.boxes.data) == 0
    click(dock.clicks, 30, 30)
    assert dock.prompts().strokes == [(((30.0, 30.0),), True)]
    assert dock.prompts().mask is not None
    dock.controller.undo()
    dock.controller.undo()
    assert dock.prompts().box == BOX
    assert dock.session.get(1).mask.area == area
    assert len(dock.boxes.data) == 1


def test_what_commits_do_to_masks_is_chosen_in_the_options(dock):
    dock.controller.set_cleaning(Cleaning(grow=2))
    draw_box(dock.boxes, (10, 10, 14, 14))
    dock.controller.commit()
    assert (np.asarray(dock.labels.data) == 1).sum() > 25
    assert dock.controller.kept.cleaning == Cleaning(grow=2)


# -- what a shape is, changed afterwards ------------------------------------------------------

LASSO = [[5.0, 6.0], [5.0, 20.0], [18.0, 20.0], [10.0, 12.0]]
PART = (21.0, 31.0, 30.0, 40.0)


def test_a_shape_can_be_made_anything_else_each_in_one_step_of_undo(dock):
    """A polygon that was drawn with napari's own tool counted as its bounding box."""
    dock.controller.draw_box()
    dock.boxes.add([LASSO], shape_type="polygon")
    box = (5.0, 6.0, 18.0, 20.0)
    assert dock.prompts().box == box
    dock.controller.change_shapes("outline")
    (area,) = dock.prompts().areas
    assert (area.vertices, dock.prompts().box) == (tuple(map(tuple, LASSO)), None)
    assert list(dock.boxes.features["use"]) == ["outline"]
    dock.controller.change_shapes("scribble")
    assert dock.prompts().strokes == [(tuple(map(tuple, LASSO)), True)]
    assert list(dock.boxes.shape_type) == ["path"]
    dock.controller.change_shapes("box")
    assert (dock.prompts().box, dock.prompts().strokes) == (box, [])
    kinds = [(p.box is not None, len(p.areas), len(p.strokes)) for p in _undone(dock, 3)]
    assert kinds == [(False, 0, 1), (False, 1, 0), (True, 0, 0)]


def test_the_other_of_two_answers_is_a_key_away_and_one_step_of_undo(dock):
    said = []
    dock.controller.workspace.hinted.connect(said.append)
    dock.controller.ask_for_other_answer()
    assert "no current object" in said[-1]
    draw_box(dock.boxes, BOX)
    area = dock.session.current.mask.area
    for answer in ("fine", "solid", "fine"):
        dock.controller.ask_for_other_answer()
        assert dock.prompts() == Prompts(BOX, answer=answer)
        assert list(dock.boxes.features["use"]) == [answer]
        assert (dock.session.current.mask.area < 0.4 * area) == (answer == "fine")
    assert [prompts.answer for prompts in _undone(dock, 3)] == ["solid", "fine", None]
    # What the network took for fine by itself.
    dock.predictor.likelier = Answer.FINE
    draw_box(dock.boxes, PART)
    dock.controller.ask_for_other_answer()
    assert dock.prompts(2).answer == "solid"


def test_the_other_answer_of_a_committed_object_takes_it_up_again(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    dock.session.select(1)
    dock.controller.ask_for_other_answer()
    assert dock.prompts() == Prompts(BOX, answer="fine")
    dock.controller.commit()
    assert 0 < (np.asarray(dock.labels.data) == 1).sum() < 0.4 * 17 * 26


def test_clicks_after_it_keep_the_answer_and_another_shape_says_another(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.change_shapes("fine")
    click(dock.clicks, 10, 10)
    assert dock.prompts() == Prompts(BOX, [(10, 10)], [True], answer="fine")
    dock.controller.change_shapes("box")
    assert dock.prompts().answer is None


def test_a_model_of_one_answer_and_an_object_without_a_box_have_no_other(dock):
    said = []
    dock.controller.workspace.hinted.connect(said.append)
    click(dock.clicks, 10, 10)
    dock.controller.ask_for_other_answer()
    assert "has no box" in said[-1]
    draw_box(dock.boxes, BOX)
    dock.predictor.model = SimpleNamespace(variant=get_variant("pisam_vit_b"))
    dock.controller.ask_for_other_answer()
    assert "one answer" in said[-1]
    assert {one.prompts.answer for one in dock.session.objects} == {None}


def test_boxes_that_wait_have_the_answers_that_they_say(dock):
    boxes = [np.reshape(box, (2, 2)) for box in (BOX, PART)]
    own = dock.viewer.add_shapes(boxes, shape_type="rectangle", features={"use": ["box", "fine"]})
    dock.controller.workspace.choice.choose("boxes", own)
    dock.controller.segment_all()
    found = {one.prompts.box: one.prompts.answer for one in dock.session.objects}
    assert found == {BOX: None, PART: "fine"}
    assert all(one.committed for one in dock.session.objects)


def test_boxes_with_answers_are_segmented_with_all_others_and_come_back_by_one_undo(dock):
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    draw_box(dock.boxes, PART)
    dock.boxes.mode = "select"
    dock.boxes.selected_data = {1}
    dock.controller.change_shapes("fine")
    assert list(dock.boxes.features["use"]) == ["box", "fine"]
    steps = []
    dock.controller.progressed.connect(lambda *step: steps.append(step))
    dock.controller.segment_all()
    assert [one.prompts.answer for one in dock.session.objects] == [None, "fine"]
    assert steps[-1] == (2, 2)
    assert len(dock.boxes.data) == 0
    dock.controller.undo()
    assert not np.any(dock.labels.data)
    assert sorted(dock.boxes.features["use"]) == ["box", "fine"]
    draw_box(dock.boxes, (22.0, 2.0, 30.0, 12.0))
    dock.controller.segment_all()
    found = {one.prompts.box: one.prompts.answer for one in dock.session.objects}
    assert [found.pop(PART), *found.values()] == ["fine", None, None]


def test_segment_all_takes_open_boxes_with_the_answers_that_were_asked_for(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.ask_for_other_answer()
    dock.controller.segment_all()
    assert [(one.committed, one.prompts.answer) for one in dock.session.objects] == [(True, "fine")]


def test_in_a_layer_of_somebody_elses_the_answer_stays_when_something_is_clicked(dock):
    own = dock.viewer.add_shapes([np.reshape(BOX, (2, 2))], features={"object": [1]})
    dock.controller.workspace.choice.choose("boxes", own)
    dock.controller.ask_for_other_answer()
    click(dock.clicks, 10, 10)
    assert dock.prompts() == Prompts(BOX, [(10, 10)], [True], answer="fine")
    assert "use" not in own.features


def test_what_was_painted_by_hand_has_no_other_answer(dock):
    said = []
    dock.controller.workspace.hinted.connect(said.append)
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    dock.labels.data[8:12, 8:12] = 0
    dock.labels.events.labels_update(data=np.zeros((4, 4), np.uint16), offset=(8, 8))
    dock.session.select(1)
    dock.controller.ask_for_other_answer()
    assert "starts from a mask" in said[-1]
    assert dock.session.get(1).mask.area == 17 * 26 - 16


def _undone(dock, steps):
    for _ in range(steps):
        dock.controller.undo()
        yield dock.prompts()


def test_the_selected_shape_is_changed_and_no_other(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.draw("part")
    draw_box(dock.boxes, PART)
    dock.boxes.mode = "select"
    dock.boxes.selected_data = {1}
    dock.controller.change_shapes("not_here")
    assert dock.prompts().box == BOX
    assert dock.prompts().areas == (Area.of(PART, False),)
    assert list(dock.boxes.features["label"]) == ["FG", "BG"]
    dock.boxes.selected_data = {1}
    dock.controller.change_shapes("box")
    # Nothing is lost: the one of before is a further one.
    assert dock.prompts().box == PART
    assert dock.prompts().areas == (Area.of(BOX),)
    assert len(dock.session.objects) == 1


def test_what_would_leave_nothing_of_an_object_is_refused_and_stays(dock):
    said = []
    dock.controller.workspace.hinted.connect(said.append)
    dock.controller.change_shapes("box")
    assert "no shape" in said[-1]
    draw_box(dock.boxes, BOX)
    dock.controller.change_shapes("not_here")
    assert "Draw a box around the object" in said[-1]
    assert dock.prompts().box == BOX
    assert len(dock.boxes.data) == 1
