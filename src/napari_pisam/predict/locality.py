"""A click changes the place where it was made: what changes elsewhere is taken back.

A network that was asked for a correction looks at everything again. What it changes far from the
clicks is rarely better than what was there, and never what the user asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REACH = 3
"""Changes this near to a click are made by it, px of the frame."""


def keep_changes_at_clicks(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    points: NDArray[np.floating],
    labels: NDArray[np.integer],
) -> None:
    """Take back what no click asked for, in place.

    Of the pixels that change sides, those stay changed that are connected with a click of that
    kind: added ones with an FG click, removed ones with a BG click.

    Parameters
    ----------
    before : (h, w) float32 array
        Logits without these clicks.
    after : (h, w) float32 array
        Logits with them; changed.
    points : (n, 2) float array
        (x, y) px, pixel centres at +0.5, inside.
    labels : (n,) int array
        1 FG, 0 BG.
    """
    height, width = after.shape
    cells = np.clip(np.floor(points).astype(int), 0, [width - 1, height - 1])
    was, becomes = before > 0, after > 0
    refused = np.zeros_like(was)
    for flag, changed in ((1, becomes & ~was), (0, was & ~becomes)):
        # Eight neighbours: a line one pixel wide is one change.
        parts, _ = ndimage.label(changed, np.ones((3, 3)))
        asked: set[int] = set()
        for (col, row), label in zip(cells, labels, strict=True):
            if label == flag:
                rows = slice(max(row - _REACH, 0), row + _REACH + 1)
                cols = slice(max(col - _REACH, 0), col + _REACH + 1)
                asked.update(np.unique(parts[rows, cols]).tolist())
        refused |= changed & ~np.isin(parts, sorted(asked - {0}))
    after[refused] = before[refused]
