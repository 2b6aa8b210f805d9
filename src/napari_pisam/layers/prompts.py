"""What is on Shapes and Points layers as prompts of objects in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.layers.geometry import ImagePlane, PlaneMap, as_plane
from napari_pisam.predict.areas import LINES, Use
from napari_pisam.predict.click_sorting import (
    LABEL,
    Click,
    describe_strays,
    is_foreground,
    label_column,
    says_background,
)
from napari_pisam.predict.drawn_shapes import DrawnShapes, ShapeKind, sorted_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_pisam.predict.drawn_shapes import DrawnBox
    from napari_pisam.predict.prompts import Prompts

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
    drawn = DrawnShapes() if shapes is None else read_shapes(image, plane, shapes, ignored)
    clicks = [] if points is None else read_clicks(image, plane, points, ignored)
    clicks += drawn.clicks
    named = {one.object_id for one in clicks} | {one.object_id for one in drawn.areas}
    of_object = _number_boxes(drawn.boxes, named, ignored)
    prompts, problems, strays = sorted_prompts(of_object, clicks, drawn.areas)
    if strays:
        ignored.append(Reason(None, describe_strays(strays), is_unclear=True))
    ignored += [Reason(number, text) for number, text in problems.items()]
    if object_id is not None:
        prompts = {number: one for number, one in prompts.items() if number == object_id}
        ignored = [one for one in ignored if one.object_id in (None, object_id)]
    return LayerPrompts(
        prompts,
        tuple(one.text for one in ignored),
        tuple(one.text for one in ignored if one.is_unclear),
    )


def read_shapes(image: Any, plane: ImagePlane, shapes: Any, ignored: list[Reason]) -> DrawnShapes:
    """Read the shapes on a plane; reasons for those that are no prompts go to `ignored`.

    What a shape is, `DrawnShapes.add` tells, by the features ``label`` (FG where it says nothing),
    ``use`` (see `Use`) and ``after`` (all clicks where it is below 0).
    """
    found = DrawnShapes()
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
    is_line = np.array([kind.is_line for kind, _ in kinds])
    is_finite = np.asarray(np.isfinite(lows + highs).all(axis=1))
    has_area = np.asarray((highs > lows).all(axis=1)) | is_line
    is_inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    is_inside |= is_line & ((lows <= edges) & (highs >= -0.5)).all(axis=1)
    owners = objects_of(shapes, len(data))
    for row in np.flatnonzero(chosen & is_finite & has_area & is_inside).tolist():
        own = np.clip(places[starts[row] : starts[row] + len(data[row])], -0.5, edges)
        corners, box = [(r, c) for r, c in own.tolist()], tuple(clipped[row].tolist())
        kind, reason = kinds[row]
        try:
            if not reason:
                found.add(row, owners[row], kind, corners, box, f"Shape {row}")
        except ValueError as error:
            reason = str(error)
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


def _kinds(shapes: Any, count: int) -> list[tuple[ShapeKind, str]]:
    """Read shapes' types and features; a reason where a label is neither FG nor BG."""
    features = shapes.features if len(shapes.features) == count else {}
    nothing = [None] * count
    labels, uses, afters = (list(features.get(name, nothing)) for name in (LABEL, "use", "after"))
    known = set(Use)
    rows = zip(map(str, shapes.shape_type), labels, uses, afters, strict=True)
    kinds = []
    for shape_type, label, use, after in rows:
        # A box that was drawn as a path is one only where its use says so.
        given = Use(str(use)) if str(use) in known else None
        given = None if shape_type in LINES and given and given.is_box else given
        number = _as_number(after)
        order = int(number) if number is not None and number >= 0 else None
        kind = ShapeKind(shape_type, not says_background(label), given, order)
        says = _as_label(label) if kind.is_line and label is not None and label == label else None
        if isinstance(says, bool):
            kind = kind._replace(is_foreground=says)
        kinds.append((kind, says if isinstance(says, str) else ""))
    return kinds


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
    boxes: Iterable[DrawnBox], named: set[int | None], ignored: list[Reason]
) -> dict[int, DrawnBox]:
    """Find every box an object; a shape without one gets its place in the layer if free."""
    boxes = list(boxes)
    taken = {number for number in named if number is not None}
    taken |= {box.object_id for box in boxes if box.object_id is not None}
    result: dict[int, DrawnBox] = {}
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
        result[number] = box
    return result
