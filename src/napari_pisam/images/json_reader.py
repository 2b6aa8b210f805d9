"""JSON from a file that nobody vouches for: read value by value, each with an exact complaint."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_LARGEST = 2**53
_SHOWN = 60


@dataclass(frozen=True)
class Node:
    """A value and where it was found; every method raises ValueError for something else.

    Attributes
    ----------
    value : Any
        What JSON gave.
    where : str
        For messages: ``objects[3].id``.
    """

    value: Any
    where: str

    def wrong(self, expected: str) -> ValueError:
        """Build the complaint that this is not what was expected."""
        shown = json.dumps(self.value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        return ValueError(f"{self.where} is {shown}, expected {expected}.")

    def at(self, key: str) -> Node:
        """Return the field of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object with fields")
        where = f"{self.where}.{key}" if self.where else key
        if key not in self.value:
            raise ValueError(f"{where} is missing.")
        return Node(self.value[key], where)

    def get(self, key: str) -> Node | None:
        """Return the field of an object that need not be there."""
        there = isinstance(self.value, dict) and key in self.value
        return self.at(key) if there else None

    def items(self, count: int | None = None) -> list[Node]:
        """Return the elements of a list."""
        if not isinstance(self.value, list) or count not in (None, len(self.value)):
            raise self.wrong("a list" if count is None else f"a list of {count}")
        return [Node(value, f"{self.where}[{i}]") for i, value in enumerate(self.value)]

    def optional(self, read: Callable[[Node], _T]) -> _T | None:
        """Read a value that may be null."""
        return None if self.value is None else read(self)

    def integer(self, low: int = 0, high: int = _LARGEST) -> int:
        """Read a whole number from `low` to `high`, both included."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(f"a whole number from {low} to {high}")
        return int(value)

    def number(self) -> float:
        """Read a finite number."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong("a number")
        try:
            result = float(value)
        except OverflowError:
            raise self.wrong("a number that is not so large") from None
        if not math.isfinite(result):
            raise self.wrong("a finite number")
        return result

    def boolean(self) -> bool:
        """Read true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def text(self, longest: int = 1000) -> str:
        """Read a string."""
        if not isinstance(self.value, str) or len(self.value) > longest:
            raise self.wrong(f"a text of at most {longest} characters")
        return self.value

    def integers(self, low: int = 0, high: int = _LARGEST) -> tuple[int, ...]:
        """Read a list of whole numbers."""
        return tuple(item.integer(low, high) for item in self.items())

    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Read a list of two finite numbers each."""
        pairs = [[value.number() for value in item.items(2)] for item in self.items()]
        return tuple((low, high) for low, high in pairs)

    def box(self) -> tuple[float, float, float, float]:
        """Read four finite numbers."""
        a, b, c, d = (item.number() for item in self.items(4))
        return a, b, c, d

    def bbox(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Read (row0, col0, row1, col1), half open, inside an image of `shape`."""
        row0, col0, row1, col1 = (item.integer(0) for item in self.items(4))
        if not (row0 <= row1 <= shape[0] and col0 <= col1 <= shape[1]):
            raise self.wrong(f"a window inside the image of {shape[0]} x {shape[1]} px")
        return row0, col0, row1, col1


def parse(text: bytes | str, where: str) -> Node:
    """Parse JSON; NaN, infinity and too deep nesting count as damage.

    Raises
    ------
    ValueError
        If it is damaged.
    """

    def constant(name: str) -> float:
        raise ValueError(f"it holds {name}")

    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        return Node(json.loads(text, parse_constant=constant), "")
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where} is damaged, not valid JSON ({reason})") from error
