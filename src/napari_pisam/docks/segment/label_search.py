"""Looking for labels block by block, so that a large image never is in memory as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pisam.layers.labels import LabelsPlane

_BLOCK = 1 << 24


def find_label(labels: LabelsPlane, value: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Find a label's pixels.

    Returns
    -------
    crop : (h, w) bool array
        No larger than the label.
    origin : (int, int)
        (row, col) of ``crop[0, 0]``, px.

    Raises
    ------
    ValueError
        If no pixel has this label.
    """
    corners = []
    for top, block in _blocks(labels):
        here = block == value
        rows = np.flatnonzero(here.any(axis=1))
        if rows.size:
            cols = np.flatnonzero(here.any(axis=0))
            corners.append((top + rows[0], cols[0], top + rows[-1] + 1, cols[-1] + 1))
    if not corners:
        raise ValueError(
            f"No pixel of this plane has the label {value}. Choose one that is there with the "
            "Labels layer's colour picker."
        )
    table = np.array(corners)
    row0, col0 = (int(v) for v in table[:, :2].min(axis=0))
    row1, col1 = (int(v) for v in table[:, 2:].max(axis=0))
    return np.asarray(labels[row0:row1, col0:col1]) == value, (row0, col0)


def _blocks(labels: LabelsPlane) -> Iterator[tuple[int, NDArray[Any]]]:
    height, width = labels.shape
    step = max(1, _BLOCK // max(1, width))
    for top in range(0, height, step):
        yield top, np.asarray(labels[top : min(top + step, height), 0:width])
