"""Boxes and clicks from the CSV files that napari writes when a Shapes or a Points layer is saved.

A Shapes file has the columns ``index, shape-type, vertex-index, axis-0, axis-1, ...`` and one row
per vertex; a Points file ``index, axis-0, axis-1, ...`` and one column per property. The last two
axes are (row, col), those before them say in which plane of a stack a prompt lies.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_pisam.predict.prompts import (
    LABEL,
    Click,
    Prompts,
    clicks_by_object,
    describe_strays,
    is_foreground,
    label_column,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from napari_pisam.predict.prompts import Box

Plane: TypeAlias = "Sequence[int | None]"
"""The index along each leading axis of the image; None for an axis that holds its channels."""

MAX_OBJECT = 2**32 - 1


@dataclass(frozen=True)
class FileBox:
    """A shape's bounding box, (row, col) px, and the label that its object will get."""

    object_id: int
    box: Box


@dataclass(frozen=True)
class _Row:
    """One row of a file: its line number, its cells by column name, its coordinates."""

    line: int
    cells: Mapping[str, str]
    place: tuple[float, ...]

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(round(value) for value in self.place[:-2])


def read_boxes(path: Path, plane: Plane = ()) -> list[FileBox]:
    """Read the bounding boxes of the shapes in a plane.

    Parameters
    ----------
    path : Path
        A CSV file of a Shapes layer; a column ``object`` (int) is used where there is one.
    plane : sequence of (int or None)
        Which plane; see `Plane`. Shapes without leading axes belong to every plane.

    Returns
    -------
    list of FileBox
        In the file's order. The object is the shape's place in the file, from 1, unless given;
        it does not depend on the plane.

    Raises
    ------
    ValueError
        If the file is not a Shapes file, a shape has no area, or two are of the same object.
    """
    rows = _read_rows(path)
    if rows and not {"index", "vertex-index"} <= rows[0].cells.keys():
        raise ValueError(
            f"{path} has no columns 'index' and 'vertex-index', expected the CSV file of a Shapes "
            "layer. If these are points, pass the file with --points."
        )
    shapes: dict[int, list[_Row]] = {}
    for row in rows:
        shapes.setdefault(_integer(path, row, "index"), []).append(row)
    chosen = _planes_test(path, rows, plane)
    boxes: dict[int, FileBox] = {}
    for order, (index, vertices) in enumerate(shapes.items(), 1):
        if not all(chosen(vertex) for vertex in vertices):
            continue
        rows_at, cols_at = zip(*(vertex.place[-2:] for vertex in vertices), strict=True)
        box = (min(rows_at), min(cols_at), max(rows_at), max(cols_at))
        if not (box[2] > box[0] and box[3] > box[1]):
            raise ValueError(
                f"{path}, line {vertices[0].line}: shape {index} has no area (its box is {box}), "
                "expected a box around an object. Remove the shape, or draw it anew."
            )
        object_id = _object_id(path, vertices[0]) or order
        if object_id in boxes:
            raise ValueError(
                f"{path}, line {vertices[0].line}: shape {index} is of object {object_id}, which "
                "has a box already; expected one box per object. Give it another number."
            )
        boxes[object_id] = FileBox(object_id, box)
    return list(boxes.values())


def read_clicks(path: Path, plane: Plane = ()) -> list[Click]:
    """Read the clicks in a plane.

    Parameters
    ----------
    path : Path
        A CSV file of a Points layer. Column ``label``: see `is_foreground`; without it all are
        FG. Column ``object``: int, empty where it is not known.
    plane : sequence of (int or None)
        Which plane; see `Plane`. Points without leading axes belong to every plane.

    Raises
    ------
    ValueError
        If the file is not a Points file, or a label or an object is not one.
    """
    rows = _read_rows(path)
    if rows and "vertex-index" in rows[0].cells:
        raise ValueError(
            f"{path} has a column 'vertex-index', expected the CSV file of a Points layer. "
            "If these are shapes, pass the file with --boxes."
        )
    _check_label_column(path, rows)
    chosen = _planes_test(path, rows, plane)
    return [
        Click(
            _object_id(path, row),
            (row.place[-2], row.place[-1]),
            _label(path, row),
            f"{path.name}, line {row.line},",
        )
        for row in rows
        if chosen(row)
    ]


def planes_of(path: Path, apart_from: Plane | None = None) -> set[tuple[int, ...]]:
    """Find the planes that the prompts of a file lie in, by their indices before row and column.

    Parameters
    ----------
    path : Path
        Of boxes or of clicks.
    apart_from : sequence of (int or None), optional
        Leave out this plane, and what belongs to every plane.
    """
    rows = _read_rows(path)
    chosen = (lambda row: False) if apart_from is None else _planes_test(path, rows, apart_from)
    return {row.leading for row in rows if not chosen(row)}


def collect_prompts(boxes: Iterable[FileBox], clicks: Iterable[Click] = ()) -> dict[int, Prompts]:
    """Sort clicks to their objects.

    Whose click each is, `clicks_by_object` tells.

    Returns
    -------
    dict of int to Prompts
        By object, in ascending order.

    Raises
    ------
    ValueError
        If a click belongs to no object, or an object has BG clicks alone.
    """
    of_object = {box.object_id: box.box for box in boxes}
    members, strays = clicks_by_object(of_object, clicks)
    if strays:
        raise ValueError(describe_strays(strays))
    prompts = {}
    for object_id, own in members.items():
        try:
            prompts[object_id] = Prompts(
                of_object.get(object_id),
                [click.point for click in own],
                [click.is_foreground for click in own],
            )
        except ValueError as error:
            raise ValueError(f"Object {object_id}: {error}") from error
    return prompts


def prompts_digest(prompts: Mapping[int, Prompts]) -> str:
    """SHA-256 of all objects and their prompts as 64 hex digits, whatever file they came from."""
    hasher = hashlib.sha256()
    for object_id in sorted(prompts):
        hasher.update(f"{object_id} {prompts[object_id].digest()}\n".encode())
    return hasher.hexdigest()


def _read_rows(path: Path) -> list[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            axes = [f"axis-{n}" for n in range(sum(name.startswith("axis-") for name in names))]
            if len(axes) < 2 or not set(axes) <= set(names) or len(set(names)) < len(names):
                raise ValueError(
                    f"{path} has the columns {names}, expected axis-0, axis-1, ... once each and "
                    "separated by commas. Save a Shapes or a Points layer from napari as CSV."
                )
            rows = []
            for cells in reader:
                line = reader.line_num
                if None in cells or None in cells.values():
                    raise ValueError(
                        f"{path}, line {line}: the row does not have the header's {len(names)} "
                        "columns. Save the layer again."
                    )
                rows.append(_Row(line, cells, tuple(_float(path, line, cells, a) for a in axes)))
            return rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a CSV file in UTF-8 ({error}). Save the layer from napari again."
        ) from error


def _float(path: Path, line: int, cells: Mapping[str, str], name: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{path}, line {line}: {name} is {cells[name]!r}, expected a finite number. "
            "Correct or remove the row."
        )
    return value


def _integer(path: Path, row: _Row, name: str) -> int:
    # napari writes the index of points with properties as a float.
    value = _float(path, row.line, row.cells, name)
    if value != int(value):
        raise ValueError(
            f"{path}, line {row.line}: {name} is {row.cells[name]!r}, expected a whole number."
        )
    return int(value)


def _object_id(path: Path, row: _Row) -> int | None:
    if row.cells.get("object", "").strip().lower() in {"", "nan", "none", "<na>"}:
        return None
    value = _integer(path, row, "object")
    if not 0 <= value <= MAX_OBJECT:
        raise ValueError(
            f"{path}, line {row.line}: object is {value}, expected 1 to {MAX_OBJECT}, or 0 or "
            "nothing where it is not known."
        )
    return value or None


def _check_label_column(path: Path, rows: Sequence[_Row]) -> None:
    """Check that no other column says which clicks are FG."""
    columns = {name: [row.cells[name] for row in rows] for name in (rows[0].cells if rows else ())}
    name = label_column(columns)
    if name not in (None, LABEL):
        line, value = next(
            (row.line, row.cells[name]) for row in rows if label_column({name: [row.cells[name]]})
        )
        raise ValueError(
            f"{path}, line {line}: the click has no column {LABEL!r}, and its column {name!r} is "
            f"{value!r}. Call that column {LABEL!r} if it says FG and BG, or else add a column "
            f"{LABEL!r} that does."
        )


def _label(path: Path, row: _Row) -> bool:
    try:
        return is_foreground(row.cells.get(LABEL, "FG"))
    except ValueError as error:
        raise ValueError(
            f"{path}, line {row.line}: the click {error}. Correct the column {LABEL!r} of the "
            "points."
        ) from None


def _planes_test(path: Path, rows: Sequence[_Row], plane: Plane) -> Callable[[_Row], bool]:
    """Make the test of whether a row lies in the plane."""
    leading = {row.leading for row in rows}
    count = len(next(iter(leading), ()))
    wanted = tuple(plane)
    if count != len(wanted):
        # The axis of the channels is an axis of the shapes in some viewers and not in others.
        wanted = tuple(index for index in wanted if index is not None)
    if count == len(wanted):
        return lambda row: all(
            index is None or index == here for index, here in zip(wanted, row.leading, strict=True)
        )
    if count and len(leading) > 1:
        raise ValueError(
            f"{path} has {count} axes before row and column, and its rows lie in "
            f"{len(leading)} planes; the image has {len(wanted)} such axes. Save a layer that was "
            "drawn on this image."
        )
    return lambda row: True
