"""The labels array, read and written in windows only, whatever stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.session.merge import LabelOverflowError, read_window, write_window
from napari_pisam.session.tiles import SparseLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_pisam.session.merge import Bbox, Patch
    from napari_pisam.session.records import Record
    from napari_pisam.session.tiles import LabelTile

# Looking for the largest label takes some milliseconds then.
_SCANNED_PIXELS = 1 << 24


class LabelStore:
    """The labels that are written into, or none."""

    def __init__(self) -> None:
        self.labels: Any = None

    def replace(self, labels: Any, shape: tuple[int, int] | None, largest: int) -> None:
        """Take another array.

        Parameters
        ----------
        labels : (H, W) integer array or None
            numpy, zarr or anything that reads and writes windows.
        shape : (int, int) or None
            What it has to have, px.
        largest : int
            The largest number that is in use.

        Raises
        ------
        ValueError
            If its shape or type does not fit; the one before stays.
        """
        if labels is not None:
            given = tuple(int(size) for size in labels.shape)
            if len(given) != 2 or (shape is not None and given != shape):
                expected = "two axes" if shape is None else f"the image's {shape}"
                raise ValueError(
                    f"The labels have shape {given}, expected {expected}. Make a new Labels layer "
                    "for this image."
                )
            dtype = np.dtype(labels.dtype)
            if dtype.kind not in "iu":
                raise ValueError(
                    f"The labels have dtype {dtype}, expected integers. Convert them, for example "
                    "with labels.astype(np.uint16)."
                )
            if largest > np.iinfo(dtype).max:
                raise _overflow(largest, dtype)
        self.labels = labels

    def largest(self) -> int:
        """Return the largest label where that is quick to find, else 0."""
        labels = self.labels
        if isinstance(labels, np.ndarray) and 0 < labels.size <= _SCANNED_PIXELS:
            return max(int(labels.max()), 0)
        return 0

    def needed_dtype(self, value: int) -> np.dtype[Any] | None:
        """Return the type that a label needs, or None where the labels hold it."""
        if self.labels is None or value <= np.iinfo(np.dtype(self.labels.dtype)).max:
            return None
        return np.dtype(np.uint32 if value <= np.iinfo(np.uint32).max else np.uint64)

    def check(self, value: int) -> None:
        """Find out whether a label can be written.

        Raises
        ------
        ValueError
            If there are no labels.
        LabelOverflowError
            If the number is too large for them.
        """
        if self.labels is None:
            raise ValueError("There are no labels to commit to. Choose or add a Labels layer.")
        if self.needed_dtype(value) is not None:
            raise _overflow(value, np.dtype(self.labels.dtype))

    def read(self, bbox: Bbox) -> NDArray[Any]:
        """Read a window as an array of its own."""
        return read_window(self.labels, bbox)

    def write(self, bbox: Bbox, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Write a window; where that fails, what was there `before` is put back."""
        write_window(self.labels, bbox, before, after)

    def undo(self, patches: Sequence[Patch]) -> list[Bbox]:
        """Take changes back, the last one first; gives the windows that were written."""
        return self._apply(patches[::-1], lambda patch: patch.undone, lambda patch: patch.redone)

    def redo(self, patches: Sequence[Patch]) -> list[Bbox]:
        """Make changes again, the first one first; gives the windows that were written."""
        return self._apply(patches, lambda patch: patch.redone, lambda patch: patch.undone)

    def rewrite(self, records: Iterable[Record]) -> list[Bbox]:
        """Write committed objects again, in the order of their commits; gives their windows."""
        windows = []
        committed = [record for record in records if record.view.committed]
        for record in sorted(committed, key=lambda record: record.order):
            mask, footprint = record.view.mask, record.footprint
            if mask is not None and mask.crop.size:
                before = self.read(mask.bbox)
                after = before.copy()
                if footprint is None:
                    after[mask.crop & (before == 0)] = record.view.id
                else:
                    after[footprint.positions()] = footprint.new_values()
                self.write(mask.bbox, before, after)
                windows.append(mask.bbox)
        return windows

    def _apply(
        self,
        patches: Sequence[Patch],
        change: Callable[[Patch], Callable[[NDArray[Any]], NDArray[Any]]],
        revert: Callable[[Patch], Callable[[NDArray[Any]], NDArray[Any]]],
    ) -> list[Bbox]:
        if self.labels is None:
            return []
        made: list[Patch] = []
        try:
            for patch in patches:
                self._rewrite(patch.bbox, change(patch))
                made.append(patch)
        except BaseException:
            for patch in reversed(made):
                self._rewrite(patch.bbox, revert(patch))
            raise
        return [patch.bbox for patch in made]

    def _rewrite(self, bbox: Bbox, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        before = self.read(bbox)
        self.write(bbox, before, change(before))


def tiles_of_records(shape: tuple[int, int], records: Iterable[Record]) -> tuple[LabelTile, ...]:
    """Work out what committed objects wrote, for a session that kept no labels of its own."""
    store = LabelStore()
    store.labels = sparse = SparseLabels(shape)
    store.rewrite(records)
    return tuple(sparse.tiles())


def _overflow(value: int, dtype: np.dtype[Any]) -> LabelOverflowError:
    return LabelOverflowError(
        f"The label {value} does not fit labels of dtype {dtype}, which hold at most "
        f"{np.iinfo(dtype).max}. Convert them to a wider type, for example uint32."
    )
