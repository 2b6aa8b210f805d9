"""Prompts from the CSV files that napari writes when a Shapes or a Points layer is saved, and back.

A Shapes file has the columns ``index, shape-type, vertex-index, axis-0, axis-1, ...`` and one row
per vertex; a Points file ``index, axis-0, axis-1, ...`` and one column per property. The last two
axes are (row, col), those before them say in which plane of a stack a prompt lies. A path or a line
is a scribble, any other shape a box, unless the column ``use`` says otherwise; see `read_shapes`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

from napari_pisam.images.files import write_csv
from napari_pisam.images.label_formats.outlines import outlines
from napari_pisam.images.label_formats.table import read_table_boxes
from napari_pisam.images.layer_tables import LayerRow, read_layer_rows
from napari_pisam.predict.areas import LINES, Use
from napari_pisam.predict.click_sorting import (
    LABEL,
    LABELS,
    Click,
    describe_strays,
    is_foreground,
    label_column,
    says_background,
)
from napari_pisam.predict.drawn_shapes import (
    DrawnBox,
    DrawnShapes,
    PromptShape,
    ShapeKind,
    shapes_of,
    sorted_prompts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_pisam.predict.drawn_shapes import DrawnArea
    from napari_pisam.predict.prompts import Prompts

Plane: TypeAlias = "Sequence[int | None]"
"""The index along each leading axis of the image; None for an axis that holds its channels."""

MAX_OBJECT = 2**32 - 1


def read_shapes(path: Path, plane: Plane = ()) -> DrawnShapes:
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
    DrawnShapes
        In the file's order. The object is the shape's place in the file, from 1, unless given (a
        scribble without belongs to a box, as clicks do); it does not depend on the plane.

    Raises
    ------
    ValueError
        If the file is not a Shapes file, a shape has no area, two boxes are of the same object, or
        a column has a value that it cannot have.
    """
    if (table := read_table_boxes(path)) is not None:
        return DrawnShapes([DrawnBox(number, box) for number, box in table.boxes.items()])
    rows = read_layer_rows(path)
    if rows and not {"index", "vertex-index"} <= rows[0].cells.keys():
        raise ValueError(
            f"{path} has no columns 'index' and 'vertex-index', expected the CSV file of a Shapes "
            "layer. If these are points, pass the file with --points."
        )
    shapes: dict[int, list[LayerRow]] = {}
    for row in rows:
        shapes.setdefault(row.integer("index"), []).append(row)
    chosen = _planes_test(path, rows, plane)
    found = DrawnShapes()
    for order, (index, vertices) in enumerate(shapes.items(), 1):
        if all(chosen(vertex) for vertex in vertices):
            _add_shape(found, path, index, order, vertices)
    return found


def _add_shape(
    found: DrawnShapes, path: Path, index: int, order: int, vertices: Sequence[LayerRow]
) -> None:
    first = vertices[0]
    own, is_fg = _object_id(first), not says_background(first.cells.get(LABEL))
    kind = ShapeKind(first.cells.get("shape-type", ""), is_fg, _use(first))
    if kind.is_line:
        is_fg, after = _label(first, "FG"), _after(first)
        kind = kind._replace(is_foreground=is_fg, after=after)
    places = [(row.place[-2], row.place[-1]) for row in vertices]
    rows_at, cols_at = zip(*places, strict=True)
    box = (min(rows_at), min(cols_at), max(rows_at), max(cols_at))
    if not kind.is_line and not (box[2] > box[0] and box[3] > box[1]):
        raise ValueError(
            f"{first.where}: shape {index} has no area (its box is {box}), "
            "expected a box around an object. Remove the shape, or draw it anew."
        )
    taken = {one.object_id for one in found.boxes}
    owner = own if kind.is_line else own or order
    name = f"{path.name}, line {first.line},"
    added = found.add(index, owner, kind, places, box, name)
    if added is not None and added.object_id in taken:
        raise ValueError(
            f"{first.where}: shape {index} is of object {owner}, which has a box "
            "already; expected one box per object. Give it another number, or the use "
            f"'{Use.PART}' if the object has several parts."
        )


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
    rows = read_layer_rows(path)
    if rows and "vertex-index" in rows[0].cells:
        raise ValueError(
            f"{path} has a column 'vertex-index', expected the CSV file of a Points layer. "
            "If these are shapes, pass the file with --boxes."
        )
    _check_label_column(rows)
    chosen = _planes_test(path, rows, plane)
    return [
        Click(
            _object_id(row),
            (row.place[-2], row.place[-1]),
            _label(row),
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
    rows = read_layer_rows(path)
    chosen = (lambda row: False) if apart_from is None else _planes_test(path, rows, apart_from)
    return {_leading(row) for row in rows if not chosen(row)}


def collect_prompts(
    boxes: Iterable[DrawnBox], clicks: Iterable[Click] = (), areas: Iterable[DrawnArea] = ()
) -> dict[int, Prompts]:
    """Sort clicks, scribbles and areas to their objects; see `sorted_prompts`.

    Raises
    ------
    ValueError
        If a click belongs to no object, or an object has BG clicks alone.
    """
    of_object = {one.object_id: one for one in boxes if one.object_id is not None}
    prompts, problems, strays = sorted_prompts(of_object, clicks, areas)
    if strays or problems:
        raise ValueError(describe_strays(strays) if strays else next(iter(problems.values())))
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
    shape_rows: list[Sequence[object]] = [_SHAPE_COLUMNS]
    click_rows: list[Sequence[object]] = [_POINT_COLUMNS]
    index = 0
    for number, one in prompts.items():
        for shape in (*_outline_of_mask(number, one), *shapes_of(one)):
            is_path = shape.shape_type in LINES
            says = LABELS[shape.is_foreground], "" if is_path else shape.use
            after = shape.after if is_path else ""
            shape_rows += [
                (index, shape.shape_type, vertex, row, col, number, *says, after)
                for vertex, (row, col) in enumerate(shape.vertices)
            ]
            index += 1
        for places, is_fg in one.strokes:
            if len(places) == 1:
                click_rows.append((len(click_rows) - 1, *places[0], LABELS[is_fg], number))
    write_csv(shapes, shape_rows)
    write_csv(points, click_rows)


_POINT_COLUMNS = ("index", "axis-0", "axis-1", LABEL, "object")
_SHAPE_COLUMNS = (
    *("index", "shape-type", "vertex-index", "axis-0", "axis-1"),
    *("object", LABEL, "use", "after"),
)


def _outline_of_mask(number: int, one: Prompts) -> Iterator[PromptShape]:
    """Return a mask to start from as an outline."""
    if one.mask is None:
        return
    rings = [ring for part in outlines(one.mask.crop) for ring in part]
    if len(rings) > 1:
        raise ValueError(
            f"Object {number} starts from a mask with holes or of several parts, expected one "
            "outline for a table of shapes. Keep it in a session file."
        )
    yield PromptShape("polygon", (rings[0] + one.mask.origin).tolist(), True, Use.OUTLINE)


def _object_id(row: LayerRow) -> int | None:
    if row.text("object") is None:
        return None
    value = row.integer("object")
    if not 0 <= value <= MAX_OBJECT:
        raise ValueError(
            f"{row.where}: object is {value}, expected 1 to {MAX_OBJECT}, or 0 or "
            "nothing where it is not known."
        )
    return value or None


def _check_label_column(rows: Sequence[LayerRow]) -> None:
    """Check that no other column says which clicks are FG."""
    columns = {name: [row.cells[name] for row in rows] for name in (rows[0].cells if rows else ())}
    name = label_column(columns)
    if name not in (None, LABEL):
        row = next(row for row in rows if label_column({name: [row.cells[name]]}))
        value = row.cells[name]
        raise ValueError(
            f"{row.where}: the click has no column {LABEL!r}, and its column {name!r} is "
            f"{value!r}. Call that column {LABEL!r} if it says FG and BG, or else add a column "
            f"{LABEL!r} that does."
        )


def _use(row: LayerRow) -> Use | None:
    text = row.text("use")
    if text is None:
        return None
    try:
        return Use(text)
    except ValueError:
        raise ValueError(
            f"{row.where}: use is {text!r}, expected {', '.join(Use)} or nothing."
        ) from None


def _after(row: LayerRow) -> int | None:
    return None if row.text("after") is None else max(0, row.integer("after"))


def _label(row: LayerRow, empty: str = "") -> bool:
    try:
        return is_foreground(row.cells.get(LABEL, "FG") or empty)
    except ValueError as error:
        what = "shape" if "vertex-index" in row.cells else "click"
        raise ValueError(
            f"{row.where}: the {what} {error}. Correct the column {LABEL!r} of the "
            f"{'shapes' if what == 'shape' else 'points'}."
        ) from None


def _leading(row: LayerRow) -> tuple[int, ...]:
    return tuple(round(value) for value in row.place[:-2])


def _planes_test(path: Path, rows: Sequence[LayerRow], plane: Plane) -> Callable[[LayerRow], bool]:
    """Make the test of whether a row lies in the plane."""
    leading = {_leading(row) for row in rows}
    count = len(next(iter(leading), ()))
    wanted = tuple(plane)
    if count != len(wanted):
        # The axis of the channels is an axis of the shapes in some viewers and not in others.
        wanted = tuple(index for index in wanted if index is not None)
    if count == len(wanted):
        return lambda row: all(
            index is None or index == here
            for index, here in zip(wanted, _leading(row), strict=True)
        )
    if count and len(leading) > 1:
        raise ValueError(
            f"{path} has {count} axes before row and column, and its rows lie in "
            f"{len(leading)} planes; the image has {len(wanted)} such axes. Save a layer that was "
            "drawn on this image."
        )
    return lambda row: True
