"""What drawn shapes are to their objects, and which shapes say prompts, in layers and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from napari_pisam.predict.areas import LINES, Answer, Area, Use, corners_of, outline_of
from napari_pisam.predict.click_sorting import Click, clicks_by_object, strokes_in_order
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_pisam.predict.areas import Box, Corner


@dataclass(frozen=True)
class DrawnBox:
    """The bounding box of shape number `row`; without an object if it names none."""

    object_id: int | None
    box: Box
    row: int = field(default=-1, compare=False)
    answer: Answer | None = None


@dataclass(frozen=True)
class DrawnScribble:
    """The scribble that shape number `row` is."""

    click: Click
    row: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class DrawnArea:
    """The further box or outline that shape number `row` is, or where its object is not."""

    object_id: int
    area: Area
    row: int = field(default=-1, compare=False)


class ShapeKind(NamedTuple):
    """What the type and the columns of a shape say; see `DrawnShapes.add`."""

    shape_type: str
    is_foreground: bool
    use: Use | None
    after: int | None = None

    @property
    def is_line(self) -> bool:
        """Whether it is a scribble."""
        return self.use is None and self.shape_type in LINES


@dataclass(frozen=True)
class DrawnShapes:
    """What shapes ask for, each kind in the order in which they were drawn."""

    boxes: list[DrawnBox] = field(default_factory=list)
    scribbles: list[DrawnScribble] = field(default_factory=list)
    areas: list[DrawnArea] = field(default_factory=list)

    @property
    def clicks(self) -> list[Click]:
        """The scribbles, to be sorted to their objects as clicks are."""
        return [one.click for one in self.scribbles]

    def add(
        self,
        row: int,
        owner: int | None,
        kind: ShapeKind,
        places: Sequence[Corner],
        box: Box,
        name: str,
    ) -> DrawnBox | None:
        """Add what a shape is, and return it if it is a box.

        A path or a line is a scribble: FG or BG, and after how many clicks of its object it was
        made. Any other shape is a box, or what its use says; BG its object is not there.

        Parameters
        ----------
        row : int
            Which shape of all.
        owner : int or None
            Its object.
        kind : ShapeKind
        places : sequence of (float, float)
            Its corners, (row, col) px of the image.
        box : Box
            Around them.
        name : str
            How an error calls it.

        Raises
        ------
        ValueError
            If it is an area and names no object: a sentence without the shape.
        """
        if kind.is_line:
            click = Click(owner, places[0], kind.is_foreground, name, tuple(places[1:]), kind.after)
            self.scribbles.append(DrawnScribble(click, row))
        elif kind.is_foreground and (kind.use is None or kind.use.is_box):
            answer = None if kind.use is None else kind.use.answer
            self.boxes.append(DrawnBox(owner, box, row, answer))
            return self.boxes[-1]
        elif owner is None:
            raise ValueError("names no object that it is of: give it a feature 'object'.")
        else:
            corners = outline_of(kind.shape_type, places) if kind.use is Use.OUTLINE else box
            self.areas.append(DrawnArea(owner, Area.of(corners, kind.is_foreground), row))
        return None


def sorted_prompts(
    boxes: Mapping[int, DrawnBox], clicks: Iterable[Click], areas: Iterable[DrawnArea]
) -> tuple[dict[int, Prompts], dict[int, str], list[Click]]:
    """Sort clicks, scribbles and areas to their objects, whose boxes are given.

    Whose click each is, `clicks_by_object` tells.

    Returns
    -------
    prompts : dict of int to Prompts
        By object, in ascending order.
    problems : dict of int to str
        Why what there is of an object says nothing of where it is.
    strays : list of Click
        Those that are nobody's, see `describe_strays`.
    """
    members, strays = clicks_by_object({n: drawn.box for n, drawn in boxes.items()}, clicks)
    areas, prompts, problems = list(areas), {}, {}
    for number in sorted({*members, *(one.object_id for one in areas)}):
        strokes = strokes_in_order(members.get(number, ()))
        own = [one.area for one in areas if one.object_id == number]
        box = boxes.get(number)
        given = (None, None) if box is None else (box.box, box.answer)
        try:
            prompts[number] = Prompts.from_strokes(given[0], strokes, areas=own, answer=given[1])
        except ValueError as error:
            problems[number] = f"Object {number}: {error}"
    return prompts, problems, strays


class PromptShape(NamedTuple):
    """A shape that says a part of prompts; `after` is -1 where it says nothing."""

    shape_type: str
    vertices: Sequence[Corner]
    is_foreground: bool = True
    use: str = Use.BOX.value
    after: int = -1


def shapes_of(prompts: Prompts) -> Iterator[PromptShape]:
    """Iterate over the shapes that say an object's box, areas and scribbles."""
    if prompts.box is not None:
        use = Use.of_box(prompts.answer)
        yield PromptShape("rectangle", corners_of(prompts.box), use=use.value)
    for area in prompts.areas:
        use = Use.PART if area.is_box else Use.OUTLINE
        corners = corners_of(area.box) if area.is_box else area.vertices
        kind = "rectangle" if area.is_box else "polygon"
        yield PromptShape(kind, corners, area.is_foreground, use.value)
    clicks = 0
    for places, is_foreground in prompts.strokes:
        if len(places) > 1:
            yield PromptShape("path", places, is_foreground, after=clicks)
        else:
            clicks += 1
