"""What is on Shapes and Points layers as prompts of objects in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.layers.geometry import ImagePlane, PlaneMap, as_plane
from napari_pisam.predict.areas import LINES, Area, Use, outline_of
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
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box

# Rounding on the way through two transforms must not put a click on the border outside.
_BORDER = 1e-3


@dataclass(frozen=True)
class LayerPrompts:
    """What the prompt layers ask for.

    Attributes
    ----------
    prompts : dict of int to Prompts
        By object, in ascending order; (row, col) px of the image.
    ignored : tuple of str
        Why something that was drawn is not used, a sentence each.
    unclear : tuple of str
        Those of them about clicks of which it is not known whose they are, or whether FG or BG:
        without them, a mask would be another one than was asked for.
    """

    prompts: dict[int, Prompts]
    ignored: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()


class Reason(NamedTuple):
    """Whose prompt is not used, and why not; see `LayerPrompts`."""

    object_id: int | None
    text: str
    is_unclear: bool = False


@dataclass(frozen=True)
class LayerBox:
    """The bounding box of shape number `row` in its layer; without an object if it names none."""

    row: int
    object_id: int | None
    box: Box


@dataclass(frozen=True)
class LayerScribble:
    """The scribble that shape number `row` is."""

    row: int
    click: Click


@dataclass(frozen=True)
class LayerArea:
    """The further box or outline that shape number `row` is, or where its object is not."""

    row: int
    object_id: int
    area: Area


@dataclass(frozen=True)
class LayerShapes:
    """What the shapes on a plane ask for, each kind in the order of the layer."""

    boxes: list[LayerBox] = field(default_factory=list)
    scribbles: list[LayerScribble] = field(default_factory=list)
    areas: list[LayerArea] = field(default_factory=list)


def prompts_from_layers(
    image: Any,
    shapes: Any = None,
    points: Any = None,
    object_id: int | None = None,
    dims: Any = None,
) -> LayerPrompts:
    """Collect the prompts that lie on the displayed plane of an image.

    Parameters
    ----------
    image : napari Image layer or array
        Whose px the prompts are given in.
    shapes : napari Shapes layer, optional
        A path or a line is a scribble, every other shape gives the bounding box, in the image, of
        its vertices, clipped to the image. Features: ``object`` (int): whose it is, boxes without
        get numbers that are free; ``label``, ``use`` and ``after``: see `read_shapes`.
    points : napari Points layer, optional
        Features ``label`` (see `is_foreground`; without it all are FG) and ``object`` (int). A
        click without an object belongs to a box in or near which it lies; see `clicks_by_object`.
    object_id : int, optional
        Of this object only.
    dims : napari.components.Dims or ImagePlane, optional
        ``viewer.dims``; see `plane_of`.

    Returns
    -------
    LayerPrompts
        Of two boxes of one object the later one counts.

    Raises
    ------
    ValueError
        If there is no such plane; see `plane_of`.
    """
    plane = as_plane(image, dims)
    ignored: list[Reason] = []
    drawn = LayerShapes() if shapes is None else read_shapes(image, plane, shapes, ignored)
    boxes, areas = drawn.boxes, drawn.areas
    clicks = [] if points is None else read_clicks(image, plane, points, ignored)
    clicks += [one.click for one in drawn.scribbles]
    named = {one.object_id for one in clicks} | {one.object_id for one in areas}
    of_object = _number_boxes(boxes, named, ignored)
    members, strays = clicks_by_object(of_object, clicks)
    if strays:
        ignored.append(Reason(None, describe_strays(strays), is_unclear=True))
    wanted = sorted({*members, *(one.object_id for one in areas)})
    prompts = {}
    for number in wanted if object_id is None else [object_id]:
        own = members.get(number, [])
        parts = [one.area for one in areas if one.object_id == number]
        says = [one.is_foreground for one in own] + [one.is_foreground for one in parts]
        if number in of_object or any(says):
            strokes = strokes_in_order(own)
            prompts[number] = Prompts.from_strokes(of_object.get(number), strokes, areas=parts)
        elif own or parts:
            text = "has BG clicks alone: draw a box around it, or an FG click."
            ignored.append(Reason(number, f"Object {number} {text}"))
    if object_id is not None:
        ignored = [one for one in ignored if one.object_id in (None, object_id)]
    return LayerPrompts(
        prompts,
        tuple(one.text for one in ignored),
        tuple(one.text for one in ignored if one.is_unclear),
    )


def read_shapes(image: Any, plane: ImagePlane, shapes: Any, ignored: list[Reason]) -> LayerShapes:
    """Read the shapes on a plane; reasons for those that are no prompts go to `ignored`.

    A path or a line is a scribble: feature ``label`` says FG or BG (FG where it says nothing),
    ``after`` how many clicks of its object came before it (all where it is below 0). Any other
    shape is a box, or what ``use`` says (see `Use`); with the label BG its object is not there.
    """
    found = LayerShapes()
    data = [np.asarray(vertices, dtype=np.float64) for vertices in shapes.data]
    if not data:
        return found
    mapping = PlaneMap(image, plane, shapes)
    starts = np.cumsum([0, *(len(vertices) for vertices in data[:-1])])
    together = np.concatenate(data)
    places = mapping.to_image(together)
    chosen = np.logical_and.reduceat(mapping.on_plane(together), starts)
    lows = np.minimum.reduceat(places, starts)
    highs = np.maximum.reduceat(places, starts)
    edges = np.array(plane.size) - 0.5
    clipped = np.concatenate([np.clip(lows, -0.5, edges), np.clip(highs, -0.5, edges)], axis=1)
    kinds = _kinds(shapes, len(data))
    is_line = np.array([kind.is_line for kind in kinds])
    is_finite = np.asarray(np.isfinite(lows + highs).all(axis=1))
    has_area = np.asarray((highs > lows).all(axis=1)) | is_line
    is_inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    is_inside |= is_line & ((lows <= edges) & (highs >= -0.5)).all(axis=1)
    owners = objects_of(shapes, len(data))
    for row in np.flatnonzero(chosen & is_finite & has_area & is_inside).tolist():
        own = np.clip(places[starts[row] : starts[row] + len(data[row])], -0.5, edges)
        reason = _add_shape(found, row, owners[row], kinds[row], own, tuple(clipped[row].tolist()))
        if reason:
            ignored.append(Reason(owners[row], f"Shape {row} {reason}", is_unclear=True))
    for row in np.flatnonzero(chosen & ~(is_finite & has_area & is_inside)).tolist():
        reason = "lies outside the image: draw it on the image."
        if not is_finite[row]:
            reason = "has vertices that are no numbers: draw it again."
        elif not has_area[row]:
            reason = "has no area: draw a box around the object."
        ignored.append(Reason(owners[row], f"Shape {row} {reason}"))
    return found


def read_boxes(image: Any, plane: ImagePlane, shapes: Any, ignored: list[Reason]) -> list[LayerBox]:
    """Read the boxes alone; see `read_shapes`."""
    return read_shapes(image, plane, shapes, ignored).boxes


class _Kind(NamedTuple):
    """What a shape's type and features say; the label is a reason where it is neither FG nor BG."""

    shape_type: str
    label: bool | str
    use: Use | None
    after: int | None

    @property
    def is_line(self) -> bool:
        return self.use is None and self.shape_type in LINES


def _kinds(shapes: Any, count: int) -> list[_Kind]:
    features = shapes.features if len(shapes.features) == count else {}
    nothing = [None] * count
    labels, uses, afters = (list(features.get(name, nothing)) for name in (LABEL, "use", "after"))
    known = set(Use)
    rows = zip(list(shapes.shape_type), labels, uses, afters, strict=True)
    kinds = []
    for shape_type, label, use, after in rows:
        # A box that was drawn as a path is one only where its use says so.
        given = Use(str(use)) if str(use) in known else None
        given = None if str(shape_type) in LINES and given is Use.BOX else given
        number = _as_number(after)
        says: bool | str = not says_background(label)
        if str(shape_type) in LINES and given is None and label is not None and label == label:
            says = _as_label(label)
        order = int(number) if number is not None and number >= 0 else None
        kinds.append(_Kind(str(shape_type), says, given, order))
    return kinds


def _add_shape(
    found: LayerShapes,
    row: int,
    owner: int | None,
    kind: _Kind,
    places: NDArray[np.float64],
    box: Box,
) -> str:
    """Add what a shape is; or say why it is nothing."""
    if isinstance(kind.label, str):
        return kind.label
    if kind.is_line:
        first, *line = ((float(r), float(c)) for r, c in places)
        click = Click(owner, first, kind.label, f"Shape {row}", tuple(line), kind.after)
        found.scribbles.append(LayerScribble(row, click))
    elif kind.label and kind.use in (None, Use.BOX):
        found.boxes.append(LayerBox(row, owner, box))
    elif owner is None:
        return "names no object that it is of: give it a feature 'object'."
    else:
        corners = outline_of(kind.shape_type, places) if kind.use is Use.OUTLINE else box
        found.areas.append(LayerArea(row, owner, Area.of(corners, kind.label)))
    return ""


def read_clicks(image: Any, plane: ImagePlane, points: Any, ignored: list[Reason]) -> list[Click]:
    """Read the points on a plane; reasons for those that are no clicks go to `ignored`."""
    data = np.asarray(points.data, dtype=np.float64)
    if not len(data):
        return []
    mapping = PlaneMap(image, plane, points)
    places = mapping.to_image(data)
    low, high = np.array([-0.5, -0.5]), np.array(plane.size) - 0.5
    is_near = (places >= low - _BORDER) & (places <= high + _BORDER)
    is_inside = np.asarray(is_near.all(axis=1)).tolist()
    inside = np.clip(places, low, high).tolist()
    labels, owners = _labels(points, len(data)), objects_of(points, len(data))
    clicks = []
    for row in np.flatnonzero(mapping.on_plane(data)).tolist():
        label = labels[row]
        if not is_inside[row]:
            reason = "lies outside the image: move it onto the image."
        elif isinstance(label, str):
            reason = label
        else:
            clicks.append(Click(owners[row], tuple(inside[row]), label, f"Point {row}"))
            continue
        ignored.append(Reason(owners[row], f"Point {row} {reason}", isinstance(label, str)))
    return clicks


def objects_of(layer: Any, count: int) -> list[int | None]:
    """Whose each shape or point is; None where it does not say, or says no number above 0."""
    features = layer.features
    if "object" not in features or len(features) != count:
        return [None] * count
    return [_as_object(value) for value in features["object"]]


def labels_of(layer: Any, count: int) -> list[bool | None]:
    """Whether each point is FG; None for what is neither FG nor BG, FG where no column says it."""
    return [None if isinstance(label, str) else label for label in _labels(layer, count)]


def _labels(layer: Any, count: int) -> list[bool | str]:
    """Whether each point is FG, or why that is not known."""
    # What older scripts wrote into `properties` is in the features too.
    features = layer.features
    column = label_column(features) if len(features) == count else None
    if column is None:
        return [True] * count
    if column == LABEL:
        return [_as_label(value) for value in features[column]]
    return [
        f"has no {LABEL}, and its feature {column!r} is {value!r}: call that feature {LABEL!r} if "
        f"it says FG and BG, or else add a feature {LABEL!r} that does."
        for value in features[column]
    ]


def _as_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _as_object(value: Any) -> int | None:
    number = _as_number(value)
    return None if number is None or number < 1 or number != int(number) else int(number)


def _as_label(value: Any) -> bool | str:
    try:
        return is_foreground(value)
    except ValueError as error:
        return f"{error}."


def _number_boxes(
    boxes: Iterable[LayerBox], named: set[int | None], ignored: list[Reason]
) -> dict[int, Box]:
    """Find every box an object; a shape without one gets its place in the layer if free."""
    boxes = list(boxes)
    taken = {number for number in named if number is not None}
    taken |= {box.object_id for box in boxes if box.object_id is not None}
    result: dict[int, Box] = {}
    for box in boxes:
        number = box.object_id
        if number is None:
            number = box.row + 1
            while number in taken:
                number += 1
            taken.add(number)
        elif number in result:
            reason = "has more than one box: the later one is used."
            ignored.append(Reason(number, f"Object {number} {reason}"))
        result[number] = box.box
    return result
