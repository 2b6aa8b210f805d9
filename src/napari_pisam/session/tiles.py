"""Labels as tiles: those that were touched, kept with a session, and labels that begin empty."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import shared_slices
from napari_pisam.session.merge import Patch, inflated, read_window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox

TILE = 512
_EFFORT = 1
TYPES = ("|u1", "<u2", "<u4", "<i8")
"""The types that a tile's values may have in a file."""


class LabelTile:
    """The labels of a window at one moment; compressed by whoever asks for the bytes first.

    Parameters
    ----------
    bbox : (int, int, int, int)
        The window, px, half open.
    values : (h, w) integer array, or None
        An array of its own; None where the bytes are given.
    dtype, packed : str, bytes
        One of `TYPES`, and the compressed values, row by row.
    """

    def __init__(
        self,
        bbox: Bbox,
        values: NDArray[Any] | None = None,
        dtype: str = "<i8",
        packed: bytes | None = None,
    ) -> None:
        self.bbox = bbox
        self._values = values
        self._packed = None if packed is None else (dtype, packed)
        self._onto_background: Patch | None = None

    def packed(self) -> tuple[str, bytes]:
        """Return the type and the compressed values; worked out once, in any thread."""
        packed, values = self._packed, self._values
        if packed is None:
            assert values is not None
            low, high = int(values.min(initial=0)), int(values.max(initial=0))
            fits = (t for t in TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
            dtype = next(fits, TYPES[-1])
            packed = dtype, zlib.compress(values.astype(dtype).tobytes(), _EFFORT)
            self._packed, self._values = packed, None
        return packed

    def values(self) -> NDArray[Any]:
        """(h, w) integer array, read-only.

        Raises
        ------
        ValueError
            If the bytes are damaged.
        """
        if (values := self._values) is not None:
            return values
        dtype, packed = self.packed()
        height, width = self.bbox[2] - self.bbox[0], self.bbox[3] - self.bbox[1]
        data = inflated(packed, height * width * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype).reshape(height, width)

    def prepare(self) -> None:
        """Work out in any thread, once, what writing it onto background takes; keeps the values.

        Raises
        ------
        ValueError
            If the bytes are damaged.
        """
        self._values = values = self.values()
        self._onto_background = Patch.between(self.bbox, np.zeros_like(values), values)

    def patch(self, before: NDArray[Any], after: NDArray[Any]) -> Patch | None:
        """Return the change of its window, which is known where that is background."""
        known = self._onto_background
        if known is not None and not before.any():
            return known
        return Patch.between(self.bbox, before, after)


class TouchedTiles:
    """Which tiles of the labels were written or painted, and what was in them when last looked at.

    Only what was touched since is read again.
    """

    def __init__(self) -> None:
        self._tiles: dict[tuple[int, int], LabelTile] = {}
        self._to_read: set[tuple[int, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._tiles or self._to_read)

    def clear(self) -> None:
        """Forget all tiles."""
        self._tiles.clear()
        self._to_read.clear()

    def touch(self, bbox: Bbox) -> None:
        """Note that a window, px, half open, may have other labels than before."""
        self._to_read.update(_keys(bbox))

    def touch_all(self) -> None:
        """Note that any tile of those that were touched may have other labels than before."""
        self._to_read.update(self._tiles)

    def read(self, labels: Any) -> tuple[LabelTile, ...]:
        """Return all touched tiles as they are; `labels` may be None, then as they were last."""
        if labels is not None:
            height, width = (int(size) for size in labels.shape)
            for down, across in self._to_read:
                top, left = down * TILE, across * TILE
                bbox = (top, left, min(top + TILE, height), min(left + TILE, width))
                if bbox[2] > top and bbox[3] > left:
                    self._tiles[down, across] = LabelTile(bbox, read_window(labels, bbox))
            self._to_read.clear()
        return tuple(self._tiles[key] for key in sorted(self._tiles))


class SparseLabels:
    """(H, W) uint32 labels that take memory only where something was written.

    Parameters
    ----------
    shape : (int, int)
        (H, W), px.
    """

    dtype = np.dtype(np.uint32)
    ndim = 2

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._tiles: dict[tuple[int, int], NDArray[np.uint32]] = {}

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint32]:
        """Read a window, (h, w)."""
        row0, row1, col0, col1 = self._bounds(window)
        result = np.zeros((row1 - row0, col1 - col0), dtype=self.dtype)
        for key, part, inside in _parts(row0, row1, col0, col1):
            if key in self._tiles:
                result[part] = self._tiles[key][inside]
        return result

    def __setitem__(self, window: tuple[slice, slice], block: NDArray[Any]) -> None:
        """Write a window, (h, w)."""
        row0, row1, col0, col1 = self._bounds(window)
        for key, part, inside in _parts(row0, row1, col0, col1):
            if key not in self._tiles:
                self._tiles[key] = np.zeros((TILE, TILE), dtype=self.dtype)
            self._tiles[key][inside] = block[part]

    def tiles(self) -> Iterator[LabelTile]:
        """Return what was written, tile by tile, without what reaches beyond the image."""
        for down, across in sorted(self._tiles):
            top, left = down * TILE, across * TILE
            bottom, right = min(top + TILE, self.shape[0]), min(left + TILE, self.shape[1])
            values = self._tiles[down, across][: bottom - top, : right - left]
            yield LabelTile((top, left, bottom, right), values)

    def _bounds(self, window: tuple[slice, slice]) -> tuple[int, int, int, int]:
        row0, row1, _ = window[0].indices(self.shape[0])
        col0, col1, _ = window[1].indices(self.shape[1])
        return row0, row1, col0, col1


def _keys(bbox: Bbox) -> Iterator[tuple[int, int]]:
    for down in range(bbox[0] // TILE, -(-bbox[2] // TILE)):
        for across in range(bbox[1] // TILE, -(-bbox[3] // TILE)):
            yield down, across


def _parts(row0: int, row1: int, col0: int, col1: int) -> Iterator[Any]:
    """Return the tiles of a window: (key, slices of the window, slices of the tile)."""
    for down, across in _keys((row0, col0, row1, col1)):
        top, left = down * TILE, across * TILE
        tile = top, left, top + TILE, left + TILE
        yield (down, across), *shared_slices((row0, col0, row1, col1), tile)
