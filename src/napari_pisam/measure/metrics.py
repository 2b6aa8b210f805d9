"""Measures of one mask against the truth, and what a row of clicks amounts to.

Those that the saliency literature defines are in `napari_pisam.evaluate.saliency`.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_pisam.measure.agreement import (
    as_mask,
    boundary,
    boundary_iou,
    check_pair,
    extent,
    iou,
    overlap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "RADII",
    "as_mask",
    "boundary",
    "boundary_iou",
    "boundary_radii",
    "check_pair",
    "extent",
    "iou",
    "iou_after",
    "is_failure",
    "mean_absolute_error",
    "mean_boundary_accuracy",
    "number_of_clicks",
    "overlap",
    "worst_drop",
]

RADII = 5
"""How many radii the mean boundary accuracy is the mean of (CascadePSP, Cheng et al., 2020)."""


def boundary_radii(shape: tuple[int, int], smallest: float = 3.0) -> list[float]:
    """Radii of the mean boundary accuracy, px: evenly from `smallest` to (H + W) / 300.

    In images of fewer than 300 `smallest` rows and columns together all are `smallest`. The
    script published with CascadePSP starts at 1 px; its paper, and this, at 3.
    """
    largest = max(smallest, sum(shape) / 300)
    return [float(radius) for radius in np.linspace(smallest, largest, RADII)]


def mean_boundary_accuracy(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    radii: Sequence[float] | None = None,
) -> float:
    """Mean boundary accuracy, mBA (CascadePSP): share of right pixels near the true boundary.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    radii : sequence of float, optional
        How near, px, to the nearest pixel of the other kind; `boundary_radii` by default. The
        image border is no boundary.

    Returns
    -------
    float
        The mean over the radii. Without a boundary (a truth that is empty, or fills the image)
        the share of right pixels of the whole image.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_pair(predicted, truth)
    radii = boundary_radii(truth.shape) if radii is None else radii
    window = extent(truth)
    if window is None or truth.all():
        return float(np.mean(predicted == truth))
    # What is further away than the largest radius plays no part.
    margin = math.ceil(max(radii)) + 1
    rows, cols = (
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(window, truth.shape, strict=True)
    )
    inside = truth[rows, cols]
    right = predicted[rows, cols] == inside
    distance = np.where(
        inside,
        ndimage.distance_transform_edt(inside),
        ndimage.distance_transform_edt(~inside),
    )
    # A pixel of rounding: distances are square roots of whole numbers.
    shares = [float(right[distance <= radius + 1e-9].mean()) for radius in radii]
    return sum(shares) / len(shares)


def mean_absolute_error(predicted: NDArray[np.generic], truth: NDArray[np.bool_]) -> float:
    """MAE as the saliency literature measures it: a mask of values is stretched to 0..1 first.

    Parameters
    ----------
    predicted : (H, W) bool, or float in 0..1
    truth : (H, W) bool

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_pair(predicted, truth)
    values = predicted.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if high > low:
        values = (values - low) / (high - low)
    return float(np.abs(values - truth).mean())


# -- a row of clicks --------------------------------------------------------------------------


def iou_after(ious: Sequence[float], clicks: int) -> float:
    """IoU after some clicks; where nothing was left to click, that of the last mask.

    Parameters
    ----------
    ious : sequence of float
        IoU before the first click, after the first, and so on.
    clicks : int
        How many.
    """
    return ious[min(clicks, len(ious) - 1)]


def number_of_clicks(ious: Sequence[float], target: float, limit: int = 20) -> int:
    """NoC: clicks needed to reach an IoU, `limit` where they do not suffice.

    Parameters
    ----------
    ious : sequence of float
        IoU before the first click (0 needed where the box suffices), after the first, and so on.
    target : float
        In 0..1.
    limit : int
        Most clicks that count.
    """
    reached = (n for n, value in enumerate(ious[: limit + 1]) if value >= target)
    return next(reached, limit)


def is_failure(ious: Sequence[float], target: float, limit: int = 20) -> bool:
    """Whether an IoU is not reached within `limit` clicks (what NoF counts)."""
    return not any(value >= target for value in ious[: limit + 1])


def worst_drop(ious: Sequence[float]) -> float:
    """Largest fall of the IoU that a single click caused; 0 if none did."""
    falls = [before - after for before, after in itertools.pairwise(ious)]
    return max([0.0, *falls])
