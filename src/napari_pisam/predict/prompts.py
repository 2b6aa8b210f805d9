"""What a person asks for: a box, clicks, scribbles, areas and a start, in the image's coordinates.

Coordinates are (row, col) floats with pixel centres at integers, so that an image of shape (H, W)
covers [-0.5, H - 0.5] x [-0.5, W - 0.5]. This module knows neither torch nor the network's frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import CroppedMask, around, seen_in, tight
from napari_pisam.predict.areas import Answer, Area, pixels_of
from napari_pisam.predict.click_sorting import is_foreground

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.predict.areas import Box
    from napari_pisam.predict.click_sorting import Stroke


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask to start from, kept as the crop that holds its pixels.

    Attributes
    ----------
    crop : (h, w) bool array
        The mask's pixels; read-only, every border row and column has a True pixel.
    origin : (int, int)
        (row, col) of ``crop[0, 0]`` in the image, px.
    """

    crop: NDArray[np.bool_]
    origin: tuple[int, int]

    @classmethod
    def from_any(cls, mask: Any) -> MaskPrompt:
        """Build from a 2D array, an ``(array, (row, col))`` pair, a ``Mask`` or a ``MaskPrompt``.

        Raises
        ------
        ValueError
            If the array is not 2D, not boolean (or integers 0 and 1), or has no True pixel.
        """
        if isinstance(mask, MaskPrompt):
            return mask
        origin = (0, 0)
        if isinstance(mask, CroppedMask):
            origin = (int(mask.bbox[0]), int(mask.bbox[1]))
            values = np.asarray(mask.crop)
        elif isinstance(mask, tuple) and len(mask) == 2 and np.ndim(mask[0]) == 2:
            # (crop, bbox) is accepted too: the first two numbers of a bbox are its origin.
            offset = np.asarray(mask[1])
            if offset.shape not in {(2,), (4,)} or not np.issubdtype(offset.dtype, np.integer):
                raise ValueError(
                    f"The mask's origin is {mask[1]!r}, expected two integers (row, col) or a bbox "
                    "of four. Pass mask=(array, (row, col))."
                )
            origin = (int(offset[0]), int(offset[1]))
            values = np.asarray(mask[0])
        else:
            values = np.asarray(mask)
        if values.ndim != 2:
            raise ValueError(
                f"The mask has shape {values.shape}, expected a 2D array (rows, cols). "
                "Pass one plane of it."
            )
        if values.dtype != np.bool_:
            if not np.issubdtype(values.dtype, np.integer) or not np.isin(values, (0, 1)).all():
                raise ValueError(
                    f"The mask has dtype {values.dtype}, expected bool (or integers 0 and 1). "
                    "Pass one object, for example mask=(labels == 3)."
                )
            values = values != 0
        crop, bbox = tight(values, origin)
        if not crop.size:
            raise ValueError(
                f"The mask of shape {values.shape} has no True pixel, expected at least one. "
                "Leave the mask out to start from nothing."
            )
        return cls(crop, bbox[:2])

    @classmethod
    def joined(cls, parts: Sequence[MaskPrompt]) -> MaskPrompt:
        """Build from the pixels of one or more."""
        window = around(part.bbox for part in parts)
        crop = np.logical_or.reduce([seen_in(window, part.crop, part.bbox) for part in parts])
        return cls.from_any((crop, window[:2]))

    @property
    def bbox(self) -> Bbox:
        """(row0, col0, row1, col1) of the crop in the image, px, half open."""
        (row, col), (height, width) = self.origin, self.crop.shape
        return row, col, row + height, col + width

    def without(self, other: CroppedMask) -> MaskPrompt:
        """Return it without the pixels of another one.

        Raises
        ------
        ValueError
            If none is left.
        """
        left = self.crop & ~seen_in(self.bbox, other.crop, other.bbox)
        return MaskPrompt.from_any((left, self.origin))

    @property
    def box(self) -> Box:
        """The outer edges of the crop's pixels as a box."""
        row0, col0, row1, col1 = self.bbox
        return row0 - 0.5, col0 - 0.5, row1 - 0.5, col1 - 0.5


def _checked_box(box: ArrayLike) -> Box:
    try:
        values = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"The box is {box!r}, expected four numbers (row_min, col_min, row_max, col_max)."
        ) from None
    if values.shape != (4,):
        raise ValueError(
            f"The box has shape {values.shape}, expected four numbers "
            "(row_min, col_min, row_max, col_max). Pass several boxes to predict_many."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"The box is {values.tolist()}, expected finite numbers. Draw the box again."
        )
    (r0, r1), (c0, c1) = np.sort(values[[0, 2]]), np.sort(values[[1, 3]])
    if not (r1 > r0 and c1 > c0):
        raise ValueError(
            f"The box {values.tolist()} has no area, expected row_max > row_min and "
            "col_max > col_min. Draw it around the object, or click on the object instead."
        )
    return float(r0), float(c0), float(r1), float(c1)


def box_prompts(boxes: ArrayLike | Sequence[Prompts]) -> list[Prompts]:
    """Return boxes as prompts.

    Parameters
    ----------
    boxes : (n, 4) float array-like, or sequence of Prompts
        (row_min, col_min, row_max, col_max) px each, or prompts of a box and nothing else.

    Raises
    ------
    ValueError
        If they are of another shape, or one is no box.
    """
    if isinstance(boxes, (list, tuple)) and any(isinstance(one, Prompts) for one in boxes):
        if not all(isinstance(one, Prompts) and one.is_only_box for one in boxes):
            raise ValueError(
                "There are prompts of more than a box among the boxes, expected boxes alone. Pass "
                "the others to predict, one by one."
            )
        return list(boxes)
    values = np.asarray(boxes, dtype=np.float64)
    if values.size == 0:
        values = values.reshape(0, 4)
    if values.ndim != 2 or values.shape[1] != 4:
        raise ValueError(
            f"The boxes have shape {values.shape}, expected (n, 4), one "
            "(row_min, col_min, row_max, col_max) each. Pass a single box to predict."
        )
    return [Prompts(box) for box in values]


def _checked_clicks(
    points: ArrayLike | None, labels: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    try:
        rc = np.asarray([] if points is None else points, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"The points are {points!r}, expected numbers of shape (n, 2), (row, col)."
        ) from None
    if rc.size == 0:
        rc = rc.reshape(0, 2)
    if rc.ndim != 2 or rc.shape[1] != 2:
        raise ValueError(
            f"The points have shape {rc.shape}, expected (n, 2), one (row, col) per click. "
            "Pass a single click as [(row, col)]."
        )
    if not np.isfinite(rc).all():
        raise ValueError(
            f"The points contain NaN or infinity: {rc.tolist()}; expected finite (row, col). "
            "Remove those clicks."
        )
    if labels is None:
        if len(rc):
            raise ValueError(
                f"There are {len(rc)} points and no labels, expected one label per point. "
                "Pass labels=[True, ...] with True for FG and False for BG."
            )
        labels = []
    flags = np.asarray(labels)
    if flags.size == 0:
        flags = np.zeros(0, dtype=np.bool_)
    if flags.shape != (len(rc),):
        raise ValueError(
            f"There are {len(rc)} points and labels of shape {flags.shape}, expected one label "
            "per point. Pass lists of the same length."
        )
    if flags.dtype != np.bool_:
        # As objects: in an array of numbers and texts, a number would be a text.
        given = np.asarray(labels, dtype=object).tolist()
        pairs = zip(rc.tolist(), given, strict=True)
        flags = np.array([_label_of(*pair) for pair in pairs], dtype=np.bool_)
    rc, flags = rc.copy(), flags.copy()
    rc.flags.writeable = flags.flags.writeable = False
    return rc, flags


def _checked_joined(joined: ArrayLike | None, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    flags = (
        np.zeros(len(labels), dtype=np.bool_) if joined is None else np.array(joined, dtype=bool)
    )
    if flags.shape != labels.shape or flags[:1].any():
        raise ValueError(
            f"There are {len(labels)} points and joins of shape {flags.shape}, expected one per "
            "point and none of the first: it has none before it to be joined to."
        )
    if (labels[1:] != labels[:-1])[flags[1:]].any():
        raise ValueError(
            "A scribble has FG and BG points, expected one label for all of it. Make it two."
        )
    flags.flags.writeable = False
    return flags


def _label_of(point: list[float], label: object) -> bool:
    try:
        return is_foreground(label)
    except ValueError as error:
        row, col = point
        raise ValueError(f"The click at ({row:g}, {col:g}) {error}.") from None


def _checked_answer(answer: Answer | str | None) -> Answer | None:
    try:
        return None if answer is None else Answer(answer)
    except ValueError:
        raise ValueError(
            f"answer is {answer!r}, expected {' or '.join(repr(str(one)) for one in Answer)}, or "
            "None where the network is to choose."
        ) from None


def _no_points() -> NDArray[np.float64]:
    return np.zeros((0, 2))


def _no_labels() -> NDArray[np.bool_]:
    return np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of one object, checked when built and never changed afterwards.

    Parameters
    ----------
    box : 4 floats, optional
        Two opposite corners, ``(row, col, row, col)`` px in any order; kept as
        (row_min, col_min, row_max, col_max).
    points : (n, 2) float array-like, optional
        Clicks, (row, col) px.
    labels : (n,) array-like, optional
        True for FG, False for BG, or another word of `is_foreground`.
    mask : optional
        Where to start from: a 2D bool array, an ``(array, (row, col))`` pair, or a ``Mask``.
    joined : (n,) bool array-like, optional
        Which points are joined to the one before by a straight line: a click and those joined to
        it are one scribble. The label of its first point is that of all.
    areas : sequence of Area, optional
        Boxes of further parts, outlines to start from, and where the object is not.
    answer : {"solid", "fine"}, optional
        What the object is of that which the box holds, see `Answer`. By default what the network
        finds likelier; a first click can ask for the other. Networks that give one answer ignore
        it.

    Raises
    ------
    ValueError
        For NaN or infinity, a wrong shape, a box without area, lengths that differ, an empty mask,
        another answer, or no prompt that says where the object is (nothing at all, or BG alone).
    """

    box: Box | None = None
    points: NDArray[np.float64] = field(default_factory=_no_points)
    labels: NDArray[np.bool_] = field(default_factory=_no_labels)
    mask: MaskPrompt | None = None
    joined: NDArray[np.bool_] = field(default_factory=_no_labels)
    areas: tuple[Area, ...] = ()
    answer: Answer | None = None

    def __init__(
        self,
        box: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        mask: Any = None,
        joined: ArrayLike | None = None,
        areas: Iterable[Area] = (),
        answer: Answer | str | None = None,
    ) -> None:
        rc, flags = _checked_clicks(points, labels)
        object.__setattr__(self, "box", None if box is None else _checked_box(box))
        object.__setattr__(self, "points", rc)
        object.__setattr__(self, "labels", flags)
        object.__setattr__(self, "mask", None if mask is None else MaskPrompt.from_any(mask))
        object.__setattr__(self, "joined", _checked_joined(joined, flags))
        object.__setattr__(self, "areas", tuple(areas))
        object.__setattr__(self, "answer", _checked_answer(answer))
        is_there = any(area.is_foreground for area in self.areas)
        if self.box is None and self.mask is None and not flags.any() and not is_there:
            given = f"only BG clicks ({len(rc)})" if len(rc) else "no prompt"
            raise ValueError(
                f"Given {given}, expected a box, a mask or at least one FG click. "
                "Draw a box around the object or click on it."
            )

    def _with(self, **changes: Any) -> Prompts:
        """Return these prompts with other parts that were checked already."""
        result = object.__new__(Prompts)
        for name in ("box", "points", "labels", "mask", "joined", "areas", "answer"):
            object.__setattr__(result, name, changes.get(name, getattr(self, name)))
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompts) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @classmethod
    def from_strokes(
        cls,
        box: ArrayLike | None,
        strokes: Iterable[Stroke],
        mask: Any = None,
        areas: Iterable[Area] = (),
        answer: Answer | None = None,
    ) -> Prompts:
        """Build from clicks and scribbles as `strokes` gives them."""
        points: list[tuple[float, float]] = []
        labels: list[bool] = []
        joined: list[bool] = []
        for places, is_fg in strokes:
            points += places
            labels += [is_fg] * len(places)
            joined += [False, *[True] * (len(places) - 1)]
        return cls(box, points, labels, mask, joined, areas, answer)

    @property
    def region(self) -> Box | None:
        """The box, or else the outline of the mask, or else None."""
        if self.box is not None:
            return self.box
        return None if self.mask is None else self.mask.box

    @property
    def is_only_box(self) -> bool:
        """Whether there is one box and nothing else, but for the answer that it is to have."""
        return (
            self.box is not None and self.mask is None and not len(self.points) and not self.areas
        )

    @property
    def is_only_start(self) -> bool:
        """Whether a mask or outlines are all that says where the object is: they are the answer."""
        has_start = self.mask is not None or any(a.is_foreground for a in self.areas)
        return has_start and not self.boxes and not len(self.points)

    @property
    def has_start(self) -> bool:
        """Whether there is a mask or an outline to start from."""
        return self.mask is not None or bool(self.outlines)

    @property
    def outlines(self) -> tuple[Area, ...]:
        """The outlines that are the object to start from."""
        return tuple(area for area in self.areas if area.is_foreground and not area.is_box)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All boxes that hold a part of the object."""
        parts = [area.box for area in self.areas if area.is_box and area.is_foreground]
        return (*([] if self.box is None else [self.box]), *parts)

    @property
    def not_here(self) -> tuple[Area, ...]:
        """Where the object is not."""
        return tuple(area for area in self.areas if not area.is_foreground)

    @property
    def strokes(self) -> list[Stroke]:
        """Clicks and scribbles in the order in which they were made."""
        starts = np.flatnonzero(~self.joined)
        lines = np.split(self.points, starts[1:]) if len(starts) else []
        return [
            (tuple((row, col) for row, col in line.tolist()), flag)
            for line, flag in zip(lines, self.labels[starts].tolist(), strict=True)
        ]

    @property
    def click_count(self) -> int:
        """How many clicks there are; a scribble is one."""
        return int(np.count_nonzero(~self.joined))

    def with_clicks(
        self, points: ArrayLike, labels: ArrayLike, joined: ArrayLike | None = None
    ) -> Prompts:
        """Return these prompts with more clicks, (n, 2) (row, col) px and (n,) bool, at the end.

        `joined` as for the class: with it they are scribbles.
        """
        rc, flags = _checked_clicks(points, labels)
        lines = _checked_joined(joined, flags)
        added = {"points": rc, "labels": flags, "joined": lines}
        together = {name: np.concatenate([getattr(self, name), new]) for name, new in added.items()}
        for part in together.values():
            part.flags.writeable = False
        return self._with(**together)

    def with_answer(self, answer: Answer | None) -> Prompts:
        """Return these prompts with another answer asked for."""
        return self._with(answer=answer)

    def first_clicks(self, count: int) -> Prompts:
        """Return these prompts with the first `count` clicks only; a scribble is one."""
        starts = np.flatnonzero(~self.joined)
        end = int(starts[count]) if count < len(starts) else len(self.points)
        return self._with(
            points=self.points[:end], labels=self.labels[:end], joined=self.joined[:end]
        )

    def with_start(self) -> Prompts:
        """Return these prompts with mask and outlines drawn as one mask, to be predicted.

        Where the object is not, the mask has no pixel. For prompts that lie inside an image: what
        is drawn takes memory.

        Raises
        ------
        ValueError
            If the outlines hold no pixel.
        """
        outlines = self.outlines
        if not self.areas or not self.has_start:
            return self
        mask = self.mask
        if outlines:
            drawn = MaskPrompt.from_any(pixels_of(outlines))
            mask = MaskPrompt.joined([drawn] if mask is None else [mask, drawn])
        if mask is not None and self.not_here:
            mask = mask.without(MaskPrompt(*pixels_of(self.not_here)))
        return self._with(mask=mask, areas=tuple(a for a in self.areas if a not in outlines))

    def validated_for(self, shape: Iterable[int]) -> Prompts:
        """Check these prompts against an image and clip the box to it.

        Parameters
        ----------
        shape : (int, int)
            The image's (height, width), px.

        Returns
        -------
        Prompts
            The same prompts, the box clipped to [-0.5, H - 0.5] x [-0.5, W - 0.5].

        Raises
        ------
        ValueError
            If the box is wholly outside, or a click or a pixel of the mask is outside.
        """
        height, width = shape
        where = f"the image of {height} rows x {width} cols"
        low, high = np.full(2, -0.5), np.array([height - 0.5, width - 0.5])
        box = self.box
        if box is not None:
            corner0 = np.clip(box[:2], low, high)
            corner1 = np.clip(box[2:], low, high)
            if not (corner1 > corner0).all():
                raise ValueError(
                    f"The box {box} lies outside {where}, expected it to overlap. "
                    "Draw it on the image; boxes are (row_min, col_min, row_max, col_max)."
                )
            box = (float(corner0[0]), float(corner0[1]), float(corner1[0]), float(corner1[1]))
        outside = ((self.points < low) | (self.points > high)).any(axis=1)
        if outside.any():
            raise ValueError(
                f"The clicks {self.points[outside].tolist()} lie outside {where}, expected "
                "(row, col) on the image. Remove or move them."
            )
        if self.mask is not None:
            row0, col0, row1, col1 = self.mask.bbox
            if row0 < 0 or col0 < 0 or row1 > height or col1 > width:
                raise ValueError(
                    f"The mask covers rows {row0}:{row1}, cols {col0}:{col1}, expected inside "
                    f"{where}. Pass a mask of the same image, or its right origin."
                )
        areas = tuple(area.clipped((height, width)) for area in self.areas)
        return self if (box, areas) == (self.box, self.areas) else self._with(box=box, areas=areas)

    def digest(self) -> str:
        """SHA-256 of the prompts as 64 hex digits, the same in every process."""
        hasher = hashlib.sha256(b"pisam-prompts-1")
        hasher.update(repr(self.box).encode())
        hasher.update(self.points.astype("<f8").tobytes())
        hasher.update(self.labels.tobytes())
        if self.mask is not None:
            hasher.update(repr(self.mask.bbox).encode())
            hasher.update(np.packbits(self.mask.crop).tobytes())
        # Prompts of earlier versions keep the digests that they had.
        if self.joined.any():
            hasher.update(b"joined" + self.joined.tobytes())
        if self.areas:
            hasher.update(repr(self.areas).encode())
        if self.answer is not None:
            hasher.update(b"answer" + self.answer.value.encode())
        return hasher.hexdigest()
