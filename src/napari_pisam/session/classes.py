"""The list of classes: what kinds of objects there are, with their names and colours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Told from each other by most people with a colour vision deficiency, too (Okabe and Ito, 2008).
_PALETTE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#999999",
    "#ffffff",
)
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST = 100


def clean_name(text: str) -> str:
    """Make of a text from anywhere what a class can be named; empty if nothing is left of it."""
    kept = "".join(one if one.isprintable() else " " for one in text[: 2 * _LONGEST])
    return " ".join(kept.split())[:_LONGEST].strip()


@dataclass(frozen=True)
class ObjectClass:
    """A kind of objects.

    Attributes
    ----------
    name : str
        1 to 100 characters in one line.
    color : str
        ``"#rrggbb"``.
    """

    name: str
    color: str

    def __post_init__(self) -> None:
        """Check both.

        Raises
        ------
        ValueError
            If the name is empty, too long or of several lines, or the colour is none.
        """
        name = self.name
        if not name or clean_name(name) != name:
            raise ValueError(
                f"The class is named {name[:_LONGEST]!r}, expected 1 to {_LONGEST} characters in "
                "one line."
            )
        if not _COLOR.fullmatch(self.color):
            raise ValueError(f"The colour of {name!r} is {self.color!r}, expected #rrggbb.")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue


class ClassList:
    """The classes of a project, in the order of their keys.

    Attributes
    ----------
    changed : Signal()
        A class is new, gone, or of another name or colour.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._classes: list[ObjectClass] = []

    def __iter__(self) -> Iterator[ObjectClass]:
        """Go through them in order."""
        return iter(self._classes)

    def __len__(self) -> int:
        """Count them."""
        return len(self._classes)

    def get(self, name: str) -> ObjectClass | None:
        """Return the class of a name, or None."""
        return next((one for one in self._classes if one.name == name), None)

    def merge(self, classes: Iterable[ObjectClass]) -> None:
        """Add classes whose names are new, with their colours."""
        new = [one for one in classes if self.get(one.name) is None]
        if new:
            self._classes += new
            self.changed.emit()

    def add(self, names: Iterable[str]) -> None:
        """Add names that are new, each with the first colour that no class has.

        Raises
        ------
        ValueError
            If one is no name.
        """
        for name in names:
            used = [one.color for one in self._classes]
            color = min(_PALETTE, key=used.count)
            self.merge([ObjectClass(name, color)])

    def replace(self, classes: Iterable[ObjectClass]) -> None:
        """Have these classes and no others.

        Raises
        ------
        ValueError
            If two have one name.
        """
        new = list(classes)
        names = [one.name for one in new]
        if len(set(names)) != len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"Two classes are named {double!r}. Give each a name of its own.")
        if new != self._classes:
            self._classes = new
            self.changed.emit()
