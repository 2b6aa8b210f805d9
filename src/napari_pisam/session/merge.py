"""How a mask gets into the labels and out again: pure functions on one window of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import shared_slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.predict.mask import Mask

# Packed bits of masks have long runs: more effort gains little.
_EFFORT = 1


class CommitRule(StrEnum):
    """Whose a pixel is when an object is committed.

    KEEP
        What is there stays: the object gets the background pixels of its mask. Pixels that already
        have the object's number stay too, also those outside the mask.
    OVERWRITE
        The object gets every pixel of its mask.
    BACKGROUND
        The object gets the background pixels of its mask as with KEEP, and gives up the pixels
        with its number that are in the mask's window and not in the mask.
    """

    KEEP = "keep"
    OVERWRITE = "overwrite"
    BACKGROUND = "background"


class LabelOverflowError(ValueError):
    """The number of an object, `value`, does not fit the labels; see `Session.needed_dtype`."""

    def __init__(self, text: str, value: int) -> None:
        super().__init__(text)
        self.value = value


def committed_block(
    block: NDArray[Any], crop: NDArray[np.bool_], value: int, rule: CommitRule
) -> NDArray[Any]:
    """Return a window of the labels as it is after a commit.

    Parameters
    ----------
    block : (h, w) integer array
        The labels in the mask's window; not changed.
    crop : (h, w) bool array
        The mask in that window.
    value : int
        The object's number; fits the dtype.
    rule : CommitRule
        Whose the pixels are.

    Returns
    -------
    (h, w) array of the block's dtype
    """
    result = block.copy()
    if rule is CommitRule.OVERWRITE:
        result[crop] = value
        return result
    if rule is CommitRule.BACKGROUND:
        result[(block == value) & ~crop] = 0
    result[crop & (block == 0)] = value
    return result


def released_block(
    block: NDArray[Any],
    crop: NDArray[np.bool_],
    value: int,
    footprint: Patch | None,
    holds: Callable[[int], NDArray[np.bool_] | None],
) -> NDArray[Any]:
    """Return a window of the labels as it is when a committed object takes its pixels back.

    Pixels of the mask that still have the object's number become what they were before its commit.

    Parameters
    ----------
    block : (h, w) integer array
        The labels in the mask's window; not changed.
    crop : (h, w) bool array
        The mask in that window.
    value : int
        The object's number.
    footprint : Patch or None
        What its commit changed; None: background was there before.
    holds : callable
        For another number: the (h, w) pixels that this object of the session still claims, or None
        where the number is none of the session's objects. Without it a pixel would go back to an
        object that has been moved or removed since.

    Returns
    -------
    (h, w) array of the block's dtype
    """
    under = np.zeros(block.shape, dtype=block.dtype)
    if footprint is not None:
        under[footprint.positions()] = footprint.old_values()
        under[under == value] = 0
        for other in np.unique(under):
            claimed = holds(int(other)) if other else None
            if claimed is not None:
                under[(under == other) & ~claimed] = 0
    mine = crop & (block == value)
    result = block.copy()
    result[mine] = under[mine]
    return result


@dataclass(frozen=True)
class Patch:
    """A change of a window of the labels, kept small, to be taken back and made again.

    Attributes
    ----------
    bbox : (int, int, int, int)
        The window, px, half open.
    changed : bytes
        Compressed bits: which of its pixels changed.
    old, new : int or bytes
        The values of these pixels before and after, row by row: one for all, or compressed
        little-endian int64.
    """

    bbox: Bbox
    changed: bytes
    old: int | bytes
    new: int | bytes

    @classmethod
    def between(cls, bbox: Bbox, before: NDArray[Any], after: NDArray[Any]) -> Patch | None:
        """Build from a window's (h, w) values before and after; None where they are the same."""
        changed = before != after
        if not changed.any():
            return None
        bits = zlib.compress(np.packbits(changed).tobytes(), _EFFORT)
        return cls(bbox, bits, _packed(before[changed]), _packed(after[changed]))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the window, px."""
        return self.bbox[2] - self.bbox[0], self.bbox[3] - self.bbox[1]

    def positions(self) -> NDArray[np.bool_]:
        """(h, w) bool: the pixels that changed.

        Raises
        ------
        ValueError
            If the bits are not those of such a window.
        """
        height, width = self.shape
        size = height * width
        bits = inflated(self.changed, -(-size // 8))
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=size)
        return flat.reshape(height, width).view(np.bool_)

    def old_values(self) -> Any:
        """Values before, one or one per changed pixel."""
        return self._values(self.old)

    def new_values(self) -> Any:
        """Values after, one or one per changed pixel."""
        return self._values(self.new)

    def undone(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the window's (h, w) labels without this change.

        Pixels that somebody changed since, by painting for example, stay as they are.
        """
        return self._exchanged(block, self.new_values(), self.old_values())

    def redone(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the window's (h, w) labels with this change again; see `undone`."""
        return self._exchanged(block, self.old_values(), self.new_values())

    def _exchanged(self, block: NDArray[Any], expected: Any, wanted: Any) -> NDArray[Any]:
        positions = self.positions()
        here = block[positions]
        result = block.copy()
        result[positions] = np.where(here == expected, wanted, here)
        return result

    def _values(self, stored: int | bytes) -> Any:
        if isinstance(stored, int):
            return stored
        count = int(np.count_nonzero(self.positions()))
        return np.frombuffer(inflated(stored, 8 * count), "<i8")


def inflated(data: bytes, size: int) -> bytes:
    """Decompress what has to have `size` bytes.

    Raises
    ------
    ValueError
        If it has another size or is damaged. Never takes much more memory than `size`.
    """
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"Compressed data is damaged ({error}).") from error
    if len(result) != size or not stream.eof:
        raise ValueError(f"Compressed data has {len(result)} bytes or more, expected {size}.")
    return result


def _packed(values: NDArray[Any]) -> int | bytes:
    if (values == values[0]).all():
        return int(values[0])
    return zlib.compress(values.astype("<i8").tobytes(), _EFFORT)


def paste_mask(target: NDArray[np.bool_], bbox: Bbox, mask: Mask) -> None:
    """Set those pixels of a window, (h, w) bool, that are in a mask."""
    here, there = shared_slices(bbox, mask.bbox)
    target[here] |= mask.crop[there]


def read_window(labels: Any, bbox: Bbox) -> NDArray[Any]:
    """Read a window of labels, numpy or lazy, as an array of its own."""
    row0, col0, row1, col1 = bbox
    return np.array(labels[row0:row1, col0:col1])


def write_window(labels: Any, bbox: Bbox, before: NDArray[Any], after: NDArray[Any]) -> None:
    """Write a window of labels; where that fails half-way, what was there before is put back."""
    row0, col0, row1, col1 = bbox
    try:
        labels[row0:row1, col0:col1] = after
    except BaseException:
        labels[row0:row1, col0:col1] = before
        raise
