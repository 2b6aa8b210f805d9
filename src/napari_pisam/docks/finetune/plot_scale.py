"""Ticks, ranges and thinned lines of a small plot. No Qt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Choose round values within a range, ``most`` + 1 of them at most.

    Examples
    --------
    >>> ticks(0.61, 0.8)
    [0.65, 0.7, 0.75, 0.8]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(round(place * step, 12)) for place in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Write a tick as short as it can be: ``"0.65"``, ``"1.2k"``."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def value_range(
    values: Sequence[NDArray[np.float64]], least: float, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """Find a range that shows values, spikes of the first per cent left out.

    Parameters
    ----------
    values : sequence of (n,) float arrays
        What is to be seen.
    least : float
        The range is at least that high, so that noise does not look like a trend.
    bounds : (float, float), optional
        Where the values can be at all.
    """
    found = [v[np.isfinite(v)] for v in values]
    whole = np.concatenate(found) if found else np.zeros(0)
    if not whole.size:
        return bounds or (0.0, 1.0)
    low, high = float(whole.min()), float(whole.max())
    if whole.size > 100:
        high = max(float(np.percentile(whole, 99)), *(float(v[-1]) for v in found if v.size))
    pad = max((high - low) * 0.08, (least - (high - low)) / 2)
    low, high = low - pad, high + pad
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return low, high


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Average each value with those before it, ``window`` in all (fewer at the start)."""
    if window <= 1 or values.size < 2:
        return values
    sums = np.cumsum(np.insert(values, 0, 0.0))
    stop = np.arange(1, values.size + 1)
    start = np.maximum(0, stop - window)
    averaged: NDArray[np.float64] = (sums[stop] - sums[start]) / (stop - start)
    return averaged


def thin(
    x: NDArray[np.float64], y: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave out points that nobody could tell apart; the last one stays."""
    if x.size <= most:
        return x, y
    places = np.unique(np.linspace(0, x.size - 1, most).round().astype(int))
    return x[places], y[places]
