"""What a click may change: only what is connected with it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pisam.predict.locality import keep_changes_at_clicks


def logits(*squares, side=40):
    values = np.full((side, side), -2.0, np.float32)
    for row, col, size in squares:
        values[row : row + size, col : col + size] = 3.0
    return values


def at(row, col):
    return np.array([[col + 0.5, row + 0.5]])


def test_what_a_foreground_click_adds_around_it_stays():
    before, after = logits((5, 5, 10)), logits((5, 5, 10), (20, 20, 8))
    keep_changes_at_clicks(before, after, at(22, 22), np.array([1]))
    assert np.array_equal(after, logits((5, 5, 10), (20, 20, 8)))


def test_what_is_added_or_removed_elsewhere_is_taken_back():
    before = logits((5, 5, 10), (30, 5, 5))
    after = logits((5, 5, 10), (20, 20, 8), (5, 30, 4))
    keep_changes_at_clicks(before, after, at(22, 22), np.array([1]))
    assert np.array_equal(after > 0, logits((5, 5, 10), (30, 5, 5), (20, 20, 8)) > 0)


def test_a_background_click_removes_and_adds_nothing():
    before, after = logits((5, 5, 10), (20, 20, 8)), logits((5, 5, 10), (22, 29, 8))
    keep_changes_at_clicks(before, after, at(24, 24), np.array([0]))
    assert np.array_equal(after > 0, logits((5, 5, 10)) > 0)


def test_a_line_that_goes_round_a_corner_is_one_change():
    before, after = logits(), logits()
    for i in range(10):
        after[5 + i, 5 + i] = 1.0
    keep_changes_at_clicks(before, after, at(5, 5), np.array([1]))
    assert (after > 0).sum() == 10


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_every_change_that_stays_is_connected_with_a_click_of_its_kind(seed):
    rng = np.random.default_rng(seed)
    before, after = (rng.normal(0, 1, (12, 12)).astype(np.float32) for _ in range(2))
    points, labels = rng.uniform(0, 12, (3, 2)), rng.integers(0, 2, 3)
    result = after.copy()
    keep_changes_at_clicks(before, result, points, labels)
    for flag in (0, 1):
        proposed = ((after > 0) if flag else ~(after > 0)) & ((before > 0) != (after > 0))
        # Grown from the clicks, a pixel at a time, as slowly as it gets.
        reached = np.zeros((12, 12), bool)
        for (x, y), label in zip(points, labels, strict=True):
            if label == flag:
                row, col = int(y), int(x)
                reached[max(row - 3, 0) : row + 4, max(col - 3, 0) : col + 4] = True
        reached &= proposed
        while True:
            grown = np.zeros_like(reached)
            for r, c in np.argwhere(reached):
                grown[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] = True
            grown &= proposed
            if (grown == reached).all():
                break
            reached = grown
        stays = ((result > 0) != (before > 0)) & ((result > 0) == bool(flag))
        assert np.array_equal(stays, reached)
