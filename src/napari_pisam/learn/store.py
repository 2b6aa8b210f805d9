"""Pictures in memory with their objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST_OBJECT = 30
"""Smallest area of an object, in px of the stored image and of the frame."""


@dataclass(frozen=True)
class StoredImage:
    """One decoded image with its objects.

    Attributes
    ----------
    source, name : str
        Name of the set and stem of the file.
    pixels : (H, W) or (H, W, 3) ndarray of uint8
        Grey or RGB picture.
    labels : (H, W) ndarray of unsigned int
        0 background.
    ids : (m,) ndarray of int
        Labels of the objects that count; a negative number is an object of several labels, where a
        subclass knows such.
    boxes : (m, 4) ndarray of int
        (row_min, col_min, row_max, col_max) of each, maxima excluded.
    areas : (m,) ndarray of int
        Areas in px.
    """

    source: str
    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.unsignedinteger]
    ids: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W), px."""
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def mask(self, which: int, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Return the mask of one entry of `ids` inside a window, (rows, cols) bool."""
        return cast("NDArray[np.bool_]", self.labels[rows, cols] == which)
