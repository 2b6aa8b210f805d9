"""Which numbers labels hold, so that a new object gets one that nothing else has.

Knows neither napari nor threads: who has a layer tells what was found, painted and chosen there.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.ngff_labels import written_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from numpy.typing import NDArray

LIMIT = 2**32 - 1
"""Larger numbers fit no file of labels; this one, and the largest of a type, mean "ignore"."""

# Labels of up to this many px are looked through at every commit: some milliseconds.
AT_ONCE = 1 << 22
_BLOCK = 1 << 24
# A table of so many numbers is quicker than sorting, and takes 4 MB.
_TABLE = 1 << 22


class LabelNumbers:
    """The numbers in an array of labels.

    Parameters
    ----------
    data : callable
        Gives the whole array of now, of any number of axes.

    Attributes
    ----------
    is_awaited : bool
        Whether somebody is looking through the array: until that is done, nothing is free.
    """

    def __init__(self, data: Callable[[], Any]) -> None:
        self._data = data
        self.is_awaited = False
        self._found: set[int] = set()
        self._written: set[int] = set()
        self._by_hand: set[int] = set()
        self._chosen: int | None = None
        self._highest, self._top = 0, LIMIT

    @property
    def is_small(self) -> bool:
        """Whether the array is small enough to be looked through at any time."""
        return math.prod(int(size) for size in self._data().shape) <= AT_ONCE

    def look(self) -> None:
        """Look through the array where that is quick; to be done before numbers are asked for.

        Raises
        ------
        ValueError
            If it is large and still being looked through.
        """
        if self.is_small:
            self.take(numbers_in(self._data()))
        elif self.is_awaited:
            raise ValueError(
                "The labels are still being looked through for the numbers that are in use. "
                "Try again in a moment."
            )

    def take(self, found: Iterable[int]) -> None:
        """Note what looking through the array found; what was known before is forgotten."""
        self._top = min(LIMIT, int(np.iinfo(np.dtype(self._data().dtype)).max))
        self.is_awaited = False
        self._found = set(found) - self._written
        # No loop in Python: this is done at every commit.
        known = chain(self._found, self._written, self._by_hand)
        self._highest = max(filter(self._top.__gt__, known), default=0)

    # -- who writes numbers -------------------------------------------------------------------

    def wrote(self, number: int) -> None:
        """Note that an object of this number is in the labels."""
        self._written.add(number)
        self._raise(number)

    def released(self, number: int) -> None:
        """Note that the object of this number has left the labels."""
        self._written.discard(number)

    def adopt(self, number: int) -> None:
        """Note that an object was made of the label of this number, whoever painted it."""
        self._by_hand.discard(number)

    def paint(self, numbers: Iterable[int]) -> None:
        """Note what somebody painted by hand."""
        new = {number for number in numbers if number > 0 and not self._holds(number)}
        self._by_hand |= new
        self._found |= new
        for number in new:
            self._raise(number)

    def choose(self, number: int) -> None:
        """Note the number that the next stroke by hand has: a new one is not given to an object."""
        if self._chosen is not None and self._chosen not in self._found:
            self._by_hand.discard(self._chosen)
        self._chosen = None
        if number > 0 and not self._holds(number):
            self._chosen = number
            self._by_hand.add(number)
            self._raise(number)

    def _holds(self, number: int) -> bool:
        return number in self._found or number in self._written

    def _raise(self, number: int) -> None:
        if self._highest < number < self._top:
            self._highest = number

    # -- which is free ------------------------------------------------------------------------

    def is_taken(self, number: int, *, own: bool) -> bool:
        """Whether an object must not be written with a number.

        Parameters
        ----------
        number : int
        own : bool
            Whether the object had it in the labels before: then its pixels are no other's, unless
            somebody began to paint something new with it since.
        """
        return number in self._by_hand or (not own and self._holds(number))

    def next(self, at_least: int = 1, beside: Container[int] = ()) -> int:
        """Return a number that nothing has: above all others, or the first gap where none is left.

        Parameters
        ----------
        at_least : int
            Not below this one.
        beside : container of int
            Nor one of these.
        """
        number = max(self._highest + 1, at_least)
        while number < LIMIT and (self.is_taken(number, own=False) or number in beside):
            number += 1
        if number >= LIMIT:
            number = 1
            while self.is_taken(number, own=False) or number in beside:
                number += 1
        return number


def numbers_in(data: Any) -> set[int]:
    """Find the numbers above 0 in an array, block by block.

    Parameters
    ----------
    data : integer array
        numpy, a memory map, dask, zarr; never in memory as a whole.
    """
    found: set[int] = set()
    written = written_parts(data)
    for part in _parts(data) if written is None else written:
        found.update(_numbers(np.asarray(data[part])))
    return found


def _numbers(block: NDArray[Any]) -> list[int]:
    largest = int(block.max(initial=0))
    if largest <= 0:
        return []
    if largest < _TABLE:
        table = np.zeros(largest + 1, dtype=np.bool_)
        table[block if block.dtype.kind == "u" else np.maximum(block, 0)] = True
        return (np.flatnonzero(table[1:]) + 1).tolist()
    values = np.unique(block)
    return [int(value) for value in values[values > 0]]


def _parts(data: Any) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks, the first axes first and by whole chunks where it has some."""
    shape = tuple(int(size) for size in data.shape)
    steps = list(shape)
    for axis, size in enumerate(shape):
        rest = math.prod(shape[axis + 1 :])
        chunk = _chunk(data, axis)
        step = _BLOCK // max(1, rest)
        steps[axis] = min(size, max(chunk, step // chunk * chunk))
        if step >= 1:
            break
    yield from _product(shape, [max(1, step) for step in steps])


def _product(shape: tuple[int, ...], steps: list[int]) -> Iterator[tuple[slice, ...]]:
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], steps[0]):
        for rest in _product(shape[1:], steps[1:]):
            yield (slice(start, min(start + steps[0], shape[0])), *rest)


def _chunk(data: Any, axis: int) -> int:
    chunks = getattr(data, "chunks", None)
    if not chunks:
        return 1
    # zarr has a number for each axis, dask all its sizes.
    size = chunks[axis]
    return max(1, int(size[0] if isinstance(size, tuple) else size))
