"""Tidying objects up, as the dock's *Clean* menu has it. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_pisam.measure.cleaning import Cleaning, split
from napari_pisam.predict.prompts import MaskPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.session.session import Session


class Step(NamedTuple):
    """An entry of the menu: its name, its text, and what it does to each object."""

    name: str
    text: str
    cleaning: Cleaning = Cleaning()


STEPS = (
    Step("fill", "Fill holes", Cleaning(fill_holes=True)),
    Step("specks", "Remove specks (below 20 px)", Cleaning(specks=20)),
    Step("largest", "Keep the largest part", Cleaning(largest=True)),
    Step("smooth", "Smooth by 2 px", Cleaning(smooth=2)),
    Step("grow", "Grow by 1 px", Cleaning(grow=1)),
    Step("shrink", "Shrink by 1 px", Cleaning(grow=-1)),
    Step("split", "Split along a line …"),
    Step("merge", "Merge the selected objects"),
)


def _pixels(session: Session, number: int) -> MaskPrompt:
    found = session.pixels(number)
    if found is None:
        raise ValueError(f"Object {number} has no mask yet. Wait for it, or press Predict.")
    return found


def clean(session: Session, numbers: Sequence[int], cleaning: Cleaning) -> None:
    """Clean objects, all in one step of undo.

    Raises
    ------
    ValueError
        If there is none, or one has no mask or would have no pixel left.
    """
    masks: dict[int, MaskPrompt | None] = {}
    for number in numbers:
        found = _pixels(session, number)
        crop, origin = cleaning.apply(found.crop, found.origin, session.shape or ())
        if not crop.any():
            raise ValueError(f"Nothing would be left of object {number}. It stays as it is.")
        changed = MaskPrompt.from_any((crop, origin))
        if changed.bbox != found.bbox or not np.array_equal(changed.crop, found.crop):
            masks[number] = changed
    if masks:
        session.reshape(masks)


def merge(session: Session, numbers: Sequence[int]) -> None:
    """Make several objects the first of them, in one step of undo.

    Raises
    ------
    ValueError
        If there are not two, or one has no mask.
    """
    if len(numbers) < 2:
        raise ValueError("Select two objects or more in the list (Ctrl or Shift), then merge them.")
    together = MaskPrompt.joined([_pixels(session, number) for number in numbers])
    session.reshape({numbers[0]: together, **dict.fromkeys(numbers[1:])})


def split_along(session: Session, number: int, line: Sequence[tuple[float, float]]) -> None:
    """Cut an object along a line of (row, col) px, in one step of undo; the largest part keeps it.

    Raises
    ------
    ValueError
        If the line does not cut it in two.
    """
    found = _pixels(session, number)
    parts = split(found.crop, np.array(line) - np.array(found.origin))
    if len(parts) < 2:
        raise ValueError(
            f"The line does not cut object {number} in two: draw it from outside to outside."
        )
    names = [number, *range(session.first_id, session.first_id + len(parts) - 1)]
    pairs = zip(names, parts, strict=True)
    session.reshape({name: MaskPrompt.from_any((part, found.origin)) for name, part in pairs})
