"""Clicked pixels have the asked value; nothing else changes without need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pisam.predict.obedience import obey_clicks


def test_a_contradicted_click_changes_a_small_spot():
    logits = np.full((100, 120), -6, np.float32)
    obey_clicks(logits, np.array([[60.5, 30.5]]), np.array([1]))
    inside = logits > 0
    assert inside[30, 60]
    assert 1 <= inside.sum() < 200
    rows, cols = np.nonzero(inside)
    assert np.hypot(rows - 30, cols - 60).max() < 10
    assert (logits[60:] == -6).all()


def test_an_obeyed_click_changes_nothing():
    logits = np.random.default_rng(0).normal(5, 0.5, (50, 50)).astype(np.float32)
    before = logits.copy()
    obey_clicks(logits, np.array([[10.5, 10.5], [30.2, 44.9]]), np.array([1, 1]))
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("place", [(0.0, 0.0), (50.0, 40.0), (0.2, 39.9)])
def test_a_click_on_the_border_is_obeyed(place):
    logits = np.full((40, 50), 8, np.float32)
    obey_clicks(logits, np.array([place]), np.array([0]))
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
    obey_clicks(logits, points, labels)
    for (x, y), label in zip(points, labels, strict=True):
        assert (logits[int(y), int(x)] > 0) == bool(label)
