"""Where a user would click, given a mask and the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_pisam.measure.click_rule import innermost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.measure.click_rule import Click


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
    error = _drawn_error(predicted, truth, rng)
    if error is None:
        return None
    inside, (top, left), sign = error
    row, col = innermost(inside) if rng.random() < 0.5 else _any_pixel(inside, rng)
    return top + row, left + col, sign


def training_scribble(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    places: int = 6,
) -> list[Click]:
    """Draw the places of one scribble: a stroke inside one error, as `training_click` draws it.

    Parameters
    ----------
    predicted, truth : (H, W) bool
    rng
        Source of randomness.
    places : int
        At most.

    Returns
    -------
    list of (row, col, is_foreground)
        All of one connected error and of one sign, each as far from the others as the error
        allows: along a line where it is one. Empty if there is no error.
    """
    error = _drawn_error(predicted, truth, rng)
    if error is None:
        return []
    inside, (top, left), sign = error
    first = innermost(inside) if rng.random() < 0.5 else _any_pixel(inside, rng)
    pixels = np.argwhere(inside)
    # A hand reaches so far: a stroke is no longer than an eighth to a half of the frame.
    reach = rng.uniform(0.125, 0.5) * max(predicted.shape)
    away = np.hypot(*(pixels - first).T)
    pixels = pixels[away <= reach]
    away = away[away <= reach]
    found = [first]
    while len(found) < places and away.max() > 2:
        row, col = pixels[int(away.argmax())].tolist()
        found.append((row, col))
        away = np.minimum(away, np.hypot(*(pixels - (row, col)).T))
    return [(top + row, left + col, sign) for row, col in found]


def _drawn_error(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], tuple[int, int], bool] | None:
    """Draw a connected error: its pixels in its bounding box, where that begins, and its sign."""
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
    return components[box] == chosen, (box[0].start, box[1].start), sign


def _any_pixel(region: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    rows, cols = np.nonzero(region)
    i = int(rng.integers(len(rows)))
    return int(rows[i]), int(cols[i])
