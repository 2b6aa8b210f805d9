"""What a click changes: what is connected with it, and surely the clicked pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pisam.predict.clicks import ClickPolicy

POLICY = ClickPolicy()


def logits(*squares, side=40):
    values = np.full((side, side), -2.0, np.float32)
    for row, col, size in squares:
        values[row : row + size, col : col + size] = 3.0
    return values


def at(row, col):
    return np.array([[col + 0.5, row + 0.5]])


def test_what_a_foreground_click_adds_around_it_stays():
    before, after = logits((5, 5, 10)), logits((5, 5, 10), (20, 20, 8))
    POLICY.keep_local(before, after, at(22, 22), np.array([1]))
    assert np.array_equal(after, logits((5, 5, 10), (20, 20, 8)))


def test_what_is_added_or_removed_elsewhere_is_taken_back():
    before = logits((5, 5, 10), (30, 5, 5))
    after = logits((5, 5, 10), (20, 20, 8), (5, 30, 4))
    POLICY.keep_local(before, after, at(22, 22), np.array([1]))
    assert np.array_equal(after > 0, logits((5, 5, 10), (30, 5, 5), (20, 20, 8)) > 0)


def test_a_background_click_removes_and_adds_nothing():
    before, after = logits((5, 5, 10), (20, 20, 8)), logits((5, 5, 10), (22, 29, 8))
    POLICY.keep_local(before, after, at(24, 24), np.array([0]))
    assert np.array_equal(after > 0, logits((5, 5, 10)) > 0)


def test_a_line_that_goes_round_a_corner_is_one_change():
    before, after = logits(), logits()
    for i in range(10):
        after[5 + i, 5 + i] = 1.0
    POLICY.keep_local(before, after, at(5, 5), np.array([1]))
    assert (after > 0).sum() == 10


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_every_change_that_stays_is_connected_with_a_click_of_its_kind(seed):
    rng = np.random.default_rng(seed)
    before, after = (rng.normal(0, 1, (12, 12)).astype(np.float32) for _ in range(2))
    points, labels = rng.uniform(0, 12, (3, 2)), rng.integers(0, 2, 3)
    result = after.copy()
    POLICY.keep_local(before, result, points, labels)
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


# -- obedience -----------------------------------------------------------------------------------


def test_a_contradicted_click_changes_a_small_spot():
    logits = np.full((100, 120), -6, np.float32)
    POLICY.obey(logits, np.array([[60.5, 30.5]]), np.array([1]))
    inside = logits > 0
    assert inside[30, 60]
    assert 1 <= inside.sum() < 200
    rows, cols = np.nonzero(inside)
    assert np.hypot(rows - 30, cols - 60).max() < 10
    assert (logits[60:] == -6).all()


def test_an_obeyed_click_changes_nothing():
    logits = np.random.default_rng(0).normal(5, 0.5, (50, 50)).astype(np.float32)
    before = logits.copy()
    POLICY.obey(logits, np.array([[10.5, 10.5], [30.2, 44.9]]), np.array([1, 1]))
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("place", [(0.0, 0.0), (50.0, 40.0), (0.2, 39.9)])
def test_a_click_on_the_border_is_obeyed(place):
    logits = np.full((40, 50), 8, np.float32)
    POLICY.obey(logits, np.array([place]), np.array([0]))
    col, row = min(int(place[0]), 49), min(int(place[1]), 39)
    assert logits[row, col] < 0


@given(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()),
        min_size=1,
        max_size=8,
        unique_by=lambda click: click[:2],
    ),
    st.integers(0, 100),
)
@settings(max_examples=50, deadline=None)
def test_clicks_a_few_pixels_apart_are_all_obeyed(clicks, seed):
    logits = np.random.default_rng(seed).normal(0, 4, (96, 96)).astype(np.float32)
    points = np.array([(12 * col + 4.5, 12 * row + 4.5) for row, col, _ in clicks])
    labels = np.array([int(sign) for *_, sign in clicks])
    POLICY.obey(logits, points, labels)
    for (x, y), label in zip(points, labels, strict=True):
        assert (logits[int(y), int(x)] > 0) == bool(label)


def test_the_last_click_is_followed_and_part_of_the_change_held_back():
    before, change = logits((5, 5, 10)), np.zeros((40, 40), np.float32)
    change[20:28, 20:28], change[28:36, 20:28] = 10.0, 2.2
    after = ClickPolicy(held_back=0.2).follow(before, before, change, at(22, 22), np.array([1]))
    np.testing.assert_allclose(after[20:28, 20:28], 6.0)
    assert not (after[28:36] > 0).any()
    bold = ClickPolicy(held_back=0.0).follow(before, before, change, at(22, 22), np.array([1]))
    assert (bold[20:36, 20:28] > 0).all()


def test_a_background_click_that_would_take_most_of_an_object_takes_what_is_near_it():
    # The network answered the veins of a leaf instead of its blade after a click beside a vein.
    before = logits((5, 5, 30))
    change = np.zeros((40, 40), np.float32)
    change[5:35, 5:35] = -10.0
    change[20, 10:30] = 0.0
    after = POLICY.follow(before, before, change, at(12, 12), np.array([0]))
    taken = np.argwhere((before > 0) & (after <= 0))
    assert after[12, 12] <= 0
    # A twentieth of the object, and as much again or two where it fades out.
    assert 0.05 * 900 <= len(taken) <= 0.2 * 900
    assert np.hypot(*(taken - (12, 12)).T).max() < 10
    assert (after[22:35, 5:35] > 0).all()


def test_a_background_click_takes_a_smaller_part_as_a_whole():
    before = logits((5, 5, 30))
    change = np.zeros((40, 40), np.float32)
    change[5:18, 5:35] = -10.0
    after = POLICY.follow(before, before, change, at(12, 12), np.array([0]))
    assert np.array_equal(after > 0, (before > 0) & (change == 0))


def test_a_foreground_click_may_add_more_than_there_was():
    before, change = logits((5, 5, 4)), np.zeros((40, 40), np.float32)
    change[9:39, 5:35] = 10.0
    after = POLICY.follow(before, before, change, at(20, 20), np.array([1]))
    assert (after > 0)[9:39, 5:35].all()


def test_a_longer_reach_lets_a_click_change_more():
    before, after = logits(), logits((20, 20, 5))
    for reach, stays in ((3, False), (8, True)):
        result = after.copy()
        ClickPolicy(reach=reach).keep_local(before, result, at(13, 22), np.array([1]))
        assert (result > 0).any() == stays


ROWS, COLS = np.ogrid[:64, :64]
DISC = (ROWS - 32) ** 2 + (COLS - 32) ** 2 < 24**2
LINES = DISC & (COLS % 12 < 2)


@pytest.mark.parametrize(
    ("row", "col", "label", "shown", "asks"),
    [
        # Lines were shown, and what lies between them is asked for.
        (32, 31, 1, LINES, True),
        # A disc was shown, and the middle of what lies between its lines is not wanted.
        (32, 31, 0, DISC, True),
        # The disc's rim is to be mended, or a hole in it: the disc is what is meant.
        (32, 10, 0, DISC, False),
        (32, 55, 1, DISC, False),
        # A click that the other answer would not follow either.
        (2, 2, 1, LINES, False),
        (32, 36, 0, LINES, False),
    ],
)
def test_a_click_in_the_middle_of_what_the_other_answer_mends_asks_for_it(
    row, col, label, shown, asks
):
    other = LINES if shown is DISC else DISC
    assert POLICY.asks_for(other, shown, at(row, col), np.array([label])) is asks


def test_an_answer_that_is_nearly_the_same_is_not_asked_for():
    other = DISC.copy()
    other[8:12] = False
    assert not POLICY.asks_for(other, DISC, at(9, 32), np.array([0]))
