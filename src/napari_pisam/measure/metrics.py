"""Measures of one mask against the truth, and what a row of clicks amounts to.

Those that the saliency literature defines are in `napari_pisam.evaluate.saliency`.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_pisam.images.crops import extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BOUNDARY_SHARE = 0.02
"""Width of the band of the boundary IoU, by the image's diagonal (Cheng et al., 2021)."""


def check_pair(predicted: NDArray[np.generic], truth: NDArray[np.bool_]) -> None:
    """Check that a mask and the truth can be compared.

    Parameters
    ----------
    predicted : (H, W) array
    truth : (H, W) bool

    Raises
    ------
    ValueError
        If the shapes differ, or the truth is not a 2D bool array.
    """
    if predicted.shape != truth.shape or truth.ndim != 2:
        raise ValueError(
            f"The mask has shape {predicted.shape}, the truth {truth.shape}; expected the same "
            "(rows, cols). Save masks in the size of the image."
        )
    if truth.dtype != np.bool_:
        raise ValueError(f"The truth has dtype {truth.dtype}, expected bool. Pass one object.")


def as_mask(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Pixels of the object: of an (H, W) bool mask as it is, of a map in 0..1 above 0.5."""
    mask = values if values.dtype == np.bool_ else values.astype(np.float64) > 0.5
    return np.asarray(mask, dtype=np.bool_)


def overlap(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[int, int]:
    """Count the pixels of the intersection and of the union of two (H, W) bool masks."""
    return int(np.count_nonzero(predicted & truth)), int(np.count_nonzero(predicted | truth))


def iou(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of two (H, W) bool masks; 1 where both are empty."""
    shared, either = overlap(predicted, truth)
    return shared / either if either else 1.0


def boundary(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of a mask at most `width` px from its outside, the image border being outside.

    Parameters
    ----------
    mask : (H, W) bool
    width : int
        In px, counted as by erosions with a 3 x 3 square: along an axis or a diagonal.

    Returns
    -------
    (H, W) bool
    """
    inner = np.zeros_like(mask)
    window = extent(mask)
    if window is not None:
        padded = np.pad(mask[window], 1)
        depth = ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]
        inner[window] = mask[window] & (depth <= width)
    return inner


def boundary_iou(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], share: float = BOUNDARY_SHARE
) -> float:
    """Boundary IoU (Cheng et al., 2021): the IoU of the bands along the masks' inner edges.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    share : float
        Width of the band by the image's diagonal; at least one pixel.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_pair(predicted, truth)
    width = max(1, round(share * math.hypot(*truth.shape)))
    return iou(boundary(predicted, width), boundary(truth, width))


# -- along the boundary ------------------------------------------------------------------------

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
