"""How well a mask agrees with the truth: IoU, and boundary IoU; for training and evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Slices = tuple[slice, slice]

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


def extent(mask: NDArray[np.bool_]) -> Slices | None:
    """Rows and columns of the True pixels of a (H, W) bool mask; None without any."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


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
