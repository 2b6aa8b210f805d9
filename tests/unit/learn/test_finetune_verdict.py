"""Whether the best weights of a run count as better than their base, and how often by mistake."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.learn.finetune.scoring import ObjectScore
from napari_pisam.learn.finetune.verdict import compare, verdict

RUNS, VALIDATIONS = 400, 10


def scores(*values):
    return {i: ObjectScore((v, v), (v, v)) for i, v in enumerate(values)}


def runs(objects, spread, gain, likeness, seed=0):
    """(RUNS, VALIDATIONS, objects) values of runs that gain `gain` on average after a while.

    Half of the variance of an object's gains is its own and stays, half comes and goes; two
    validations that follow each other are alike by `likeness`.
    """
    rng = np.random.default_rng(seed)
    own = rng.normal(0, spread * 0.5**0.5, (RUNS, 1, objects))
    noise = np.empty((RUNS, VALIDATIONS, objects))
    noise[:, 0] = rng.normal(size=(RUNS, objects))
    for turn in range(1, VALIDATIONS):
        fresh = rng.normal(size=(RUNS, objects))
        noise[:, turn] = likeness * noise[:, turn - 1] + (1 - likeness**2) ** 0.5 * fresh
    ramp = gain * (1 - np.exp(-np.arange(1, VALIDATIONS + 1) / 2))
    return 0.7 + ramp[:, None] + own + noise * spread * 0.5**0.5


def share_better(values):
    base = [0.7] * values.shape[-1]
    return np.mean([compare(base, one).is_better for one in values])


@pytest.mark.parametrize("objects", [1, 2, 3, 4, 6, 10])
@pytest.mark.parametrize("spread", [0.03, 0.05])
@pytest.mark.parametrize("likeness", [0.0, 0.8])
def test_a_run_that_changes_nothing_is_rarely_better(objects, spread, likeness):
    # 0.125 is meant at most; two standard errors of the simulation are 0.03.
    assert share_better(runs(objects, spread, 0.0, likeness)) < 0.155


@pytest.mark.parametrize(
    ("objects", "spread", "least"),
    [(3, 0.03, 0.75), (4, 0.03, 0.9), (3, 0.045, 0.55), (4, 0.045, 0.7), (6, 0.045, 0.8),
     (6, 0.06, 0.6), (10, 0.06, 0.8)],
)  # fmt: skip
def test_a_gain_of_a_twentieth_is_mostly_found(objects, spread, least):
    assert share_better(runs(objects, spread, 0.05, 0.8)) > least


def test_the_best_of_many_validations_must_gain_more_than_a_single_one():
    base, once = [0.7] * 4, [0.73, 0.72, 0.71, 0.72]
    assert compare(base, [once]).is_better
    rng = np.random.default_rng(1)
    before = 0.7 + rng.normal(0, 0.03, (9, 4))
    assert not compare(base, [*before, once]).is_better


def test_many_that_gain_alike_are_better():
    found = compare([0.7] * 12, [[0.72] * 12])
    assert found.is_better
    assert found.chance == 2**-12


def test_many_more_objects_than_can_be_combined_are_compared():
    rng = np.random.default_rng(0)
    gains = rng.normal(0.02, 0.05, (3, 200))
    assert compare(np.zeros(200), gains).is_better
    assert not compare(np.zeros(200), gains - 0.02).is_better


def test_one_lucky_object_among_losers_proves_nothing():
    found = compare([0.7] * 4, [[0.95, 0.66, 0.68, 0.69]])
    assert found.gain > 0.04
    assert not found.is_better


def test_a_single_object_must_gain_much():
    assert not compare([0.7], [[0.79]]).is_better
    assert compare([0.7], [[0.81]]).is_better


def test_a_sure_gain_that_nobody_sees_does_not_count():
    assert not compare([0.7] * 8, [[0.703] * 8]).is_better


def test_a_loss_is_never_better():
    assert not compare([0.7] * 50, [[0.69] * 50] * 3).is_better


def test_the_verdict_names_the_numbers_and_what_to_keep():
    better, text = verdict(scores(*[0.5] * 3), scores(*[0.7] * 3), [[0.6] * 3, [0.7] * 3], "tiny")
    assert better
    assert text == (
        "Better: IoU 0.500 -> 0.700, boundary IoU 0.500 -> 0.700 on 3 validation objects (luck "
        "does as well in 12 of 100 runs that change nothing)."
    )
    worse, text = verdict(scores(0.5, 0.6), None, [], "tiny")
    assert not worse
    assert "Go on with tiny" in text
    unsure, text = verdict(scores(0.7), scores(0.71), [[0.71]], "tiny")
    assert not unsure
    assert "within chance (0.100)" in text
    tried = [[0.8, 0.7, 0.69]]
    unsure, text = verdict(scores(*[0.7] * 3), scores(*tried[0]), tried, "tiny")
    assert not unsure
    assert "50 of 100 runs" in text
