"""What is drawn on the prompt layers: by object, and boxes that wait to become one. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.layers import is_own
from napari_pisam.layers.prompts import Reason, objects_of, read_boxes, read_clicks
from napari_pisam.predict.prompts import Prompts, clicks_by_object, describe_strays

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from napari_pisam.layers import ImagePlane
    from napari_pisam.layers.prompts import LayerBox
    from napari_pisam.predict.prompts import Box
    from napari_pisam.session.session import Session


@dataclass
class Drawn:
    """What the layers hold of one object; plain values, to be compared exactly."""

    box: Box | None = None
    clicks: list[tuple[float, float, bool]] = field(default_factory=list)

    def prompts(self, mask: Any) -> Prompts | None:
        """Return them as prompts, together with a mask to start from; None where there is nothing.

        Raises
        ------
        ValueError
            If they do not say where the object is: BG clicks alone.
        """
        if self.box is None and not self.clicks and mask is None:
            return None
        points = [(row, col) for row, col, _ in self.clicks]
        return Prompts(self.box, points, [flag for _, _, flag in self.clicks], mask)

    def after(self, before: Prompts | None) -> Drawn:
        """Return what is drawn after prompts that the layers do not show."""
        if before is None:
            return self
        return Drawn(self.box or before.box, clicks_of(before) + self.clicks)

    def is_in(self, prompts: Prompts | None) -> bool:
        """Whether an object began with this, whatever number it got since."""
        if prompts is None or (self.box is None and not self.clicks):
            return False
        first = clicks_of(prompts)[: len(self.clicks)]
        return prompts.box == self.box and (self.box is not None or first == self.clicks)


def clicks_of(prompts: Prompts) -> list[tuple[float, float, bool]]:
    """Return an object's clicks as they are drawn: (row, col, is FG)."""
    rows = zip(prompts.points.tolist(), prompts.labels.tolist(), strict=True)
    return [(row, col, flag) for (row, col), flag in rows]


def under_names(drawn: dict[int, Drawn], renamed: Mapping[int, int]) -> dict[int, Drawn]:
    """Return what is drawn by the numbers that objects have now; what is one object's together."""
    result: dict[int, Drawn] = {}
    for number, one in drawn.items():
        name = renamed.get(number, number)
        other = result.get(name, Drawn())
        result[name] = Drawn(one.box or other.box, other.clicks + one.clicks)
    return result


class PlanePrompts(NamedTuple):
    """What is on a plane: by object; boxes of no object; why something is not used."""

    objects: dict[int, Drawn]
    waiting: list[LayerBox]
    ignored: list[str]


def read_drawn(image: Any, plane: ImagePlane, shapes: Any, points: Any) -> PlanePrompts:
    """Read the prompt layers, either of which may be None; see `clicks_by_object`."""
    reasons: list[Reason] = []
    boxes = [] if shapes is None else read_boxes(image, plane, shapes, reasons)
    clicks = [] if points is None else read_clicks(image, plane, points, reasons)
    objects: dict[int, Drawn] = {}
    for box in boxes:
        if box.object_id is not None:
            objects.setdefault(box.object_id, Drawn()).box = box.box
    named = {number: one.box for number, one in objects.items() if one.box is not None}
    waiting = [box for box in boxes if box.object_id is None]
    # Numbers below 0: boxes of nobody hold clicks, too.
    members, strays = clicks_by_object(named | {-1 - one.row: one.box for one in waiting}, clicks)
    for number, own in members.items():
        for click in own if number > 0 else ():
            one = (*click.point, click.is_foreground)
            objects.setdefault(number, Drawn()).clicks.append(one)
    if strays:
        reasons.append(Reason(None, describe_strays(strays)))
    unused = sum(len(own) for number, own in members.items() if number < 0)
    if unused:
        text = f"{unused} click(s) lie in boxes that are no objects yet, and wait with them."
        reasons.append(Reason(None, text))
    return PlanePrompts(objects, waiting, [one.text for one in reasons])


def separated(image: Any, plane: ImagePlane, shapes: Any, first_id: int) -> Any:
    """Return features in which every box has an object of its own.

    A box that was pasted still has the number of the one that was copied.

    Returns
    -------
    DataFrame or None
        None where they are good as they are.
    """
    boxes = read_boxes(image, plane, shapes, [])
    owners = [box.object_id for box in boxes if box.object_id is not None]
    if len(set(owners)) == len(owners):
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
    return features


def targets(session: Session) -> tuple[int, int]:
    """Return the objects that the next box and the next click are for; 0: nobody's."""
    current = session.current
    if current is None:
        click = free = session.first_id
    elif current.committed:
        # Selected in the list: a click corrects it, a box begins another.
        click, free = current.id, session.first_id
    else:
        click = current.id
        has_box = current.prompts is not None and current.prompts.box is not None
        free = session.first_id if has_box else current.id
    # Without Live, boxes wait for *Segment all boxes* or *Predict*.
    return (free if session.live else 0), click


class WaitingBoxes:
    """Boxes that are nobody's object yet, as those of *Segment all boxes*.

    One that has become an object is taken out of its layer, and put back.
    """

    def __init__(self) -> None:
        self._here: dict[Box, int] = {}
        self._taken: dict[Box, Any] = {}
        self._layer: Any = None

    @property
    def boxes(self) -> list[Box]:
        """Those in the layer, in its order."""
        return list(self._here)

    def reset(self) -> None:
        """Forget what was taken out: another plane is shown."""
        self._taken.clear()

    def read(self, found: Sequence[LayerBox], layer: Any) -> None:
        """Note the boxes of no object that are in the layer now, on the displayed plane."""
        self._layer = layer
        self._here = {one.box: one.row for one in found}

    def show(self, layer: Any, taken: Container[Box | None]) -> bool:
        """Make the layer hold just those that are no object's; foreign layers stay as they are.

        Returns
        -------
        bool
            Whether the layer was changed.
        """
        if layer is not self._layer or not is_own(layer):
            return False
        gone = {box: row for box, row in self._here.items() if box in taken}
        back = [box for box in self._taken if box not in taken]
        for box, row in gone.items():
            self._taken[box] = np.array(layer.data[row])
        if gone:
            layer.remove(list(gone.values()))
        if back:
            layer.feature_defaults = layer.feature_defaults.iloc[0].to_dict() | {"object": 0}
            vertices = [self._taken.pop(box) for box in back]
            layer.add(vertices, shape_type="rectangle")
        return bool(gone or back)

    def adopt(self, number: int) -> bool:
        """Return the last one to an object; whether there was one."""
        if not self._here:
            return False
        row = list(self._here.values())[-1]
        features = self._layer.features.copy()
        features.loc[row, "object"] = number
        self._layer.features = features
        return True
