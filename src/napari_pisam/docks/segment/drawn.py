"""What is drawn on the prompt layers: by object, and boxes that wait to become one. No Qt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.layers.prompt_layers import is_own
from napari_pisam.layers.prompts import Reason, objects_of, read_clicks, read_shapes
from napari_pisam.predict.areas import BOX_USES, Area, Use
from napari_pisam.predict.click_sorting import clicks_by_object, describe_strays, strokes_in_order
from napari_pisam.predict.drawn_shapes import DrawnShapes
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.areas import Answer, Box
    from napari_pisam.predict.click_sorting import Stroke
    from napari_pisam.predict.drawn_shapes import DrawnBox
    from napari_pisam.session.session import Session


@dataclass
class Drawn:
    """What the layers hold of one object; plain values, to be compared exactly."""

    box: Box | None = None
    strokes: list[Stroke] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    answer: Answer | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return self.box is None and not self.strokes and not self.areas

    def prompts(self, mask: Any) -> Prompts | None:
        """Return them as prompts, together with a mask to start from; None where there is nothing.

        Raises
        ------
        ValueError
            If they do not say where the object is: BG alone.
        """
        if self.is_empty and mask is None:
            return None
        return Prompts.from_strokes(self.box, self.strokes, mask, self.areas, self.answer)

    def after(self, before: Prompts | Drawn | None) -> Drawn:
        """Return it together with what was drawn before; the box, and its answer, are the last."""
        if before is None:
            return self
        strokes, areas = before.strokes + self.strokes, [*before.areas, *self.areas]
        last = before if self.box is None else self
        return Drawn(last.box, strokes, areas, last.answer)

    def is_in(self, prompts: Prompts | None) -> bool:
        """Whether an object began with this, whatever number it got since."""
        if prompts is None or self.is_empty:
            return False
        if self.box is not None or self.areas:
            areas = list(prompts.areas[: len(self.areas)])
            # Which answer it is to have may have been asked for since.
            return (prompts.box, areas) == (self.box, self.areas)
        return prompts.box is None and prompts.strokes[: len(self.strokes)] == self.strokes


def under_names(drawn: dict[int, Drawn], renamed: Mapping[int, int]) -> dict[int, Drawn]:
    """Return what is drawn by the numbers that objects have now; what is one object's together."""
    result: dict[int, Drawn] = {}
    for number, one in drawn.items():
        name = renamed.get(number, number)
        result[name] = one.after(result.get(name))
    return result


class PlanePrompts(NamedTuple):
    """What is on a plane: by object; boxes of no object; why something is not used."""

    objects: dict[int, Drawn]
    waiting: list[DrawnBox]
    ignored: list[str]


def read_drawn(image: Any, plane: ImagePlane, shapes: Any, points: Any) -> PlanePrompts:
    """Read the prompt layers, either of which may be None; see `clicks_by_object`."""
    reasons: list[Reason] = []
    drawn = DrawnShapes() if shapes is None else read_shapes(image, plane, shapes, reasons)
    clicks = [] if points is None else read_clicks(image, plane, points, reasons)
    clicks += drawn.clicks
    objects: dict[int, Drawn] = {}
    for box in drawn.boxes:
        if box.object_id is not None:
            known = objects.setdefault(box.object_id, Drawn())
            known.box, known.answer = box.box, box.answer
    named = {number: one.box for number, one in objects.items() if one.box is not None}
    for one in drawn.areas:
        objects.setdefault(one.object_id, Drawn()).areas.append(one.area)
    waiting = [box for box in drawn.boxes if box.object_id is None]
    # Numbers below 0: boxes of nobody hold clicks, too.
    members, strays = clicks_by_object(named | {-1 - one.row: one.box for one in waiting}, clicks)
    for number, own in members.items():
        if number > 0 and own:
            objects.setdefault(number, Drawn()).strokes = strokes_in_order(own)
    if strays:
        reasons.append(Reason(None, describe_strays(strays)))
    unused = sum(len(own) for number, own in members.items() if number < 0)
    if unused:
        text = f"{unused} click(s) lie in boxes that are no objects yet, and wait with them."
        reasons.append(Reason(None, text))
    return PlanePrompts(objects, waiting, [one.text for one in reasons])


SHAPE_USES = {
    "box": "The object's box",
    "solid": "Its box, of something solid",
    "fine": "Its box, of thin lines in it",
    "part": "A further box of it",
    "outline": "Its outline",
    "scribble": "A scribble along it",
    "not_here": "Where it is not",
}
"""What a shape can be made, by name, and how it is called."""


def changed_shape(
    found: PlanePrompts, drawn: DrawnShapes, row: int, vertices: NDArray[np.float64], use: str
) -> tuple[int, Drawn] | None:
    """Make a shape something else to its object; what was the box before stays a further one.

    Parameters
    ----------
    found, drawn : PlanePrompts, DrawnShapes
        What is on the plane.
    row : int
        Of the shape.
    vertices : (n, 2) float array
        Its outline, or line, (row, col) px.
    use : str
        One of `SHAPE_USES`.

    Returns
    -------
    (int, Drawn) or None
        The object, and what is drawn of it then; None for a shape of no object.
    """
    number, kept = _without(found, drawn, row)
    if number is None:
        return None
    box = Area.of([vertices.min(axis=0), vertices.max(axis=0)])
    if use == "scribble":
        line = tuple((row, col) for row, col in vertices.tolist())
        return number, replace(kept, strokes=[*kept.strokes, (line, True)])
    if use in BOX_USES:
        others = [] if kept.box is None else [Area.of(kept.box)]
        answer = Use(use).answer
        return number, replace(kept, box=box.box, answer=answer, areas=[*kept.areas, *others])
    is_outline = use == "outline" or (use == "not_here" and not _is_box(vertices))
    area = Area.of(vertices if is_outline else box.vertices, use != "not_here")
    return number, replace(kept, areas=[*kept.areas, area])


def _without(found: PlanePrompts, drawn: DrawnShapes, row: int) -> tuple[int | None, Drawn]:
    """Return whose shape it is, and what is drawn of that object without it."""
    for box in drawn.boxes:
        if box.row == row and box.object_id in found.objects:
            own = found.objects[box.object_id]
            if own.box != box.box:
                return box.object_id, own
            return box.object_id, replace(own, box=None, answer=None)
    for one in drawn.areas:
        if one.row == row:
            own = found.objects[one.object_id]
            return one.object_id, replace(own, areas=[a for a in own.areas if a != one.area])
    for line in drawn.scribbles:
        for number, own in found.objects.items():
            if line.row == row and line.click.stroke in own.strokes:
                return number, replace(
                    own, strokes=[one for one in own.strokes if one != line.click.stroke]
                )
    return None, Drawn()


def _is_box(vertices: NDArray[np.float64]) -> bool:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return len(vertices) == 4 and bool(((vertices == low) | (vertices == high)).all())


def separated(image: Any, plane: ImagePlane, shapes: Any, first_id: int, points: Any = None) -> Any:
    """Return features in which every box has an object of its own, and scribbles their order.

    A box that was pasted still has the number of the one that was copied. A scribble that was just
    drawn comes after the clicks that are there, whatever is clicked later.

    Returns
    -------
    DataFrame or None
        None where they are good as they are.
    """
    drawn = read_shapes(image, plane, shapes, [])
    boxes = drawn.boxes
    owners = [box.object_id for box in boxes if box.object_id is not None]
    loose = [one for one in drawn.scribbles if one.click.after is None and one.click.line]
    if len(set(owners)) == len(owners) and not loose:
        return None
    everywhere = objects_of(shapes, len(shapes.data))
    fresh = max(first_id, 1 + max(owner or 0 for owner in everywhere))
    features, seen = shapes.features.copy(), set()
    for box in boxes:
        if box.object_id in seen:
            features.loc[box.row, "object"] = fresh
            fresh += 1
        elif box.object_id is not None:
            seen.add(box.object_id)
    clicked = Counter([] if points is None else objects_of(points, len(points.data)))
    if loose and "after" not in features:
        features["after"] = -1
    for one in loose:
        features.loc[one.row, "after"] = clicked[one.click.object_id]
    return features


def targets(session: Session, *, adds: bool = False) -> tuple[int, int]:
    """Return the objects that the next shape and the next click are for; 0: nobody's.

    Parameters
    ----------
    session : Session
    adds : bool
        Whether the next shape is one more prompt of the object at hand, as a click is.
    """
    current = session.current
    if current is None:
        click = free = session.first_id
    elif current.committed:
        # Selected in the list: a click corrects it, a box begins another.
        click, free = current.id, session.first_id
    else:
        click = current.id
        prompts = current.prompts
        has_box = prompts is not None and (prompts.box is not None or prompts.is_only_start)
        free = session.first_id if has_box else current.id
    if adds:
        return click, click
    # Without Live, boxes wait for *Segment all boxes* or *Predict*.
    return (free if session.live else 0), click


class WaitingBoxes:
    """Boxes that are nobody's object yet, as those of *Segment all boxes*.

    One that has become an object is taken out of its layer, and put back.
    """

    def __init__(self) -> None:
        self._here: dict[Box, DrawnBox] = {}
        self._taken: dict[Box, tuple[DrawnBox, Any]] = {}
        self._layer: Any = None

    @property
    def boxes(self) -> list[Box]:
        """Those in the layer, in its order."""
        return list(self._here)

    @property
    def rows(self) -> set[int]:
        """Which shapes of the layer they are."""
        return {one.row for one in self._here.values()}

    @property
    def prompts(self) -> list[Prompts]:
        """The same, with the answers that they are to have."""
        return [Prompts(one.box, answer=one.answer) for one in self._here.values()]

    def reset(self) -> None:
        """Forget what was taken out: another plane is shown."""
        self._taken.clear()

    def read(self, found: Sequence[DrawnBox], layer: Any) -> None:
        """Note the boxes of no object that are in the layer now, on the displayed plane."""
        self._layer = layer
        self._here = {one.box: one for one in found}

    def show(self, layer: Any, taken: Container[Box | None]) -> bool:
        """Make the layer hold just those that are no object's; foreign layers stay as they are.

        Returns
        -------
        bool
            Whether the layer was changed.
        """
        if layer is not self._layer or not is_own(layer):
            return False
        gone = [one for box, one in self._here.items() if box in taken]
        back = [self._taken.pop(box) for box in list(self._taken) if box not in taken]
        for one in gone:
            self._taken[one.box] = one, np.array(layer.data[one.row])
        if gone:
            layer.remove([one.row for one in gone])
        if back:
            plain = layer.feature_defaults.iloc[0].to_dict() | {"object": 0}
            for answer in dict.fromkeys(one.answer for one, _ in back):
                says = {"use": Use.of_box(answer).value} if "use" in plain else {}
                layer.feature_defaults = plain | says
                vertices = [corners for one, corners in back if one.answer is answer]
                layer.add(vertices, shape_type="rectangle")
            layer.feature_defaults = plain
        return bool(gone or back)

    def adopt(self, number: int) -> bool:
        """Return the last one to an object; whether there was one."""
        if not self._here:
            return False
        row = list(self._here.values())[-1].row
        features = self._layer.features.copy()
        features.loc[row, "object"] = number
        self._layer.features = features
        return True
