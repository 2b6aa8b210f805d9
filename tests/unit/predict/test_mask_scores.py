from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.predict.scores import expected_iou, score


def logits(inside: float, outside: float) -> np.ndarray:
    values = np.full((40, 60), outside, dtype=np.float32)
    values[10:30, 20:40] = inside
    return values


def test_a_certain_mask_is_expected_to_be_all_right_and_none_to_be_worth_nothing() -> None:
    assert expected_iou(logits(30, -30)) == pytest.approx(1)
    assert expected_iou(logits(-5, -5)) == 0
    assert expected_iou(np.full((4, 4), 1e30, np.float32)) == 1


def test_the_expected_iou_is_that_of_the_pixels_probabilities_counted_by_hand() -> None:
    values = logits(1.5, -3)
    p = 1 / (1 + np.exp(-values.astype(np.float64)))
    inside = values > 0
    by_hand = p[inside].sum() / (inside.sum() + p[~inside].sum())
    assert expected_iou(values) == pytest.approx(by_hand, abs=1e-6)


def test_a_score_is_read_from_the_curve_at_the_expected_iou_and_held_at_its_ends() -> None:
    doubtful = logits(1.5, -3)
    expected = expected_iou(doubtful)
    assert 0.2 < expected < 0.8
    curve = ((0.1, 0.2), (0.9, 0.8))
    by_hand = 0.2 + 0.6 * (expected - 0.1) / 0.8
    # The network's estimate does not enter.
    assert score(0.4, doubtful, curve) == score(1.2, doubtful, curve) == pytest.approx(by_hand)
    assert score(0.4, logits(30, -30), curve) == pytest.approx(0.8)
    assert score(0.4, logits(-5, -5), curve) == pytest.approx(0.2)


def test_without_a_curve_a_score_is_what_the_network_says() -> None:
    assert score(0.123, logits(1, -1), ()) == 0.123
