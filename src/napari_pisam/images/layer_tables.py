"""Rows of the CSV files that napari writes of Shapes and Points layers, checked cell by cell."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NOTHING = frozenset({"", "nan", "none", "<na>"})


@dataclass(frozen=True)
class LayerRow:
    """One row of a file: a point, or a vertex of a shape.

    Attributes
    ----------
    path : Path
    line : int
    cells : mapping of str to str
        By column.
    place : tuple of float
        Its coordinates along all axes.
    """

    path: Path
    line: int
    cells: Mapping[str, str]
    place: tuple[float, ...] = ()

    @property
    def where(self) -> str:
        """File and line, for an error."""
        return f"{self.path}, line {self.line}"

    def text(self, name: str) -> str | None:
        """Return what a column says, in lower case; None without it, or where it says nothing."""
        text = self.cells.get(name, "").strip().lower()
        return None if text in _NOTHING else text

    def number(self, name: str) -> float:
        """Return a finite number.

        Raises
        ------
        ValueError
            If it is none.
        """
        try:
            value = float(self.cells[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"{self.where}: {name} is {self.cells[name]!r}, expected a finite number. Correct "
                "or remove the row."
            )
        return value

    def integer(self, name: str) -> int:
        """Return a whole number; napari writes the index of points with properties as a float.

        Raises
        ------
        ValueError
            If it is none.
        """
        value = self.number(name)
        if value != int(value):
            raise ValueError(
                f"{self.where}: {name} is {self.cells[name]!r}, expected a whole number."
            )
        return int(value)


def read_layer_rows(path: Path) -> list[LayerRow]:
    """Read a file.

    Raises
    ------
    ValueError
        If it is not such a file, or a coordinate is no finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            axes = [f"axis-{n}" for n in range(sum(name.startswith("axis-") for name in names))]
            if len(axes) < 2 or not set(axes) <= set(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"{path} has the columns {names}, expected axis-0, axis-1, ... once each and "
                    "separated by commas. Save a Shapes or a Points layer from napari as CSV, or "
                    "give boxes as a table with the columns label and bbox-0 to bbox-3."
                )
            rows = []
            for cells in reader:
                row = LayerRow(path, reader.line_num, cells)
                if None in cells or None in cells.values():
                    raise ValueError(
                        f"{row.where}: the row does not have the header's {len(names)} "
                        "columns. Save the layer again."
                    )
                rows.append(replace(row, place=tuple(row.number(name) for name in axes)))
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a CSV file in UTF-8 ({error}). Save the layer from napari again."
        ) from error
