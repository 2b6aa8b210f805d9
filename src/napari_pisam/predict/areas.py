"""Closed shapes beside an object's box: further parts, outlines, and where the object is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Corner: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]
"""(row_min, col_min, row_max, col_max), float px, pixel centres at integers."""

LINES = frozenset({"path", "line"})
"""The types of napari's shapes that are scribbles."""

_ELLIPSE = 64


class Answer(StrEnum):
    """Which of two answers a box is to have, of a network that gives two (`Variant.fine_answer`).

    SOLID
        What is solid in it.
    FINE
        What is fine in it: thin lines, and networks of them.
    """

    SOLID = "solid"
    FINE = "fine"

    @property
    def other(self) -> Answer:
        """The other one."""
        return Answer.SOLID if self is Answer.FINE else Answer.FINE


class Use(StrEnum):
    """What a closed FG shape is to its object: the column ``use`` of a table of shapes.

    BOX
        Its bounding box is the object's box.
    SOLID, FINE
        The same, and the object is what is solid, or fine, in it; see `Answer`.
    PART
        Its bounding box holds a further part of the object.
    OUTLINE
        It is the object to start from.
    """

    BOX = "box"
    SOLID = "solid"
    FINE = "fine"
    PART = "part"
    OUTLINE = "outline"

    @property
    def is_box(self) -> bool:
        """Whether it is the object's box."""
        return self in BOX_USES

    @property
    def answer(self) -> Answer | None:
        """The answer that the object's box is to have, where it says."""
        return Answer(self.value) if self in (Use.SOLID, Use.FINE) else None

    @classmethod
    def of_box(cls, answer: Answer | None) -> Use:
        """Return what the object's box is that is to have an answer."""
        return cls.BOX if answer is None else cls(answer.value)


BOX_USES = frozenset({Use.BOX, Use.SOLID, Use.FINE})
"""Those that say the object's box."""


def corners_of(box: Sequence[float]) -> list[Corner]:
    """Return the four corners of a (row_min, col_min, row_max, col_max) box, in order."""
    row0, col0, row1, col1 = box
    return [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]


def outline_of(kind: str, vertices: ArrayLike) -> NDArray[np.float64]:
    """Return the outline of one of napari's shapes.

    Parameters
    ----------
    kind : str
        Its type; napari keeps of an ellipse the corners of its box.
    vertices : (n, 2) float array-like
        (row, col) px. Two are opposite corners.
    """
    corners = np.asarray(vertices, dtype=np.float64)
    if len(corners) == 2:
        corners = np.array(corners_of(corners.ravel().tolist()))
    if kind != "ellipse":
        return corners
    centre, down, across = corners.mean(axis=0), corners[3] - corners[0], corners[1] - corners[0]
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE, endpoint=False)[:, None]
    ring: NDArray[np.float64] = centre + np.cos(turn) * down / 2 + np.sin(turn) * across / 2
    return ring


@dataclass(frozen=True)
class Area:
    """A closed shape, checked when built.

    Attributes
    ----------
    vertices : tuple of (float, float)
        (row, col) px: two opposite corners of a box, or three and more of an outline.
    is_foreground : bool
        Whether the object is there: a box holds a further part of it, an outline is the object to
        start from. Else nothing of the object is in it.

    Raises
    ------
    ValueError
        If there are too few corners, one is not finite, or the shape has no extent.
    """

    vertices: tuple[Corner, ...]
    is_foreground: bool = True

    @classmethod
    def of(cls, vertices: ArrayLike, is_foreground: bool = True) -> Area:
        """Build from an (n, 2) array-like, (row, col) px, or a box of four numbers."""
        values = np.asarray(vertices, dtype=np.float64)
        if values.shape == (4,):
            values = values.reshape(2, 2)
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(
                f"An area has corners of shape {values.shape}, expected (n, 2): two corners of a "
                "box or three and more of an outline, (row, col)."
            )
        if len(values) == 2:
            values = np.sort(values, axis=0)
        return cls(tuple((row, col) for row, col in values.tolist()), bool(is_foreground))

    def __post_init__(self) -> None:
        """Check the corners."""
        if len(self.vertices) < 2 or not all(
            math.isfinite(v) for one in self.vertices for v in one
        ):
            raise ValueError(
                f"An area has the corners {self.vertices[:5]}, expected two or more of finite "
                "numbers. Draw it again."
            )
        row0, col0, row1, col1 = self.box
        if not (row1 > row0 and col1 > col0):
            raise ValueError(f"The area {self.box} has no extent, expected one. Draw it again.")

    @property
    def is_box(self) -> bool:
        """Whether it is a box and not an outline."""
        return len(self.vertices) == 2

    @property
    def box(self) -> Box:
        """(row_min, col_min, row_max, col_max), px."""
        rows, cols = zip(*self.vertices, strict=True)
        return min(rows), min(cols), max(rows), max(cols)

    def clipped(self, shape: Sequence[int]) -> Area:
        """Return it with corners outside an image of `shape` moved to its edge.

        Raises
        ------
        ValueError
            If all of it lies outside.
        """
        edges = np.array(shape[:2]) - 0.5
        inside = np.clip(np.array(self.vertices), -0.5, edges)
        if not (inside.max(axis=0) > inside.min(axis=0)).all():
            raise ValueError(
                f"The area {self.box} lies outside the image of {shape[0]} rows x {shape[1]} cols, "
                "expected it to overlap. Draw it on the image."
            )
        return Area.of(inside, self.is_foreground)


def pixels_of(areas: Sequence[Area]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Draw areas: a pixel is in one where its centre is.

    Returns
    -------
    crop : (h, w) bool array
        Empty where no centre is inside.
    origin : (int, int)
        (row, col) of ``crop[0, 0]`` in the image, px.
    """
    # Slow to import, and seldom needed.
    from napari_pisam.images.label_formats.outlines import filled

    rings: list[list[NDArray[Any]]] = []
    for area in areas:
        ring = np.array(area.vertices)
        if area.is_box:
            ring = np.array(corners_of(area.box))
        rings.append([ring])
    if not rings:
        return np.zeros((0, 0), dtype=np.bool_), (0, 0)
    high = np.ceil(np.max([ring.max(axis=0) for (ring,) in rings], axis=0)).astype(int) + 1
    origin, crop = filled(rings, (int(high[0]), int(high[1])))
    return crop, origin
