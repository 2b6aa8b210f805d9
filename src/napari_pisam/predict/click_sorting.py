"""Which clicks are FG and which BG, whose they are, and in which order they were made.

The one answer for layers, CSV files and scripts; (row, col) px of the image, pixel centres at
integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box

REACH = 0.5
"""How far outside a box a click may lie and still belong to it, by the box's longer side."""

LABEL = "label"
"""The column of a table of clicks that says FG or BG."""

LABELS = {True: "FG", False: "BG"}
"""What it says of FG and of BG."""

_FG = frozenset({"fg", "foreground", "positive", "true", "1", "1.0"})
_BG = frozenset({"bg", "background", "negative", "false", "0", "0.0"})
# What is BG in a column of any name; elsewhere 0 and False may mean anything.
_BG_WORDS = frozenset({"bg", "background", "negative"})
# A column whose name has one of these words says FG or BG by any value.
_SIGN_NAMES = frozenset({"fg", "foreground", "positive", "bg", "background", "negative"}) | {
    *("labels", "sign", "signs", "polarity")
}


def is_foreground(label: object) -> bool:
    """Whether a click's label means FG, by the one vocabulary of layers, CSV files and scripts.

    Parameters
    ----------
    label : object
        FG or BG, foreground or background, positive or negative (in any case), True or False,
        1 or 0.

    Raises
    ------
    ValueError
        For anything else, nothing, None and NaN included: "has the label ..., expected ...",
        without the click, which the caller names.
    """
    text = str(label).strip().lower()
    if text in _FG:
        return True
    if text in _BG:
        return False
    raise ValueError(
        f"has the label {label!r}, expected FG or BG (foreground or background, positive or "
        "negative, True or False, 1 or 0)"
    )


def says_background(label: object) -> bool:
    """Whether a shape's label is a word for BG; anything else, as the name of a class, is none."""
    return str(label).strip().lower() in _BG_WORDS


def label_column(columns: Mapping[str, Sequence[object]]) -> str | None:
    """Find the column that says which clicks are FG and which BG; only `LABEL` may do so.

    Parameters
    ----------
    columns : mapping of str to sequence
        What is known of the clicks, by name.

    Returns
    -------
    str or None
        `LABEL`; or another name, whose column says FG and BG without being called so: an error
        for the caller to report, as its clicks would all be taken for FG; or None: all are FG.
    """
    if LABEL in columns:
        return LABEL
    for name, values in columns.items():
        is_named = not _SIGN_NAMES.isdisjoint(re.split(r"[^a-z]+", str(name).lower()))
        texts = {str(value).strip().lower() for value in values}
        if (texts - _FG) if is_named else (texts & _BG_WORDS):
            return name
    return None


@dataclass(frozen=True)
class Click:
    """A click on an image or a scribble, as it was found in a layer or a file.

    Attributes
    ----------
    object_id : int or None
        The object that it names.
    point : (float, float)
        (row, col) px; of a scribble where it begins.
    is_foreground : bool
    name : str
        How an error calls it, for example "Point 3".
    line : tuple of (float, float)
        Where a scribble goes from there, in straight lines.
    after : int or None
        How many of its object's clicks were made before a scribble; None: all.
    """

    object_id: int | None
    point: tuple[float, float]
    is_foreground: bool
    name: str = field(default="The click", compare=False)
    line: tuple[tuple[float, float], ...] = ()
    after: int | None = None

    @property
    def stroke(self) -> Stroke:
        """Its places, and whether it is FG."""
        return (self.point, *self.line), self.is_foreground


Stroke: TypeAlias = "tuple[tuple[tuple[float, float], ...], bool]"
"""The places of a click (one) or of a scribble, (row, col) px, and whether it is FG."""


def strokes_in_order(clicks: Iterable[Click]) -> list[Stroke]:
    """Put one object's clicks and scribbles into the order in which they were made.

    Clicks keep theirs. A scribble comes after as many of them as it says, behind those scribbles
    that were found before it and say the same.
    """
    points = [click for click in clicks if not click.line]
    lines = [click for click in clicks if click.line]
    places = [len(points) if one.after is None else min(one.after, len(points)) for one in lines]
    order = [(place, 1, number) for number, place in enumerate(places)]
    order += [(number, 2, number) for number in range(len(points))]
    return [(lines if kind == 1 else points)[number].stroke for _, kind, number in sorted(order)]


def clicks_by_object(
    boxes: Mapping[int, Box], clicks: Iterable[Click]
) -> tuple[dict[int, list[Click]], list[Click]]:
    """Tell whose click each is.

    A click belongs to the object that it names, else to the box that holds it (of several, the
    one whose centre is nearest), else to the nearest box within `REACH`. Where there are neither
    boxes nor names, all clicks are of object 1.

    Parameters
    ----------
    boxes : mapping of int to Box
        By object.
    clicks : iterable of Click

    Returns
    -------
    members : dict of int to list of Click
        By object, those with a box alone included, in ascending order.
    strays : list of Click
        Those that are nobody's: an error for the caller to report, see `describe_strays`.
    """
    clicks = list(clicks)
    members: dict[int, list[Click]] = {number: [] for number in boxes}
    is_one_object = not boxes and all(click.object_id is None for click in clicks)
    numbers = np.array(list(boxes))
    corners = np.array([boxes[number] for number in numbers.tolist()]).reshape(-1, 4)
    strays = []
    for click in clicks:
        owner = click.object_id or (1 if is_one_object else None)
        if owner is None and len(numbers):
            place = _box_of(np.array(click.point), corners)
            owner = None if place is None else int(numbers[place])
        if owner is None:
            strays.append(click)
        else:
            members.setdefault(owner, []).append(click)
    return dict(sorted(members.items())), strays


def describe_strays(strays: Sequence[Click]) -> str:
    """Say which clicks belong to nobody, and what to do."""
    names = [f"{one.name} at ({one.point[0]:g}, {one.point[1]:g})" for one in strays[:5]]
    return (
        f"{len(strays)} click(s) lie in no box and near none, and name no object: "
        f"{', '.join(names)}{' ...' if len(strays) > 5 else ''}. Expected every click in or near "
        "its object's box: give the clicks a column 'object', move them, or remove them."
    )


def _box_of(point: NDArray[np.float64], boxes: NDArray[np.float64]) -> int | None:
    """Place of the box that a point belongs to, or None."""
    low, high = boxes[:, :2], boxes[:, 2:]
    outside = np.hypot(*np.maximum(np.maximum(low - point, point - high), 0).T)
    from_centre = np.hypot(*((low + high) / 2 - point).T)
    sides = high - low
    # Of concentric boxes the smaller one.
    nearest = np.lexsort((sides.prod(axis=1), from_centre * (outside == 0), outside))
    reached = outside[nearest] <= REACH * sides[nearest].max(axis=1)
    return int(nearest[int(reached.argmax())]) if reached.any() else None
