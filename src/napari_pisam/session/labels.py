"""The labels array, read and written in windows only, whatever stores it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.predict.prompts import MaskPrompt
from napari_pisam.session.merge import LabelOverflowError, paste_mask, read_window, write_window
from napari_pisam.session.numbers import LabelNumbers
from napari_pisam.session.tiles import SparseLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import DTypeLike, NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.session.merge import Patch
    from napari_pisam.session.records import Record, SessionObject
    from napari_pisam.session.tiles import LabelTile


class LabelStore:
    """The labels that are written into, or none."""

    def __init__(self) -> None:
        self.labels: Any = None
        self.numbers: LabelNumbers | None = None

    def replace(
        self,
        labels: Any,
        shape: tuple[int, int] | None,
        largest: int,
        numbers: LabelNumbers | None = None,
    ) -> None:
        """Take another array.

        Parameters
        ----------
        labels : (H, W) integer array or None
            numpy, zarr or anything that reads and writes windows.
        shape : (int, int) or None
            What it has to have, px.
        largest : int
            The largest number that is in use.
        numbers : LabelNumbers, optional
            Those of all that the labels are a part of; by default of the labels alone.

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
        self.labels, self.numbers = labels, numbers
        if labels is not None and numbers is None:
            self.numbers = LabelNumbers(lambda: labels)

    def first_free(self) -> int:
        """Return the first number that is free where that is quick to find, else 1."""
        numbers = self.numbers
        if numbers is None or not numbers.is_small:
            return 1
        numbers.look()
        return numbers.next()

    def needed_dtype(self, value: int) -> np.dtype[Any] | None:
        """Return the type that a label needs, or None where the labels hold it."""
        if self.labels is None or value <= np.iinfo(np.dtype(self.labels.dtype)).max:
            return None
        return wider_dtype(self.labels.dtype, value)

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

    def edit(self) -> AbstractContextManager[None]:
        """Make what is written until its end one edit, whole or not at all, if the labels can."""
        edit: Callable[[], AbstractContextManager[None]] = getattr(self.labels, "edit", nullcontext)
        return edit()

    def read(self, bbox: Bbox) -> NDArray[Any]:
        """Read a window as an array of its own."""
        return read_window(self.labels, bbox)

    def write(self, bbox: Bbox, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Write a window; where that fails, what was there `before` is put back."""
        write_window(self.labels, bbox, before, after)

    def changed_by_hand(self, view: SessionObject) -> MaskPrompt | None:
        """Return a committed object's pixels of now where somebody erased or painted some.

        Returns
        -------
        MaskPrompt or None
            None where they are as they were written.

        Raises
        ------
        ValueError
            If none is left.
        """
        id_, mask = view.id, view.mask
        if self.labels is None or mask is None or not mask.crop.size:
            return None
        window = self._window_of(id_, mask.bbox)
        here = self.read(window)
        of_mask = np.zeros(here.shape, dtype=np.bool_)
        paste_mask(of_mask, window, mask)
        mine = here == id_
        # A commit leaves no background in its mask.
        if not (of_mask & (here == 0)).any() and not (mine & ~of_mask).any():
            return None
        if not mine.any():
            raise ValueError(
                f"Nothing is left of object {id_} in the labels: it was erased. Undo that in "
                "napari, or discard the object and draw it again."
            )
        return MaskPrompt.from_any((mine, window[:2]))

    def pixels_of(self, view: SessionObject) -> MaskPrompt | None:
        """Return a committed object's pixels of now; None where none is left."""
        if view.mask is None or not view.mask.crop.size:
            return None
        window = self._window_of(view.id, view.mask.bbox)
        mine = self.read(window) == view.id
        return MaskPrompt.from_any((mine, window[:2])) if mine.any() else None

    def _window_of(self, id_: int, bbox: Bbox) -> Bbox:
        """Return a window around all pixels of a label that touch each other and a window."""
        height, width = (int(size) for size in self.labels.shape)
        row0, col0, row1, col1 = bbox
        while True:
            wide = max(row0 - 1, 0), max(col0 - 1, 0), min(row1 + 1, height), min(col1 + 1, width)
            mine = self.read(wide) == id_
            more = 1 + max(row1 - row0, col1 - col0) // 4
            grown = (
                max(row0 - more, 0) if row0 > wide[0] and mine[0].any() else row0,
                max(col0 - more, 0) if col0 > wide[1] and mine[:, 0].any() else col0,
                min(row1 + more, height) if row1 < wide[2] and mine[-1].any() else row1,
                min(col1 + more, width) if col1 < wide[3] and mine[:, -1].any() else col1,
            )
            if grown == (row0, col0, row1, col1):
                return grown
            row0, col0, row1, col1 = grown

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


def wider_dtype(dtype: DTypeLike, value: int = 0) -> np.dtype[Any]:
    """Return the next type of labels that holds all of a type's values and one more number.

    Signed labels stay signed: they may have negative ones.
    """
    kinds = (np.int32, np.int64) if np.dtype(dtype).kind == "i" else (np.uint32, np.uint64)
    fits = (np.can_cast(dtype, kind) and value <= np.iinfo(kind).max for kind in kinds)
    return np.dtype(kinds[0] if next(fits) else kinds[1])


def _overflow(value: int, dtype: np.dtype[Any]) -> LabelOverflowError:
    return LabelOverflowError(
        f"The label {value} does not fit labels of dtype {dtype}, which hold at most "
        f"{np.iinfo(dtype).max}. Convert them to a wider type: {wider_dtype(dtype, value)}.",
        value,
    )
