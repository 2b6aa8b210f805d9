"""A clicked pixel gets the value that was asked for, whatever the network thinks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A click that is not obeyed is put through this far around it, px of the frame: no further than
# needed.
_SIGMA = 1.5
# Clicks closer than this to each other contradict each other at the pixel; the later one counts.
_SWEEPS = 4


def obey_clicks(
    logits: NDArray[np.float32], points: NDArray[np.floating], labels: NDArray[np.integer]
) -> None:
    """Change logits around the clicks that they contradict, in place.

    A Gaussian spot just high enough for the clicked pixel to change sides is added there; where
    the network obeys, nothing changes.

    Parameters
    ----------
    logits : (h, w) float32 array
        Above 0 is the object.
    points : (n, 2) float array
        (x, y) px, pixel centres at +0.5, inside.
    labels : (n,) int array
        1 FG, 0 BG.
    """
    height, width = logits.shape
    reach = int(np.ceil(4 * _SIGMA))
    cells = np.clip(np.floor(points).astype(int), 0, [width - 1, height - 1])
    # A spot may reach a click beside it: a few sweeps settle both.
    for _ in range(_SWEEPS):
        changed = False
        for (col, row), label in zip(cells, labels, strict=True):
            sign = 1.0 if label else -1.0
            # The pixels around it have a say in the mask at the image's own resolution.
            near = logits[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
            lacking = float((1.0 - sign * near).max())
            if lacking <= 0:
                continue
            changed = True
            rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
            cols = np.arange(max(col - reach, 0), min(col + reach + 1, width))
            spot = np.exp(-0.5 * ((rows[:, None] - row) ** 2 + (cols - col) ** 2) / _SIGMA**2)
            # exp(-1 / sigma**2): what is left of the spot at the corner of the pixels around.
            spot *= sign * lacking / np.exp(-1 / _SIGMA**2)
            logits[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] += spot.astype(np.float32)
        if not changed:
            return
