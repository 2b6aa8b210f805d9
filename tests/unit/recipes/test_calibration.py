from __future__ import annotations

import numpy as np
import pytest

from recipes.tiny.calibration import error, fitted_curve


def test_a_curve_finds_what_scores_were_worth() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(0.2, 0.9, 4000)
    was = np.clip(said**2 + rng.normal(0, 0.1, 4000), 0, 1)
    curve = fitted_curve(said.tolist(), was.tolist())
    assert len(curve) <= 12
    assert [pair[1] for pair in curve] == sorted(pair[1] for pair in curve)
    at = np.linspace(0.3, 0.8, 20)
    np.testing.assert_allclose(np.interp(at, *zip(*curve, strict=True)), at**2, atol=0.03)


def test_a_curve_never_falls_even_where_iou_does() -> None:
    said = np.linspace(0, 1, 200)
    curve = fitted_curve(said.tolist(), (1 - said).tolist())
    assert {round(pair[1], 3) for pair in curve} == {0.5}


def test_one_score_alone_makes_no_curve() -> None:
    with pytest.raises(ValueError, match="different values"):
        fitted_curve([0.5] * 20, [0.1] * 20)


def test_every_source_counts_the_same_in_the_error() -> None:
    rows = [{"source": "a", "said": 0.5, "iou": 0.4}] * 9
    rows += [{"source": "b", "said": 0.5, "iou": 0.8}]
    assert error(rows) == pytest.approx(0.2)
    assert error(rows, ((0.0, 0.8), (1.0, 0.8))) == pytest.approx((0.4 + 0) / 2)
