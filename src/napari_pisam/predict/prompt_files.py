"""Prompts from the CSV files that napari writes when a Shapes or a Points layer is saved, and back.

A Shapes file has the columns ``index, shape-type, vertex-index, axis-0, axis-1, ...`` and one row
per vertex; a Points file ``index, axis-0, axis-1, ...`` and one column per property. The last two
axes are (row, col), those before them say in which plane of a stack a prompt lies. A path or a line
is a scribble, any other shape a box, unless the column ``use`` says otherwise; see `read_shapes`.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_pisam.images.files import replacing
from napari_pisam.images.label_formats.outlines import outlines
from napari_pisam.images.label_formats.table import read_table_boxes
from napari_pisam.predict.areas import LINES, Area, Use, corners_of, outline_of
from napari_pisam.predict.click_sorting import (
    LABEL,
    Click,
    clicks_by_object,
    describe_strays,
    is_foreground,
    label_column,
    says_background,
    strokes_in_order,
)
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_pisam.predict.areas import Box

Plane: TypeAlias = "Sequence[int | None]"
"""The index along each leading axis of the image; None for an axis that holds its channels."""

MAX_OBJECT = 2**32 - 1

_NOTHING = frozenset({"", "nan", "none", "<na>"})


@dataclass(frozen=True)
class FileBox:
    """A shape's bounding box, (row, col) px, and the label that its object will get."""

    object_id: int
    box: Box


@dataclass(frozen=True)
class FileShapes:
    """What the shapes of a file ask for.

    Attributes
    ----------
    boxes : list of FileBox
        One for an object.
    scribbles : list of Click
    areas : list of (int, Area)
        With the object that they are of.
    """

    boxes: list[FileBox] = field(default_factory=list)
    scribbles: list[Click] = field(default_factory=list)
    areas: list[tuple[int, Area]] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """One row of a file: its line number, its cells by column name, its coordinates."""

    line: int
    cells: Mapping[str, str]
    place: tuple[float, ...]

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(round(value) for value in self.place[:-2])


def read_shapes(path: Path, plane: Plane = ()) -> FileShapes:
    """Read the boxes, scribbles and areas of a plane.

    Parameters
    ----------
    path : Path
        A CSV file of a Shapes layer. Columns that are used where they are there: ``object`` (int);
        ``label``, FG or BG: what a scribble says, and BG makes any other shape a place where its
        object is not; ``use`` (see `Use`); ``after`` (int): how many clicks of its object were made
        before a scribble, empty: all. Or a table of measures with boxes, see `read_table_boxes`.
    plane : sequence of (int or None)
        Which plane; see `Plane`. Shapes without leading axes belong to every plane.

    Returns
    -------
    FileShapes
        In the file's order. The object is the shape's place in the file, from 1, unless given (a
        scribble without belongs to a box, as clicks do); it does not depend on the plane.

    Raises
    ------
    ValueError
        If the file is not a Shapes file, a shape has no area, two boxes are of the same object, or
        a column has a value that it cannot have.
    """
    if (table := read_table_boxes(path)) is not None:
        return FileShapes([FileBox(number, box) for number, box in table.boxes.items()])
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
    found = FileShapes()
    for order, (index, vertices) in enumerate(shapes.items(), 1):
        if all(chosen(vertex) for vertex in vertices):
            _add_shape(found, path, index, order, vertices)
    return found


def _add_shape(
    found: FileShapes, path: Path, index: int, order: int, vertices: Sequence[_Row]
) -> None:
    first = vertices[0]
    kind, own = first.cells.get("shape-type", ""), _object_id(path, first)
    places = [(row.place[-2], row.place[-1]) for row in vertices]
    is_fg, use = not says_background(first.cells.get(LABEL)), _use(path, first)
    if use is None and kind in LINES:
        is_fg = _label(path, first, "FG")
        name, after = f"{path.name}, line {first.line},", _after(path, first)
        line = tuple(places[1:])
        found.scribbles.append(Click(own, places[0], is_fg, name, line, after))
        return
    rows_at, cols_at = zip(*places, strict=True)
    box = (min(rows_at), min(cols_at), max(rows_at), max(cols_at))
    if not (box[2] > box[0] and box[3] > box[1]):
        raise ValueError(
            f"{path}, line {first.line}: shape {index} has no area (its box is {box}), "
            "expected a box around an object. Remove the shape, or draw it anew."
        )
    object_id = own or order
    if is_fg and use in (None, Use.BOX):
        if any(one.object_id == object_id for one in found.boxes):
            raise ValueError(
                f"{path}, line {first.line}: shape {index} is of object {object_id}, which has a "
                "box already; expected one box per object. Give it another number, or the use "
                f"'{Use.PART}' if the object has several parts."
            )
        found.boxes.append(FileBox(object_id, box))
        return
    corners = outline_of(kind, places) if use is Use.OUTLINE else box
    found.areas.append((object_id, Area.of(corners, is_fg)))


def read_boxes(path: Path, plane: Plane = ()) -> list[FileBox]:
    """Read the boxes alone of a plane; see `read_shapes`."""
    return read_shapes(path, plane).boxes


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
    if read_table_boxes(path) is not None:
        return set()
    rows = _read_rows(path)
    chosen = (lambda row: False) if apart_from is None else _planes_test(path, rows, apart_from)
    return {row.leading for row in rows if not chosen(row)}


def collect_prompts(
    boxes: Iterable[FileBox],
    clicks: Iterable[Click] = (),
    areas: Iterable[tuple[int, Area]] = (),
) -> dict[int, Prompts]:
    """Sort clicks, scribbles and areas to their objects.

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
    areas, prompts = list(areas), {}
    for object_id in sorted({*members, *(number for number, _ in areas)}):
        strokes = strokes_in_order(members.get(object_id, ()))
        own = [area for number, area in areas if number == object_id]
        try:
            prompts[object_id] = Prompts.from_strokes(of_object.get(object_id), strokes, areas=own)
        except ValueError as error:
            raise ValueError(f"Object {object_id}: {error}") from error
    return prompts


def prompts_digest(prompts: Mapping[int, Prompts]) -> str:
    """SHA-256 of all objects and their prompts as 64 hex digits, whatever file they came from."""
    hasher = hashlib.sha256()
    for object_id in sorted(prompts):
        hasher.update(f"{object_id} {prompts[object_id].digest()}\n".encode())
    return hasher.hexdigest()


def write_prompts(shapes: Path, points: Path, prompts: Mapping[int, Prompts]) -> None:
    """Write prompts as the two files that napari, `read_shapes` and `read_clicks` read.

    Parameters
    ----------
    shapes, points : Path
        The CSV files of boxes, scribbles and areas, and of clicks; what is there is replaced.
    prompts : mapping of int to Prompts
        By object. A mask to start from is written as its outlines.

    Raises
    ------
    ValueError
        If a mask to start from has holes or several parts, which one outline cannot say.
    """
    lines: list[tuple[Any, ...]] = []
    clicks: list[tuple[object, ...]] = []
    for number, one in prompts.items():
        lines += [(number, *shape) for shape in _shapes_of(number, one)]
        count = 0
        for places, is_fg in one.strokes:
            label = "FG" if is_fg else "BG"
            if len(places) == 1:
                count += 1
                clicks.append((*places[0], label, number))
            else:
                lines.append((number, "path", places, label, "", count))
    rows = [
        (index, kind, vertex, row, col, number, label, use, after)
        for index, (number, kind, places, label, use, after) in enumerate(lines)
        for vertex, (row, col) in enumerate(places)
    ]
    _write(shapes, _SHAPE_COLUMNS, rows)
    _write(points, _POINT_COLUMNS, [(index, *click) for index, click in enumerate(clicks)])


_POINT_COLUMNS = ("index", "axis-0", "axis-1", LABEL, "object")
_SHAPE_COLUMNS = (
    *("index", "shape-type", "vertex-index", "axis-0", "axis-1"),
    *("object", LABEL, "use", "after"),
)


def _shapes_of(number: int, one: Prompts) -> Iterator[tuple[str, Any, str, str, str]]:
    """Shape type, corners, label, use and after of an object's box, mask and areas."""
    if one.box is not None:
        yield "rectangle", corners_of(one.box), "FG", Use.BOX, ""
    if one.mask is not None:
        rings = [ring for part in outlines(one.mask.crop) for ring in part]
        if len(rings) > 1:
            raise ValueError(
                f"Object {number} starts from a mask with holes or of several parts, expected one "
                "outline for a table of shapes. Keep it in a session file."
            )
        yield "polygon", (rings[0] + one.mask.origin).tolist(), "FG", Use.OUTLINE, ""
    for area in one.areas:
        label = "FG" if area.is_foreground else "BG"
        if area.is_box:
            yield "rectangle", corners_of(area.box), label, Use.PART, ""
        else:
            yield "polygon", area.vertices, label, Use.OUTLINE, ""


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


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
                    "separated by commas. Save a Shapes or a Points layer from napari as CSV, or "
                    "give boxes as a table with the columns label and bbox-0 to bbox-3."
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
    if row.cells.get("object", "").strip().lower() in _NOTHING:
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


def _use(path: Path, row: _Row) -> Use | None:
    text = row.cells.get("use", "").strip().lower()
    if text in _NOTHING:
        return None
    try:
        return Use(text)
    except ValueError:
        raise ValueError(
            f"{path}, line {row.line}: use is {text!r}, expected {', '.join(Use)} or nothing."
        ) from None


def _after(path: Path, row: _Row) -> int | None:
    if row.cells.get("after", "").strip().lower() in _NOTHING:
        return None
    return max(0, _integer(path, row, "after"))


def _label(path: Path, row: _Row, empty: str = "") -> bool:
    try:
        return is_foreground(row.cells.get(LABEL, "FG") or empty)
    except ValueError as error:
        what = "shape" if "vertex-index" in row.cells else "click"
        raise ValueError(
            f"{path}, line {row.line}: the {what} {error}. Correct the column {LABEL!r} of the "
            f"{'shapes' if what == 'shape' else 'points'}."
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
