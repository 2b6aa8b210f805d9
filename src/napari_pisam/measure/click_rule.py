"""Where the next click goes when a mask is compared with the truth: the field's evaluation rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Click = tuple[int, int, bool]
"""(row, col, is foreground)."""


def evaluation_click(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    clicked: NDArray[np.bool_] | None = None,
    *,
    signs: tuple[bool, ...] = (True, False),
) -> Click | None:
    """Find the next click of RITM's evaluation rule (Sofiiuk et al., 2021).

    The pixel furthest from the edge of its error, of whichever kind reaches further (BG where
    both reach as far); the image border counts as an edge, and pixels clicked before are not
    clicked again.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    clicked : (H, W) bool, optional
        Pixels that have been clicked.
    signs : tuple of bool
        The kinds of click that may be given: ``True`` FG, ``False`` BG.

    Returns
    -------
    (row, col, is_foreground) or None
        ``None`` if there is nothing left to click.
    """
    best: tuple[float, Click] | None = None
    for sign in (True, False):
        error = truth & ~predicted if sign else predicted & ~truth
        if sign not in signs or not error.any():
            continue
        box = ndimage.find_objects(error.astype(np.uint8))[0]
        distance = depth_inside(error[box])
        if clicked is not None:
            distance = distance * ~clicked[box]
        row, col = np.unravel_index(int(distance.argmax()), distance.shape)
        depth = float(distance[row, col])
        if depth > 0 and (best is None or depth >= best[0]):
            best = depth, (box[0].start + int(row), box[1].start + int(col), sign)
    return None if best is None else best[1]


def depth_inside(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel of a (H, W) bool region from its edge, the border being one; px."""
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(region, 1))
    return distance[1:-1, 1:-1]


def innermost(region: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, col) of the pixel of ``region`` (H, W) that is furthest from its edge."""
    distance = depth_inside(region)
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(row), int(col)
