"""Whether new weights are better than their base, and how that is measured."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.evaluate import metrics
from napari_pisam.train.finetune.scoring import ObjectScore, boundary_iou, compare, verdict


def scores(*values):
    return {i: ObjectScore((v, v), (v, v)) for i, v in enumerate(values)}


@pytest.mark.parametrize("seed", range(4))
def test_the_boundary_iou_is_that_of_the_evaluation(seed):
    rng = np.random.default_rng(seed)
    blobs = rng.random((2, 12, 9)).repeat(8, axis=1).repeat(8, axis=2) > 0.4
    assert boundary_iou(*blobs) == pytest.approx(metrics.boundary_iou(*blobs))


def test_two_empty_masks_agree():
    assert boundary_iou(np.zeros((8, 8), bool), np.zeros((8, 8), bool)) == 1


def test_many_that_gain_alike_are_better():
    assert compare(scores(*[0.7] * 12), scores(*[0.72] * 12)).is_better


def test_one_lucky_object_among_losers_proves_nothing():
    base, new = scores(0.7, 0.7, 0.7, 0.7), scores(0.95, 0.66, 0.68, 0.69)
    comparison = compare(base, new)
    assert comparison.gain > 0.04
    assert not comparison.is_better


def test_a_single_object_must_gain_much():
    assert not compare(scores(0.7), scores(0.73)).is_better
    assert compare(scores(0.7), scores(0.76)).is_better


def test_a_loss_is_never_better():
    assert not compare(scores(*[0.7] * 50), scores(*[0.69] * 50)).is_better


def test_the_verdict_names_the_numbers_and_what_to_keep():
    better, text = verdict(scores(0.5, 0.6), scores(0.7, 0.8), "tiny")
    assert better
    assert (
        text == "Better: IoU 0.550 -> 0.750, boundary IoU 0.550 -> 0.750 on 2 validation objects."
    )
    worse, text = verdict(scores(0.5, 0.6), None, "tiny")
    assert not worse
    assert "Keep tiny" in text
    unsure, text = verdict(scores(0.7), scores(0.71), "tiny")
    assert not unsure
    assert "within chance" in text
