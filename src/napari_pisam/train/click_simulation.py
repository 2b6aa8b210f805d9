"""Where a user would click, given a mask and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Click = tuple[int, int, bool]
"""(row, col, is foreground)."""


def training_click(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], rng: np.random.Generator
) -> Click | None:
    """Draw one click from the error, at full resolution and without erosion.

    The sign is drawn first, with equal odds where both kinds of error exist, so that missed thin
    foreground is clicked as often as spilled background. Then a connected component, with
    probability proportional to the square root of its area; then a pixel of it: its innermost one
    or any, with equal odds.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    rng
        Source of randomness.

    Returns
    -------
    (row, col, is_foreground) or None
        ``None`` if there is no error.
    """
    missed, spilled = truth & ~predicted, predicted & ~truth
    signs = [(True, missed), (False, spilled)]
    present = [(sign, error) for sign, error in signs if error.any()]
    if not present:
        return None
    sign, error = present[rng.integers(len(present))]
    components, count = ndimage.label(error)
    areas = np.bincount(components.ravel(), minlength=count + 1)[1:]
    weights = np.sqrt(areas)
    chosen = 1 + int(rng.choice(count, p=weights / weights.sum()))
    box = ndimage.find_objects(components, max_label=chosen)[chosen - 1]
    inside = components[box] == chosen
    row, col = innermost(inside) if rng.random() < 0.5 else _any_pixel(inside, rng)
    return box[0].start + row, box[1].start + col, sign


def evaluation_click(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], clicked: NDArray[np.bool_] | None = None
) -> Click | None:
    """Give the next click of RITM's evaluation rule (Sofiiuk et al., 2021).

    The pixel furthest from the edge of its error, of whichever kind reaches further; the image
    border counts as an edge, and pixels clicked before are not clicked again.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    clicked : (H, W) bool, optional
        Pixels that have been clicked.

    Returns
    -------
    (row, col, is_foreground) or None
        ``None`` if there is nothing left to click.
    """
    best: tuple[float, Click] | None = None
    for sign, error in ((True, truth & ~predicted), (False, predicted & ~truth)):
        if not error.any():
            continue
        box = ndimage.find_objects(error.astype(np.uint8))[0]
        distance = ndimage.distance_transform_edt(np.pad(error[box], 1))[1:-1, 1:-1]
        if clicked is not None:
            distance = distance * ~clicked[box]
        row, col = np.unravel_index(int(distance.argmax()), distance.shape)
        depth = float(distance[row, col])
        if depth > 0 and (best is None or depth > best[0]):
            best = depth, (box[0].start + int(row), box[1].start + int(col), sign)
    return None if best is None else best[1]


def innermost(region: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, col) of the pixel of ``region`` (H, W) that is furthest from its edge."""
    distance = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(row), int(col)


def _any_pixel(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    rows, cols = np.nonzero(region)
    i = int(rng.integers(len(rows)))
    return int(rows[i]), int(cols[i])
