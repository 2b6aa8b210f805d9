"""A table of objects as CSV: a line each, with what is known of it; its boxes can be read again."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_pisam.images.files import write_csv
from napari_pisam.images.label_formats.text import read_text

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
    lines = [[label, *(_text(row.get(name)) for name in names)] for label, row in rows.items()]
    write_csv(path, [["label", *names], *lines])


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


class TableBoxes(NamedTuple):
    """The boxes around a table's objects, and their classes, by label.

    Boxes are (row_min, col_min, row_max, col_max), the outer edges of pixels, px.
    """

    boxes: dict[int, tuple[float, float, float, float]]
    classes: dict[int, str]


_BOX = ("bbox-0", "bbox-1", "bbox-2", "bbox-3")


def read_table_boxes(path: Path) -> TableBoxes | None:
    """Read the boxes of a table of measures, ours or scikit-image's; None for any other file.

    Raises
    ------
    ValueError
        If it has a column of labels and does not say where the objects are, or a value is none.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)))
    names = [name.strip() for name in reader.fieldnames or ()]
    if "label" not in names or any(name.startswith("axis-") for name in names):
        return None
    missing = [name for name in _BOX if name not in names]
    if missing:
        raise ValueError(
            f"{path} has a column 'label' and none called {', '.join(missing)}: it does not say "
            "where the objects are. Give a table that `napari-pisam measure` wrote of a plane, or "
            "scikit-image's regionprops_table with 'label' and 'bbox'."
        )
    reader.fieldnames = names
    found = TableBoxes({}, {})
    try:
        for row in reader:
            _add_box(found, row)
    except (csv.Error, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; expected a label of 1 or more and a box "
            "(first row and column, and those behind the last)."
        ) from error
    return found


def _add_box(found: TableBoxes, row: dict[str, str]) -> None:
    label, (row0, col0, row1, col1) = float(row["label"]), (float(row[name]) for name in _BOX)
    is_box = -math.inf < row0 < row1 < math.inf and -math.inf < col0 < col1 < math.inf
    if label != int(label) or label < 1 or not is_box:
        raise ValueError(f"label {label:g}, box {row0:g}, {col0:g}, {row1:g}, {col1:g}")
    # Pixels' centres are whole numbers: the last one's outer edge is half a pixel before.
    found.boxes[int(label)] = (row0 - 0.5, col0 - 0.5, row1 - 0.5, col1 - 0.5)
    if name := (row.get("class") or "").strip():
        found.classes[int(label)] = name
