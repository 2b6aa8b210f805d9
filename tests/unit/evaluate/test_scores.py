"""Means over objects, sources and pixels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.evaluate.protocols import ClickRun
from napari_pisam.evaluate.scores import ClickScores, Scores

EMPTY = np.zeros((1, 1), bool)


def mask(width):
    result = np.zeros((10, 20), bool)
    result[:, :width] = True
    return result


def run(ious, obeyed=(), kept=None):
    clicks = [(0, 0, True)] * len(obeyed)
    kept = list(obeyed) if kept is None else kept
    return ClickRun(EMPTY, EMPTY, ious, [0.5] * len(ious), clicks, list(obeyed), kept)


def test_every_source_counts_the_same():
    scores = Scores()
    for _ in range(3):
        scores.add("many", mask(10), mask(10))
    scores.add("few", mask(5), mask(10))
    assert scores.mean()["iou"] == pytest.approx((1 + 0.5) / 2)
    assert scores.mean()["objects"] == 4


def test_dataset_iou_is_of_all_pixels_together():
    scores = Scores()
    scores.add("a", mask(2), mask(4))
    scores.add("a", mask(16), mask(16))
    assert scores.by_source()["a"]["dataset_iou"] == pytest.approx((20 + 160) / (40 + 160))
    assert scores.by_source()["a"]["iou"] == pytest.approx(0.75)


def test_a_map_counts_as_the_object_above_one_half():
    scores = Scores()
    values = scores.add("a", mask(10) * 0.8 + 0.1, mask(10))
    assert values["iou"] == 1
    assert values["mae"] == pytest.approx(0)  # stretched to 0..1


def test_noc_is_a_mean_and_nof_a_count():
    scores = ClickScores(20)
    scores.add("a", run([0.5, 0.92, 0.96], (True, True)))
    scores.add("a", run([0.5, 0.6], (False,)))
    scores.add("b", run([0.91]))
    means = scores.mean()
    assert means["noc_90"] == pytest.approx(((1 + 20) / 2 + 0) / 2)
    assert means["nof_90"] == 1
    assert means["nof_95"] == 2


def test_iou_after_clicks_holds_the_last_value():
    scores = ClickScores(5)
    scores.add("a", run([0.5, 0.8, 1.0], (True, True)))
    row = scores.by_source()["a"]
    assert [row[f"iou_{n}"] for n in (0, 1, 3, 5)] == [0.5, 0.8, 1.0, 1.0]
    assert "iou_10" not in row


def test_obeyed_is_a_share_of_clicks_not_of_objects():
    scores = ClickScores(20)
    scores.add("a", run([0, 0, 0, 0], (True, True, False), kept=[True, False, False]))
    scores.add("a", run([0, 0], (True,)))
    row = scores.by_source()["a"]
    assert row["obeyed"] == pytest.approx(3 / 4)
    assert row["kept"] == pytest.approx(2 / 4)


def test_worst_drop_is_a_mean_over_objects():
    scores = ClickScores(20)
    scores.add("a", run([0.5, 0.3, 0.9], (True, True)))
    scores.add("a", run([0.5, 0.9], (True,)))
    assert scores.by_source()["a"]["worst_drop"] == pytest.approx(0.1)


def test_no_objects_give_no_means():
    assert Scores().mean() == {}
    assert ClickScores().mean() == {}
