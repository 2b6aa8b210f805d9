"""The controller follows images, and looking at objects changes nothing: on a viewer model."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from fake_dock import ImagePredictor, click, draw_box, expected
from fake_session import at_once
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.hints import hint
from napari_pisam.docks.segment.object_table import ObjectTable
from napari_pisam.docks.segment.rows import ListedObject
from napari_pisam.session.session import ModelRef

SHAPE = (40, 50)
BOX = (5.0, 6.0, 20.0, 24.0)
OTHER = (22.0, 30.0, 34.0, 44.0)


class Dock:
    """A controller that was opened before there was an image."""

    def __init__(self):
        self.viewer, self._later = ViewerModel(), []
        self.controller = SegmentController(self.viewer, at_once, self._later.append)
        self.controller.start()
        self.controller.set_model(ImagePredictor(), ModelRef("fake"))

    def settle(self):
        """Let happen what waits for napari to have finished."""
        while self._later:
            self._later.pop(0)()

    def __getattr__(self, role):
        self.settle()
        return self.controller.workspace.choice[role]

    @property
    def session(self):
        self.settle()
        return self.controller.session

    @property
    def hint(self):
        self.settle()
        work, tools = self.controller.workspace, self.controller.tools
        return hint(work, tools.role, is_loading=False)

    def commit(self, box):
        draw_box(self.boxes, box)
        self.controller.commit()

    def written(self, number):
        return np.asarray(self.labels.data) == number


@pytest.fixture
def dock():
    made = Dock()
    made.viewer.add_image(np.zeros(SHAPE), name="cells")
    made.settle()
    return made


def test_an_image_that_comes_later_gets_its_layers_and_the_hint_says_what_to_do():
    dock = Dock()
    assert dock.hint == "Open an image to begin: it is taken by itself."
    dock.viewer.add_image(np.zeros(SHAPE), name="cells")
    assert dock.boxes is dock.viewer.layers["cells boxes"]
    assert dock.clicks is dock.viewer.layers["cells clicks"]
    assert dock.controller.tools.role == "boxes"
    assert dock.hint == "Draw a box around an object, or click on it."


@pytest.mark.parametrize("shape", [SHAPE, (30, 60), (3, 40, 50)])
def test_an_image_in_place_of_another_can_be_worked_on(dock, shape):
    dock.commit(BOX)
    dock.viewer.layers.remove("cells")
    dock.viewer.add_image(np.ones(shape), name="other")
    assert dock.image.name == "other"
    assert dock.session.objects == ()
    dock.controller.draw_box()
    assert dock.controller.tools.role == "boxes"
    corners = np.array([[5, 6], [5, 24], [20, 24], [20, 6]], float)
    if len(shape) == 3:
        place = int(dock.viewer.dims.current_step[0])
        corners = np.column_stack([np.full(4, place), corners])
    dock.boxes.add(corners, shape_type="rectangle")
    assert dock.session.current.prompts.box == BOX
    dock.controller.commit()
    assert dock.session.objects[0].committed


def test_all_layers_in_place_of_all_others(dock):
    dock.commit(BOX)
    dock.viewer.layers.clear()
    assert dock.hint.startswith("Open an image")
    dock.viewer.add_image(np.ones((30, 60)), name="other")
    assert dock.boxes.name == "other boxes"
    dock.commit(BOX)
    assert dock.labels.name == "other labels"
    assert dock.written(1).any()


def test_the_box_key_makes_the_layer_that_was_deleted(dock):
    dock.viewer.layers.remove(dock.boxes)
    assert dock.hint.startswith("Press New prompt layers")
    dock.controller.draw_box()
    assert dock.controller.tools.role == "boxes"
    assert dock.hint == "Draw a box around an object, or click on it."


def test_no_image_is_taken_where_none_was_chosen_by_hand(dock):
    dock.controller.workspace.choice.choose("image", None)
    assert dock.image is None
    assert dock.hint == "Choose the image to segment under Layers."


def test_looking_at_an_object_leaves_it_in_the_labels_and_the_view_goes_there(dock):
    dock.commit(BOX)
    dock.commit(OTHER)
    before = dock.labels.data.copy()
    dock.controller.show(1)
    np.testing.assert_array_equal(dock.labels.data, before)
    assert dock.session.current.id == 1
    centre = getattr(dock.viewer, "scene", dock.viewer).camera.center
    np.testing.assert_allclose(centre[-2:], (12.5, 15), atol=1)
    assert dock.hint.startswith("Object 1 is in the labels. Click")
    assert dock.controller.tools.role == "clicks"
    dock.controller.next_object()
    np.testing.assert_array_equal(dock.labels.data, before)


def test_the_first_click_after_looking_corrects_the_object(dock):
    dock.commit(BOX)
    dock.commit(OTHER)
    dock.controller.show(1)
    dock.controller.set_foreground(False)
    click(dock.clicks, 10, 10)
    one = dock.session.current
    assert (one.id, one.committed, one.prompts.box) == (1, False, BOX)
    assert one.prompts.labels.tolist() == [False]
    assert len(dock.boxes.data) == len(dock.clicks.data) == 1
    click(dock.clicks, 18, 20)
    dock.controller.commit()
    wanted = expected(SHAPE, BOX, [(10, 10), (18, 20)], [False, False])
    np.testing.assert_array_equal(dock.written(1), wanted)
    np.testing.assert_array_equal(dock.written(2), expected(SHAPE, OTHER))


def test_a_box_after_looking_begins_another_object(dock):
    dock.commit(BOX)
    dock.controller.show(1)
    draw_box(dock.boxes, OTHER)
    assert [one.id for one in dock.session.objects] == [1, 2]
    assert dock.session.objects[0].committed


@pytest.mark.parametrize("leave", ["next", "show", "box", "pick", "slice", "close"])
def test_an_object_that_was_picked_up_and_not_changed_goes_back(dock, leave):
    dock.commit(BOX)
    dock.commit(OTHER)
    before, session = dock.labels.data.copy(), dock.session
    dock.controller.pick(1)
    assert not dock.written(1).any()
    {
        "next": dock.controller.next_object,
        "show": lambda: dock.controller.show(2),
        "box": lambda: draw_box(dock.boxes, (30.0, 2.0, 38.0, 20.0)),
        "pick": lambda: dock.controller.pick(2),
        "slice": lambda: dock.controller.workspace.choice.choose("image", None),
        "close": lambda: dock.controller.close(viewer_stays=True),
    }[leave]()
    np.testing.assert_array_equal(dock.written(1), before == 1)
    assert session.get(1).committed
    if leave == "pick":
        assert not dock.written(2).any()


def test_an_object_that_was_changed_stays_open(dock):
    dock.commit(BOX)
    dock.controller.pick(1)
    click(dock.clicks, 10, 10)
    dock.controller.next_object()
    assert not dock.session.get(1).committed
    assert not dock.written(1).any()


def test_a_label_that_was_picked_up_and_not_changed_goes_back(dock):
    dock.labels.data[3:9, 3:12] = 7
    before = dock.labels.data.copy()
    dock.controller.pick(7)
    assert not dock.labels.data.any()
    dock.controller.next_object()
    np.testing.assert_array_equal(dock.labels.data, before)


def test_a_row_says_that_its_label_was_erased_and_when_it_is_back(dock):
    table = ObjectTable(dock.controller.workspace, at_once, lambda call: call())

    def states():
        return [row.status for row in table.rows()]

    dock.commit(BOX)
    dock.commit(OTHER)
    assert states() == ["committed", "committed"]
    kept = dock.labels.data.copy()
    dock.labels.data[kept == 1] = 0
    dock.labels.refresh()
    assert states() == ["erased", "committed"]
    # One pixel is enough to be there.
    dock.labels.data[5, 6] = 1
    dock.labels.refresh()
    assert states() == ["committed", "committed"]


def test_low_scores_are_marked_and_sorted_as_numbers():
    low = ListedObject(10, 0.3, None, "preview", (0.0, 0.0, 0.0))
    high = ListedObject(9, 0.9, 1000, "committed", (0.0, 0.0, 0.0))
    assert (low.text("score"), high.text("score")) == ("low 0.30", "0.90")
    keys = ("id", "score", "area_px", "status")
    assert [sorted([low, high], key=lambda one: one.sort_key(c))[0].id for c in keys] == [
        9,
        10,
        10,
        9,
    ]
