from __future__ import annotations

import numpy as np
import pytest

from recipes.tiny.calibration import Curves, error, fitted_curve, fitted_to, scored_by_others


def test_a_curve_finds_what_scores_were_worth() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.2, 0.9, 4000)
    was = np.clip(said**2 + rng.normal(0, 0.1, 4000), 0, 1)
    curve = fitted_curve(said.tolist(), was.tolist(), ["a"] * 4000)
    assert [pair[1] for pair in curve] == sorted(pair[1] for pair in curve)
    at = np.linspace(0.3, 0.8, 20)
    np.testing.assert_allclose(np.interp(at, *zip(*curve, strict=True)), at**2, atol=0.03)


def test_a_curve_never_falls_even_where_iou_does() -> None:
    said = np.linspace(0, 1, 200)
    curve = fitted_curve(said.tolist(), (1 - said).tolist(), ["a"] * 200)
    assert {round(pair[1], 3) for pair in curve} == {0.5}


def test_every_source_counts_the_same_in_a_curve() -> None:
    said = [*np.linspace(0.1, 0.9, 90), *np.linspace(0.1, 0.9, 9), *np.linspace(0.1, 0.9, 9)]
    curve = fitted_curve(said, [0.2] * 90 + [0.8] * 18, ["many"] * 90 + ["b"] * 9 + ["c"] * 9)
    np.testing.assert_allclose([pair[1] for pair in curve], 0.8, atol=0.03)


def test_one_score_alone_makes_no_curve() -> None:
    with pytest.raises(ValueError, match="different values"):
        fitted_curve([0.5] * 20, [0.1] * 20, ["a"] * 20)


def test_every_source_counts_the_same_in_the_error() -> None:
    rows = [{"source": "a", "fine": False, "said": 0.5, "iou": 0.4}] * 9
    rows += [{"source": "b", "fine": False, "said": 0.5, "iou": 0.8}]
    assert error(rows) == pytest.approx(0.2)
    assert error(rows, Curves(((0.0, 0.8), (1.0, 0.8)))) == pytest.approx((0.4 + 0) / 2)


def test_a_source_is_scored_by_the_others_alone() -> None:
    rows = [
        {"source": name, "fine": False, "said": said, "iou": iou}
        for name, iou in (("a", 0.3), ("b", 0.3), ("c", 0.9))
        for said in np.linspace(0.2, 0.8, 12)
    ]
    scored = {row["source"]: row["said"] for row in scored_by_others(rows)}
    assert scored["c"] == pytest.approx(0.3, abs=0.03)
    assert len(scored_by_others(rows)) == len(rows)


def test_each_of_two_answers_is_scored_by_a_curve_of_its_own() -> None:
    rows = [
        {"source": name, "fine": fine, "said": said, "iou": said / 2 if fine else said}
        for name in "abc"
        for fine in (False, True)
        for said in np.linspace(0.2, 0.8, 12)
    ]
    assert error(rows, fitted_to(rows)) < 0.02
    assert error(rows, Curves(fitted_to(rows).solid)) > 0.1
    assert error(scored_by_others(rows)) < 0.02


def test_masks_of_one_answer_alone_make_one_curve() -> None:
    rows = [
        {"source": "a", "fine": False, "said": said, "iou": said} for said in (0.2, 0.4, 0.6, 0.8)
    ]
    assert fitted_to(rows).fine == ()
