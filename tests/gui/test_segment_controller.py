"""The dock's logic on a viewer model: no window, a fake predictor, jobs at once or by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from fake_dock import ImagePredictor, click, draw_box, expected
from fake_session import ByHand, at_once
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.session.session import ModelRef

SHAPE = (40, 50)
BOX = (5.0, 6.0, 20.0, 24.0)
OTHER = (22.0, 30.0, 34.0, 44.0)


class Dock:
    """A controller with what it said, and short names for its layers."""

    def __init__(self, image=None, execute=at_once, predictor=True, **options):
        self.viewer = ViewerModel()
        data = np.zeros(SHAPE) if image is None else image
        self.image = self.viewer.add_image(data, name="cells", **options)
        self.controller = SegmentController(self.viewer, execute)
        self.failures, self.hints, self.wanted = [], [], []
        work = self.controller.workspace
        work.failed.connect(self.failures.append)
        work.hinted.connect(self.hints.append)
        work.model_wanted.connect(lambda: self.wanted.append(True))
        self.predictor = ImagePredictor()
        self.controller.start()
        if predictor:
            self.controller.set_model(self.predictor, ModelRef("fake"))

    def __getattr__(self, role):
        return self.controller.workspace.choice[role]

    @property
    def session(self):
        return self.controller.session

    @property
    def ids(self):
        return [one.id for one in self.session.objects]

    @property
    def preview(self):
        """What the preview layer shows, as (H, W) bool."""
        result = np.zeros(SHAPE, dtype=bool)
        layer = self.viewer.layers["Pi-SAM preview"]
        row, col = (round(v) for v in layer.translate[-2:] - self.image.translate[-2:])
        crop = np.asarray(layer.data, bool).reshape(layer.data.shape[-2:])
        if crop.any():
            result[row : row + crop.shape[0], col : col + crop.shape[1]] = crop
        return result


@pytest.fixture
def dock():
    return Dock()


def corners(row, col):
    """A rectangle's of 4 px."""
    return [[row, col], [row, col + 4], [row + 4, col + 4], [row + 4, col]]


def labelled(dock, number):
    return np.asarray(dock.labels.data) == number


def test_prompt_layers_and_labels_are_made_for_the_image_that_is_there(dock):
    names = [layer.name for layer in dock.viewer.layers]
    # The preview too: a new layer takes napari a tenth of a second, in the midst of the work.
    assert names == ["cells", "cells labels", "Pi-SAM preview", "cells clicks", "cells boxes"]
    assert not dock.preview.any()
    assert dock.viewer.layers.selection.active is dock.boxes
    assert str(dock.boxes.mode) == "add_rectangle"


def test_without_an_image_nothing_is_made_and_an_image_that_comes_is_taken():
    viewer = ViewerModel()
    controller = SegmentController(viewer, at_once)
    controller.start()
    assert len(viewer.layers) == 0
    image = viewer.add_image(np.zeros(SHAPE))
    assert controller.workspace.choice["image"] is image
    assert controller.session is not None


def test_a_drawn_box_is_previewed(dock):
    draw_box(dock.boxes, BOX)
    assert dock.ids == [1]
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX))


def test_a_click_corrects_the_preview(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.set_foreground(False)
    click(dock.clicks, 10, 10)
    dock.controller.set_foreground(True)
    click(dock.clicks, 30, 30)
    wanted = expected(SHAPE, BOX, [(10, 10), (30, 30)], [False, True])
    np.testing.assert_array_equal(dock.preview, wanted)


def test_after_a_box_the_click_tool_is_taken_and_after_a_commit_the_box_tool(dock):
    draw_box(dock.boxes, BOX)
    assert dock.viewer.layers.selection.active is dock.clicks
    assert str(dock.clicks.mode) == "add"
    dock.controller.commit()
    assert dock.viewer.layers.selection.active is dock.boxes


def test_tools_stay_as_they_are_when_told_so(dock):
    dock.controller.set_switches_tools(False)
    draw_box(dock.boxes, BOX)
    assert dock.viewer.layers.selection.active is dock.boxes


def test_commit_writes_the_object_and_nothing_else_and_the_next_one_begins(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    np.testing.assert_array_equal(labelled(dock, 1), expected(SHAPE, BOX))
    assert dock.session.current is None
    assert len(dock.boxes.data) == 0
    assert not dock.preview.any()
    draw_box(dock.boxes, OTHER)
    dock.controller.commit()
    np.testing.assert_array_equal(labelled(dock, 2), expected(SHAPE, OTHER))


def test_the_next_object_begins_with_a_foreground_click(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.toggle_foreground()
    assert not dock.controller.foreground
    dock.controller.commit()
    assert dock.controller.foreground
    click(dock.clicks, 30, 30)
    assert dock.session.current.prompts.labels.tolist() == [True]


def test_a_second_box_is_another_object(dock):
    draw_box(dock.boxes, BOX)
    draw_box(dock.boxes, OTHER)
    assert dock.ids == [1, 2]
    assert dock.session.current.id == 2
    assert [one.prompts.box for one in dock.session.objects] == [BOX, OTHER]


def test_a_pasted_box_becomes_an_object_of_its_own(dock):
    draw_box(dock.boxes, BOX)
    number = int(dock.boxes.features["object"].iloc[0])
    dock.boxes.feature_defaults = {"object": number}
    draw_box(dock.boxes, OTHER)
    assert dock.ids == [1, 2]


def test_a_moved_box_is_predicted_again(dock):
    draw_box(dock.boxes, BOX)
    dock.boxes.data = [np.add(dock.boxes.data[0], [4, 5])]
    wanted = tuple(np.add(BOX, [4, 5, 4, 5]))
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, wanted))


def test_undo_takes_back_click_box_and_commit_and_redo_brings_them(dock):
    draw_box(dock.boxes, BOX)
    click(dock.clicks, 30, 30)
    dock.controller.commit()
    dock.controller.undo()
    assert not np.any(dock.labels.data)
    assert len(dock.clicks.data) == 1
    dock.controller.undo()
    assert len(dock.clicks.data) == 0
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX))
    dock.controller.undo()
    assert dock.ids == []
    assert len(dock.boxes.data) == 0
    for _ in range(3):
        dock.controller.redo()
    wanted = expected(SHAPE, BOX, [(30, 30)], [True])
    np.testing.assert_array_equal(labelled(dock, 1), wanted)


def test_an_earlier_object_is_picked_up_and_corrected_further(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    draw_box(dock.boxes, OTHER)
    dock.controller.commit()
    dock.controller.pick(1)
    assert dock.session.current.id == 1
    assert len(dock.boxes.data) == 1
    dock.controller.set_foreground(False)
    click(dock.clicks, 10, 10)
    dock.controller.commit()
    np.testing.assert_array_equal(labelled(dock, 1), expected(SHAPE, BOX, [(10, 10)], [False]))
    np.testing.assert_array_equal(labelled(dock, 2), expected(SHAPE, OTHER))


def test_the_object_under_the_mouse_is_picked_up(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    dock.viewer.cursor.position = (10, 10)
    dock.controller.pick_at_cursor()
    assert dock.session.current.id == 1
    dock.controller.next_object()
    dock.viewer.cursor.position = (38, 48)
    dock.controller.pick_at_cursor()
    assert dock.hints


def test_a_label_that_was_there_is_corrected(dock):
    there = np.zeros(SHAPE, bool)
    there[3:9, 3:12] = True
    dock.labels.data[there] = 7
    dock.labels.selected_label = 7
    dock.controller.pick_selected_label()
    assert dock.session.current.id == 7
    np.testing.assert_array_equal(dock.preview, there)
    dock.controller.set_foreground(False)
    click(dock.clicks, 5, 5)
    dock.controller.commit()
    rows, cols = np.mgrid[:40, :50]
    wanted = there & ((rows - 5) ** 2 + (cols - 5) ** 2 > 9)
    np.testing.assert_array_equal(labelled(dock, 7), wanted)


def test_numbers_of_labels_that_were_there_are_not_given_again():
    viewer = ViewerModel()
    viewer.add_image(np.zeros(SHAPE))
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint16))
    labels.data[0, 0] = 41
    controller = SegmentController(viewer, at_once)
    controller.workspace.choice.choose("labels", labels)
    controller.start()
    controller.set_model(ImagePredictor())
    draw_box(controller.workspace.choice["boxes"], BOX)
    assert [one.id for one in controller.session.objects] == [42]


def test_a_label_too_large_for_the_type_makes_the_labels_wider(dock):
    dock.session.first_id = 65_536
    dock.controller.workspace.sync.set_targets()
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    assert dock.labels.data.dtype == np.uint32
    np.testing.assert_array_equal(labelled(dock, 65_536), expected(SHAPE, BOX))
    assert dock.failures == []


def test_many_objects_in_labels_that_napari_draws_whole_are_drawn_once_per_batch(dock):
    labels = dock.viewer.add_labels(np.zeros(SHAPE, np.int32))
    dock.controller.workspace.choice.choose("labels", labels)
    drawn = []
    dock.controller.set_live(False)
    dock.boxes.add([corners(row, col) for row in range(1, 36, 6) for col in range(1, 40, 8)])
    labels.events.set_data.connect(lambda _event: drawn.append(labels.data.max()))
    dock.controller.segment_all()
    assert len(dock.session.objects) == 30
    # 16 boxes are predicted together.
    assert drawn == [16, 30]


def test_bg_clicks_alone_wait_for_an_fg_click(dock):
    dock.controller.set_foreground(False)
    click(dock.clicks, 12, 12)
    assert dock.ids == []
    assert any("BG" in hint for hint in dock.hints)
    dock.controller.set_foreground(True)
    click(dock.clicks, 10, 10)
    assert dock.session.current.prompts.labels.tolist() == [False, True]


def test_discard_removes_the_object_and_undo_brings_it_back(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.discard()
    assert dock.ids == []
    assert len(dock.boxes.data) == 0
    dock.controller.undo()
    assert dock.ids == [1]
    assert len(dock.boxes.data) == 1


def test_the_rule_says_whose_pixels_are_shared(dock):
    near = (10.0, 10.0, 26.0, 30.0)
    for box, rule in ((BOX, "keep"), (near, "keep"), (near, "overwrite")):
        dock.controller.set_rule(rule)
        draw_box(dock.boxes, box)
        dock.controller.commit()
    first, second = expected(SHAPE, BOX), expected(SHAPE, near)
    np.testing.assert_array_equal(labelled(dock, 3), second)
    np.testing.assert_array_equal(labelled(dock, 1), first & ~second)


def test_without_live_nothing_is_predicted_before_it_is_asked_for(dock):
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    assert dock.predictor.calls == []
    dock.controller.predict()
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX))


def test_all_boxes_are_segmented_and_taken_back_by_one_undo(dock):
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    draw_box(dock.boxes, OTHER)
    steps = []
    dock.controller.progressed.connect(lambda *step: steps.append(step))
    dock.controller.segment_all()
    np.testing.assert_array_equal(labelled(dock, 1), expected(SHAPE, BOX))
    np.testing.assert_array_equal(labelled(dock, 2), expected(SHAPE, OTHER))
    assert steps[-1] == (2, 2)
    assert len(dock.boxes.data) == 0
    dock.controller.undo()
    assert not np.any(dock.labels.data)
    assert len(dock.boxes.data) == 2
    dock.controller.redo()
    assert len(dock.boxes.data) == 0


def test_boxes_of_a_layer_of_the_users_own_are_segmented_and_stay(dock):
    own = dock.viewer.add_shapes(
        [np.reshape(box, (2, 2)) for box in (BOX, OTHER)], shape_type="rectangle"
    )
    dock.controller.workspace.choice.choose("boxes", own)
    assert dock.ids == []
    dock.controller.segment_all()
    np.testing.assert_array_equal(labelled(dock, 2), expected(SHAPE, OTHER))
    assert len(own.data) == 2


@pytest.mark.parametrize("live", [True, False])
def test_segment_all_takes_all_boxes_at_once_whatever_live_is(live):
    hand = ByHand()
    dock = Dock(execute=hand)
    hand.run()
    batches = []
    dock.predictor.predict_many = lambda boxes: (
        batches.append(len(boxes)) or [dock.predictor.predict(box) for box in boxes]
    )
    dock.controller.set_live(live)
    places = [(r, c, r + 4.0, c + 4.0) for r in (2.0, 12.0) for c in (2.0, 12.0, 22.0, 32.0)]
    dock.boxes.add([np.array([[a, b], [a, d], [c, d], [c, b]]) for a, b, c, d in places])
    dock.controller.segment_all()
    hand.run()
    assert [one.committed for one in dock.session.objects] == [True] * 8
    assert batches == [8]
    assert len(dock.boxes.data) == 0
    dock.controller.undo()
    assert not np.any(dock.labels.data)
    assert len(dock.boxes.data) == 8


def test_segment_all_leaves_objects_with_clicks_to_the_user(dock):
    draw_box(dock.boxes, BOX)
    click(dock.clicks, 30, 40)
    draw_box(dock.boxes, OTHER)
    dock.controller.segment_all()
    assert [one.committed for one in dock.session.objects] == [False, True]


def test_segment_all_waits_for_the_model_that_it_asks_for():
    dock = Dock(predictor=False)
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    dock.controller.segment_all()
    assert dock.wanted
    dock.controller.set_model(dock.predictor, ModelRef("fake"))
    np.testing.assert_array_equal(labelled(dock, 1), expected(SHAPE, BOX))


# -- models ---------------------------------------------------------------------------------------


def test_the_first_prompt_asks_for_a_model_and_its_mask_comes_with_it():
    dock = Dock(predictor=False)
    assert dock.wanted == []
    draw_box(dock.boxes, BOX)
    assert dock.wanted
    dock.controller.set_model(dock.predictor, ModelRef("fake"))
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX))


def test_predict_without_live_waits_for_the_model():
    dock = Dock(predictor=False)
    dock.controller.set_live(False)
    draw_box(dock.boxes, BOX)
    assert dock.wanted == []
    dock.controller.predict()
    assert dock.wanted == [True]
    dock.controller.set_model(dock.predictor, ModelRef("fake"))
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX))


def test_another_model_keeps_labels_and_prompts_and_predicts_again(dock):
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    draw_box(dock.boxes, OTHER)
    before = dock.labels.data.copy()
    other = ImagePredictor()
    dock.controller.set_model(other, ModelRef("other"))
    np.testing.assert_array_equal(dock.labels.data, before)
    assert [prompts.box for prompts in other.calls] == [OTHER]


def test_a_model_that_fails_is_told_once_and_the_prompts_stay(dock):
    dock.predictor.errors = [RuntimeError("broken weights")]
    draw_box(dock.boxes, BOX)
    assert len(dock.failures) == 1
    assert "broken weights" in dock.failures[0]
    assert dock.session.current.prompts.box == BOX
    click(dock.clicks, 30, 30)
    np.testing.assert_array_equal(dock.preview, expected(SHAPE, BOX, [(30, 30)], [True]))


def test_a_full_memory_is_told_with_what_to_do(dock):
    dock.predictor.errors = [MemoryError("CPU allocator")]
    draw_box(dock.boxes, BOX)
    assert "not enough memory" in dock.failures[0]
    assert len(dock.boxes.data) == 1


# -- while a prediction runs ----------------------------------------------------------------------


@pytest.fixture
def slow():
    """A dock whose jobs run when `hand.run()` says so."""
    hand = ByHand()
    dock = Dock(execute=hand)
    hand.run()
    dock.hand = hand
    return dock


def test_commit_before_the_mask_is_there_writes_it_when_it_comes(slow):
    draw_box(slow.boxes, BOX)
    slow.controller.commit()
    assert not np.any(slow.labels.data)
    slow.hand.run()
    np.testing.assert_array_equal(labelled(slow, 1), expected(SHAPE, BOX))


@pytest.mark.parametrize("role", ["boxes", "clicks"])
def test_deleting_a_prompt_layer_keeps_the_prompts(slow, role):
    draw_box(slow.boxes, BOX)
    slow.viewer.layers.remove(getattr(slow, role))
    slow.hand.run()
    assert slow.session.current.prompts.box == BOX
    slow.controller.new_prompt_layers()
    assert len(slow.boxes.data) == 1
    np.testing.assert_array_equal(slow.preview, expected(SHAPE, BOX))


def test_deleting_the_labels_keeps_the_object_and_commit_makes_new_ones(slow):
    draw_box(slow.boxes, BOX)
    slow.viewer.layers.remove(slow.labels)
    slow.hand.run()
    slow.controller.commit()
    slow.hand.run()
    np.testing.assert_array_equal(labelled(slow, 1), expected(SHAPE, BOX))


def test_deleting_the_image_drops_the_prediction(slow):
    draw_box(slow.boxes, BOX)
    slow.viewer.layers.remove(slow.image)
    slow.hand.run()
    assert slow.session is None
    assert slow.failures == []


def test_the_colour_of_the_preview_follows_the_colormap_until_one_is_chosen(dock):
    def color():
        layer = dock.viewer.layers["Pi-SAM preview"]
        return [round(float(value), 2) for value in layer.get_color(1)[:3]]

    yellow = color()
    dock.image.colormap = "green"
    assert color() == [1.0, 0.25, 1.0]
    dock.image.colormap = "gray"
    assert color() == yellow
    dock.controller.set_look(0.4, outline=True, color="cyan")
    dock.image.colormap = "red"
    layer = dock.viewer.layers["Pi-SAM preview"]
    assert (color(), layer.opacity, layer.contour) == ([0.25, 1.0, 1.0], 0.4, 1)
    dock.viewer.layers.remove("Pi-SAM preview")
    draw_box(dock.boxes, BOX)
    layer = dock.viewer.layers["Pi-SAM preview"]
    assert (color(), layer.opacity, layer.contour) == ([0.25, 1.0, 1.0], 0.4, 1)


def test_deleting_the_preview_brings_it_back_with_the_next_mask(slow):
    draw_box(slow.boxes, BOX)
    slow.hand.run()
    slow.viewer.layers.remove("Pi-SAM preview")
    click(slow.clicks, 30, 30)
    slow.hand.run()
    np.testing.assert_array_equal(slow.preview, expected(SHAPE, BOX, [(30, 30)], [True]))


def test_another_image_drops_the_prediction_and_keeps_the_objects_of_the_first(slow):
    draw_box(slow.boxes, BOX)
    other = slow.viewer.add_image(np.ones(SHAPE), name="other")
    slow.controller.workspace.choice.choose("image", other)
    slow.hand.run()
    assert slow.ids == []
    assert len(slow.boxes.data) == 0
    slow.controller.workspace.choice.choose("image", slow.image)
    slow.hand.run()
    assert slow.ids == [1]
    assert len(slow.boxes.data) == 1
    np.testing.assert_array_equal(slow.preview, expected(SHAPE, BOX))


def test_another_model_during_a_prediction_gives_its_own_mask(slow):
    draw_box(slow.boxes, BOX)
    other = ImagePredictor()
    slow.controller.set_model(other, ModelRef("other"))
    slow.hand.run()
    assert len(other.calls) == 1
    assert slow.session.current.mask is not None
    assert not slow.session.current.stale


def test_cancel_ends_segment_all_and_keeps_what_is_done(slow):
    slow.controller.set_live(False)
    boxes = [(r, c, r + 4.0, c + 4.0) for r in (2.0, 10.0, 18.0, 26.0) for c in range(2, 40, 6)]
    for box in boxes:
        draw_box(slow.boxes, box)
    slow.controller.segment_all()
    slow.hand.step()
    slow.controller.cancel()
    slow.hand.run()
    assert 0 < len(slow.ids) < len(boxes)
    assert len(slow.boxes.data) == len(boxes) - len(slow.ids)


def test_closing_lets_results_that_come_later_do_nothing(slow):
    draw_box(slow.boxes, BOX)
    slow.controller.close()
    slow.hand.run()
    assert not slow.preview.any()
    draw_box(slow.boxes, OTHER)
    assert slow.hand.jobs == []


# -- stacks ---------------------------------------------------------------------------------------


def draw_in_plane(layer, plane, box):
    r0, c0, r1, c1 = box
    corners = [(r0, c0), (r0, c1), (r1, c1), (r1, c0)]
    layer.add(np.array([(plane, *corner) for corner in corners]), shape_type="rectangle")


def test_every_slice_has_objects_of_its_own_with_numbers_of_their_own():
    dock = Dock(np.zeros((3, *SHAPE)))
    dock.viewer.dims.set_point(0, 0)
    draw_in_plane(dock.boxes, 0, BOX)
    dock.controller.commit()
    dock.viewer.dims.set_point(0, 2)
    assert dock.ids == []
    draw_in_plane(dock.boxes, 2, OTHER)
    assert dock.ids == [2]
    dock.controller.commit()
    assert not dock.labels.data[1].any()
    np.testing.assert_array_equal(dock.labels.data[0] == 1, expected(SHAPE, BOX))
    np.testing.assert_array_equal(dock.labels.data[2] == 2, expected(SHAPE, OTHER))
    dock.viewer.dims.set_point(0, 0)
    assert dock.ids == [1]


def test_another_slice_during_a_prediction_drops_it_and_coming_back_gets_it():
    hand = ByHand()
    dock = Dock(np.zeros((3, *SHAPE)), execute=hand)
    dock.viewer.dims.set_point(0, 0)
    hand.run()
    draw_in_plane(dock.boxes, 0, BOX)
    dock.viewer.dims.set_point(0, 1)
    hand.run()
    assert dock.ids == []
    dock.viewer.dims.set_point(0, 0)
    hand.run()
    assert dock.session.current.mask.area == expected(SHAPE, BOX).sum()
    # The plane that is predicted on is the one that is looked at.
    assert dock.failures == []


def test_three_dimensions_are_refused_with_a_sentence_and_two_bring_everything_back():
    dock = Dock(np.zeros((3, *SHAPE)))
    draw_in_plane(dock.boxes, int(dock.viewer.dims.current_step[0]), BOX)
    dock.viewer.dims.ndisplay = 3
    assert dock.session is None
    assert "3D" in dock.controller.workspace.planes.problem
    dock.viewer.dims.ndisplay = 2
    assert dock.ids == [1]


def test_other_contrast_limits_are_what_the_next_prediction_sees(dock):
    draw_box(dock.boxes, BOX)
    dock.image.contrast_limits = (0.25, 0.5)
    click(dock.clicks, 30, 30)
    np.testing.assert_array_equal(dock.predictor.images[-1].contrast_limits, [[0.25, 0.5]])


def test_the_users_image_is_never_changed(dock):
    before = dock.image.as_layer_data_tuple()
    draw_box(dock.boxes, BOX)
    dock.controller.commit()
    after = dock.image.as_layer_data_tuple()
    assert after[0] is before[0]
    for name in ("scale", "translate", "rotate", "shear", "contrast_limits", "name"):
        np.testing.assert_array_equal(after[1][name], before[1][name])
