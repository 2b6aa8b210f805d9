"""Whether the best weights of a run are better than their base, beyond what chance explains.

The best of many validations looks good by luck alone: of weights that are no better than their
base, four in ten beat it by a standard error somewhere along a run of ten validations. So the whole
run is compared with what it would be by chance. If training changed nothing on average, an object's
gains along the run might as well have been its losses; all of them are given the other sign for
some objects and not for others, in every combination, and in each the best validation is taken
anew. The gain counts if one combination in ten, at most, looks as good. That holds for any
spread of the gains, and however much alike the validations are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.learn.finetune.scoring import means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.learn.finetune.scoring import ObjectScore

_LEVEL = 0.1
# Three objects have 8 combinations and four 16: one in ten would be none, or hardly reached.
_FEW, _LEVEL_OF_FEW = 4, 1 / 8
# One or two objects have no combinations to speak of. Gains spread by 0.03 to 0.06 mostly; where
# they do by 0.05, the best of ten validations is beyond this (divided by the root of the number of
# objects) by luck in less than one run in ten.
_ALONE = 2
_USUAL_LUCK = 0.1
_LEAST_GAIN = 0.005
"""A smaller gain is of no use, however sure it is."""

_MOST_COMBINATIONS = 4096


@dataclass(frozen=True)
class Comparison:
    """The best weights of a run against their base, on the same objects.

    Attributes
    ----------
    gain : float
        Mean difference of `ObjectScore.value`. That of the best of several validations, so a
        little lucky.
    needed : float
        What it must reach at least.
    chance : float or None
        How often a run that changes nothing looks as good, at most; None with one or two objects.
    is_better : bool
        Whether the gain counts.
    """

    gain: float
    needed: float
    chance: float | None
    is_better: bool


def compare(base: Sequence[float], tried: ArrayLike) -> Comparison:
    """Compare the best of several validations with the base.

    Parameters
    ----------
    base : sequence of n float
        The objects' `ObjectScore.value` before training.
    tried : (k, n) array_like of float
        The same at each validation of the run, not only at the best one.
    """
    gains = np.asarray(tried, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    gain = float(gains.mean(axis=1).max())
    n = gains.shape[1]
    if n <= _ALONE:
        needed = _USUAL_LUCK / math.sqrt(n)
        return Comparison(gain, needed, None, gain >= needed)
    chance = _chance(gains)
    level = _LEVEL_OF_FEW if n <= _FEW else _LEVEL
    return Comparison(gain, _LEAST_GAIN, chance, gain >= _LEAST_GAIN and chance <= level)


def _chance(gains: NDArray[np.float64]) -> float:
    """Return the share of combinations of signs whose best validation is as good; gains (k, n)."""
    n = gains.shape[1]
    if 2**n <= _MOST_COMBINATIONS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:  # drawn, the one that was seen among them; the same ones every time
        rng = np.random.default_rng(0)
        signs = np.vstack([np.ones(n), rng.choice((1.0, -1.0), (_MOST_COMBINATIONS - 1, n))])
    best = (signs @ gains.T).max(axis=1)
    # A hair of rounding: what was seen, and what equals it, count.
    return float(np.mean(best >= best[0] - 1e-9))


FEWEST_STEPS = 20
"""With fewer steps than this, a run that is not better says little about its objects."""


def verdict(
    base: dict[int, ObjectScore],
    best: dict[int, ObjectScore] | None,
    tried: ArrayLike,
    name: str,
    steps: int = FEWEST_STEPS,
) -> tuple[bool, str]:
    """Say whether the best weights beat their base, and in a sentence why.

    Parameters
    ----------
    base : dict of int to ObjectScore
    best : dict of int to ObjectScore, optional
        None where no weights scored higher than the base.
    tried : (k, n) array_like of float
        As for `compare`, objects in the order of ``base``.
    name : str
        Of the base.
    steps : int
        How many were trained.
    """
    count = _objects(base)
    before = means(base)
    if best is None:
        return False, (
            f"Not better: no weights scored higher than {name} on {count} (IoU {before[0]:.3f}, "
            f"boundary IoU {before[1]:.3f}). {_advice(name, steps)}"
        )
    found = compare([score.value for score in base.values()], tried)
    numbers = _numbers(before, means(best), count)
    if found.is_better:
        return True, f"Better: {numbers}{_luck(found)}."
    why = f"the mean gain with clicks ({found.gain:+.3f}) is within chance"
    if found.chance is None:
        why += f" ({found.needed:.3f})"
    elif found.gain < found.needed:
        why = f"the mean gain with clicks ({found.gain:+.3f}) is below {found.needed}"
    return False, f"Not surely better: {numbers}; {why}{_luck(found)}. {_advice(name, steps)}"


def so_far(base: dict[int, ObjectScore], best: dict[int, ObjectScore] | None) -> str:
    """Say how a run looks before its end, which is no verdict."""
    count = _objects(base)
    before = means(base)
    if best is None:
        found = f"no weights score higher than the base on {count} yet (IoU {before[0]:.3f})"
    else:
        found = _numbers(before, means(best), count)
    return f"So far: {found}. The verdict comes at the end."


def _advice(name: str, steps: int) -> str:
    if steps < FEWEST_STEPS:
        taken = "1 step was" if steps == 1 else f"{steps} steps were"
        return f"Only {taken} trained, too few to tell: give it more time. Until then use {name}."
    return f"Go on with {name}, or correct more objects and train again."


def _objects(scores: dict[int, ObjectScore]) -> str:
    return f"{len(scores)} validation object{'s' if len(scores) > 1 else ''}"


def _numbers(before: tuple[float, float], after: tuple[float, float], count: str) -> str:
    return (
        f"IoU {before[0]:.3f} -> {after[0]:.3f}, boundary IoU {before[1]:.3f} -> {after[1]:.3f} "
        f"on {count}"
    )


def _luck(found: Comparison) -> str:
    if found.chance is None:
        return ""
    times = max(1, round(100 * found.chance))
    return f" (luck does as well in {times} of 100 runs that change nothing)"
