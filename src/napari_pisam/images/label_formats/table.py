"""A table of objects as CSV: a line each, with what is known of it."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_pisam.images.label_formats.annotations import LabelImage


def write_rows(path: Path, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Write a line for each label, and a column for each name that any of them has.

    Parameters
    ----------
    path : Path
    rows : mapping of int to mapping of str to (str, float or None)
        By label; numbers with seven digits, nothing where there is no value.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", *names])
        for label, row in rows.items():
            writer.writerow([label, *(_text(row.get(name)) for name in names)])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.7g}"


def write_table(path: Path, image: LabelImage) -> None:
    """Write the objects' classes and measures; their pixels are not in such a file."""
    numbers = (label for label, _, _ in image.objects())
    write_rows(
        path,
        {
            label: {"class": image.classes.get(label, ""), **image.measures.get(label, {})}
            for label in numbers
        },
    )
