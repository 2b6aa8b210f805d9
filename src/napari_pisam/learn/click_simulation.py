"""Where a user would click, given a mask and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_pisam.measure.click_rule import Click, evaluation_click, innermost

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Click", "evaluation_click", "innermost", "training_click"]


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


def _any_pixel(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    rows, cols = np.nonzero(region)
    i = int(rng.integers(len(rows)))
    return int(rows[i]), int(cols[i])
