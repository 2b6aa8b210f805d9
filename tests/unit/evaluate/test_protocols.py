"""The click loop and the clicks of the tables, on systems whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from micro import micro_model
from napari_pisam.evaluate import protocols
from napari_pisam.measure.click_rule import evaluation_click
from napari_pisam.predict.predictor import Predictor


def truth_mask():
    truth = np.zeros((40, 50), bool)
    truth[10:30, 8:40] = True
    return truth


class Painter:
    """Starts from a mask; each click repaints a square around it as the truth has it."""

    def __init__(self, start, truth, reach=6, obeys=True):
        self.start, self.truth, self.reach, self.obeys = start, truth, reach, obeys
        self.asked = []

    def set_image(self, image):
        pass

    def predict(self, box=None, points=None, labels=None):
        self.asked.append((box, points, labels))
        mask = np.zeros_like(self.truth) if box is None else self.start.copy()
        for row, col in points or ():
            r, c = int(row), int(col)
            window = (
                slice(max(0, r - self.reach), r + self.reach + 1),
                slice(max(0, c - self.reach), c + self.reach + 1),
            )
            mask[window] = self.truth[window] if self.obeys else ~self.truth[window]
        return mask


def test_the_box_is_the_outer_edge_of_the_pixels():
    assert protocols.box_of(truth_mask()) == (9.5, 7.5, 29.5, 39.5)
    with pytest.raises(ValueError, match="The mask is empty"):
        protocols.box_of(np.zeros((3, 3), bool))


def test_clicks_go_on_until_the_mask_is_right():
    truth = truth_mask()
    painter = Painter(np.zeros_like(truth), truth)
    run = protocols.run_clicks(painter, truth, 20)
    assert run.ious[0] == 0
    assert run.ious[-1] == 1
    assert len(run.ious) == len(run.clicks) + 1 < 21
    assert all(run.obeyed)
    np.testing.assert_array_equal(run.last, truth)
    assert not run.first.any()


def test_every_prediction_gets_the_box_and_all_clicks_so_far():
    truth = truth_mask()
    painter = Painter(np.zeros_like(truth), truth, reach=2)
    run = protocols.run_clicks(painter, truth, 3)
    assert [len(points or ()) for _, points, _ in painter.asked] == [0, 1, 2, 3]
    assert {box for box, *_ in painter.asked} == {(9.5, 7.5, 29.5, 39.5)}
    assert painter.asked[-1][2] == [sign for *_, sign in run.clicks] == [True] * 3


def test_without_a_box_the_first_click_is_in_the_middle_of_the_object():
    truth = truth_mask()
    painter = Painter(truth, truth)
    run = protocols.run_clicks(painter, truth, 2, with_box=False)
    assert painter.asked[0][0] is None
    row, col, sign = run.clicks[0]
    depth = ndimage.distance_transform_edt(truth)
    assert sign
    assert depth[row, col] == depth.max()
    assert run.ious[0] == 0


def test_without_a_box_something_has_to_be_clicked():
    with pytest.raises(ValueError, match="first click is FG"):
        protocols.run_clicks(Painter(truth_mask(), truth_mask()), truth_mask(), 0, with_box=False)


def test_a_click_that_is_not_obeyed_is_counted_so_and_not_repeated():
    truth = truth_mask()
    run = protocols.run_clicks(Painter(np.zeros_like(truth), truth, 0, obeys=False), truth, 5)
    assert run.obeyed == [False] * 5
    assert len(set(run.clicks)) == 5


def test_kept_looks_at_all_clicks_so_far():
    truth = truth_mask()

    class Forgetful(Painter):
        def predict(self, box=None, points=None, labels=None):
            return super().predict(box, points and points[-1:], labels and labels[-1:])

    run = protocols.run_clicks(Forgetful(np.zeros_like(truth), truth, 1), truth, 3)
    assert run.obeyed == [True, True, True]
    assert run.kept == [True, False, False]


@pytest.mark.parametrize(("kind", "signs"), protocols.KINDS.items())
def test_only_clicks_of_the_asked_kind_are_given(kind, signs):
    truth = truth_mask()
    start = np.zeros_like(truth)
    start[20:38, 20:48] = True  # misses some, spills some
    run = protocols.run_clicks(Painter(start, truth, 2), truth, 6, signs=signs)
    given = {sign for *_, sign in run.clicks}
    assert given == {"both": {True, False}, "background": {False}, "foreground": {True}}[kind]


def test_where_both_errors_are_as_deep_the_click_is_background():
    truth, predicted = np.zeros((9, 20), bool), np.zeros((9, 20), bool)
    truth[2:7, 2:7] = True
    predicted[2:7, 12:17] = True
    assert evaluation_click(predicted, truth) == (4, 14, False)


def test_shared_clicks_lie_in_the_largest_errors_of_all_systems():
    truth = np.zeros((40, 60), bool)
    truth[2:12, 2:12] = True  # 100 px, missed by both
    truth[20:26, 20:26] = True  # 36 px, missed by one
    truth[30:34, 2:6] = True  # 16 px, missed by both
    first, second = np.zeros_like(truth), np.zeros_like(truth)
    first[20:26, 20:26] = True
    first[5:12, 40:49] = second[5:12, 40:49] = True  # 63 px, spilled by both
    second[30:40, 40:60] = True  # spilled by one
    clicks = protocols.shared_error_clicks([first, second], truth, 5)
    assert [sign for *_, sign in clicks] == [True, False, True]
    assert [truth[row, col] for row, col, _ in clicks] == [True, False, True]
    assert all(first[row, col] == second[row, col] for row, col, _ in clicks)
    assert protocols.shared_error_clicks([first, second], truth, 1) == clicks[:1]


def test_systems_that_share_no_error_get_no_click():
    truth = truth_mask()
    assert protocols.shared_error_clicks([truth, np.zeros_like(truth)], truth, 5) == []


def test_the_worst_have_the_smallest_mean_over_systems():
    ious = {"a": [0.9, 0.1], "b": [0.4, 0.4], "c": [0.8, 0.9], "d": [0.5, 0.5]}
    assert protocols.select_worst(ious, 3) == ["b", "a", "d"]


def test_a_predictor_is_a_system():
    image = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    predictor = Predictor(micro_model(), "cpu")
    predictor.set_image(image)
    run = protocols.run_clicks(predictor, truth_mask(), 2)
    expected = predictor.predict(box=(9.5, 7.5, 29.5, 39.5)).to_array()
    np.testing.assert_array_equal(run.first, expected)
    assert len(run.ious) == len(run.seconds) == 3


def test_a_mask_of_another_size_is_refused():
    class Wrong(Painter):
        def predict(self, box=None, points=None, labels=None):
            return np.zeros((3, 3), bool)

    with pytest.raises(ValueError, match="Save masks in the size"):
        protocols.run_clicks(Wrong(truth_mask(), truth_mask()), truth_mask(), 1)
