"""A mask's score: what its IoU is likely to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def expected_iou(logits: NDArray[np.float32]) -> float:
    """IoU of a mask with the object, if the probability of every pixel were right.

    Parameters
    ----------
    logits : (h, w) float32 array
        Above 0 is the mask.

    Returns
    -------
    float
        Expected intersection by expected union, each of the pixels one by one; 0 for no mask.
    """
    # Every second pixel says the same in a quarter of the time.
    values = logits[::2, ::2]
    inside = values > 0
    # exp(-|x|) / (1 + exp(-|x|)): how likely the less likely side is.
    doubt = np.exp(-np.abs(values))
    doubt /= 1 + doubt
    size = np.count_nonzero(inside)
    wrong = float(doubt[inside].sum())
    missed = float(doubt.sum()) - wrong
    return (size - wrong) / (size + missed) if size else 0.0


def score(
    estimate: float, logits: NDArray[np.float32], curve: Sequence[tuple[float, float]]
) -> float:
    """Score a mask.

    Parameters
    ----------
    estimate : float
        The network's own estimate of the IoU, made before any correction; all there is without a
        curve.
    logits : (h, w) float32 array
        Of the mask, corrections included.
    curve : sequence of (float, float)
        What `expected_iou` was worth on images that were in no training, rising; belongs to the
        weights. The estimate does not enter: it knows nothing of clicks, and beside the expected
        IoU it made scores no better on sources that the curve was not fitted to.

    Returns
    -------
    float
        From 0 to 1 with a curve.
    """
    if not curve:
        return estimate
    said, was = zip(*curve, strict=True)
    return float(np.interp(expected_iou(logits), said, was))
