"""Masks that keep their own window of an image: made tight, and looked at in other windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Bbox: TypeAlias = tuple[int, int, int, int]
"""(row0, col0, row1, col1) of a window of an image, px, half open."""


@runtime_checkable
class CroppedMask(Protocol):
    """A mask that keeps its own window of the image only."""

    @property
    def crop(self) -> NDArray[np.bool_]:
        """(h, w) pixels of the window."""

    @property
    def bbox(self) -> Bbox:
        """The window."""


def extent(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Rows and columns of the True pixels of a (H, W) bool mask; None without any."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def tight(pixels: NDArray[np.bool_], origin: tuple[int, int]) -> tuple[NDArray[np.bool_], Bbox]:
    """Leave out a mask's borders without pixels.

    Parameters
    ----------
    pixels : (h, w) bool array
    origin : (int, int)
        (row, col) of ``pixels[0, 0]`` in the image, px.

    Returns
    -------
    crop : (h, w) bool array
        A copy, read-only; empty where there is no pixel.
    bbox : (int, int, int, int)
        Its window.
    """
    rows, cols = extent(pixels) or (slice(0, 0), slice(0, 0))
    crop = pixels[rows, cols].copy()
    crop.flags.writeable = False
    (row, col), (height, width) = origin, crop.shape
    row, col = row + rows.start, col + cols.start
    return crop, (row, col, row + height, col + width)


def around(windows: Iterable[Bbox]) -> Bbox:
    """Return the window around some."""
    corners = np.array(list(windows))
    (row0, col0), (row1, col1) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    return int(row0), int(col0), int(row1), int(col1)


def shared_slices(first: Bbox, second: Bbox) -> tuple[Any, Any]:
    """Where two windows meet, as slices into each; empty ones where they do not."""
    row0, col0 = max(first[0], second[0]), max(first[1], second[1])
    row1 = max(min(first[2], second[2]), row0)
    col1 = max(min(first[3], second[3]), col0)
    here, there = (
        (slice(row0 - top, row1 - top), slice(col0 - left, col1 - left))
        for top, left, *_ in (first, second)
    )
    return here, there


def seen_in(window: Bbox, crop: NDArray[np.bool_], bbox: Bbox) -> NDArray[np.bool_]:
    """Return what a window, (h, w) bool, shows of the pixels of another one."""
    pixels = np.zeros((window[2] - window[0], window[3] - window[1]), dtype=np.bool_)
    here, there = shared_slices(window, bbox)
    pixels[here] = crop[there]
    return pixels
