from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pisam.learn.click_simulation import training_click, training_scribble
from napari_pisam.measure.click_rule import evaluation_click, innermost


def masks() -> tuple[np.ndarray, np.ndarray]:
    """A prediction that misses a one-px line and spills over a large square."""
    truth, predicted = np.zeros((100, 120), bool), np.zeros((100, 120), bool)
    truth[10, 5:100] = True
    predicted[40:90, 30:100] = True
    return predicted, truth


def test_a_training_click_lies_on_an_error_and_has_its_sign() -> None:
    predicted, truth = masks()
    for seed in range(50):
        click = training_click(predicted, truth, np.random.default_rng(seed))
        assert click is not None
        row, col, sign = click
        assert truth[row, col] == sign
        assert predicted[row, col] != sign


def test_missed_thin_foreground_is_clicked_as_often_as_spilled_background() -> None:
    predicted, truth = masks()
    rng = np.random.default_rng(0)
    signs = [training_click(predicted, truth, rng)[2] for _ in range(400)]  # type: ignore[index]
    # 400 fair coins: five standard deviations are 50.
    assert abs(sum(signs) - 200) < 50


def test_components_are_drawn_by_the_root_of_their_area() -> None:
    truth = np.zeros((60, 60), bool)
    truth[2:22, 2:22] = True  # 400 px
    truth[40:50, 40:50] = True  # 100 px
    rng = np.random.default_rng(0)
    empty = np.zeros_like(truth)
    rows = [training_click(empty, truth, rng)[0] for _ in range(600)]  # type: ignore[index]
    assert np.mean(np.array(rows) < 30) == pytest.approx(2 / 3, abs=0.1)


def test_a_scribble_stays_in_one_error_and_follows_it() -> None:
    predicted, truth = masks()
    for seed in range(50):
        places = training_scribble(predicted, truth, np.random.default_rng(seed), places=5)
        assert 1 < len(places) <= 5
        assert len(set(places)) == len(places)
        assert len({sign for _, _, sign in places}) == 1
        assert all(truth[row, col] == sign != predicted[row, col] for row, col, sign in places)
        if places[0][2]:
            assert {row for row, _, _ in places} == {10}
            cols = sorted(col for _, col, _ in places)
            # Not beyond a hand's reach: an eighth to a half of the longer side, to both ends.
            assert 120 / 8 <= cols[-1] - cols[0] <= 120


def test_without_an_error_there_is_no_click() -> None:
    _, truth = masks()
    assert training_scribble(truth, truth, np.random.default_rng(0)) == []
    assert training_click(truth, truth, np.random.default_rng(0)) is None
    assert evaluation_click(truth, truth) is None


def test_the_innermost_pixel_is_the_furthest_from_the_edge_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    region = ndimage.gaussian_filter(rng.standard_normal((40, 50)), 4) > 0.02
    row, col = innermost(region)
    outside = np.argwhere(~np.pad(region, 1)) - 1
    inside = np.argwhere(region)
    depth = np.array([np.hypot(*(outside - p).T).min() for p in inside])
    assert np.hypot(*(outside - [row, col]).T).min() == pytest.approx(depth.max())


def test_an_evaluation_click_goes_to_the_deepest_error_of_either_kind() -> None:
    predicted, truth = masks()
    row, col, sign = evaluation_click(predicted, truth)  # type: ignore[misc]
    assert (sign, 40 <= row < 90, 30 <= col < 100) == (False, True, True)
    assert min(row - 39, 90 - row) == 25


def test_an_evaluation_click_is_not_repeated() -> None:
    truth = np.zeros((5, 5), bool)
    truth[2, 2] = True
    clicked = np.zeros_like(truth)
    assert evaluation_click(np.zeros_like(truth), truth, clicked) == (2, 2, True)
    clicked[2, 2] = True
    assert evaluation_click(np.zeros_like(truth), truth, clicked) is None
