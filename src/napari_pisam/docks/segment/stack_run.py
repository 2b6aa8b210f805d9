"""The slices of a stack, and what is found in them in a worker: plain arrays in and out. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_pisam.docks.segment.label_search import find_label
from napari_pisam.layers.images import image_source_of
from napari_pisam.predict.prompts import MaskPrompt
from napari_pisam.predict.propagation import FollowedSlice, Propagation
from napari_pisam.session.labels import LabelStore
from napari_pisam.session.records import mask_from_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.docks.segment.channels import Channels
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.layers.labels import LabelsPlane
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.propagation import EndOfObject
    from napari_pisam.session.session import Session, SessionObject

Pixels: TypeAlias = "tuple[int, dict[int, MaskPrompt]]"
"""A slice, and what objects have in it by number."""

# Planes of labels up to this size are looked through for what is no object yet: a millisecond.
_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class StackSlices:
    """The slices along an axis of an image, with all else as it is displayed.

    Attributes
    ----------
    image : napari Image layer
    plane : ImagePlane
        The displayed one.
    axis : int
        Of the image.
    """

    image: Any
    plane: ImagePlane
    axis: int

    @property
    def size(self) -> int:
        """Number of slices."""
        return self.plane.shape[self.axis]

    @property
    def here(self) -> int:
        """The displayed slice."""
        return self.plane.index[self.axis] or 0

    def at(self, index: int) -> ImagePlane:
        """Return the plane of a slice."""
        return self.plane.at(self.axis, index)

    def place_of(self, index: int) -> tuple[int, ...]:
        """Return the plane of a slice as `ImageSource` has it."""
        axes = [axis for axis in self.plane.sliced if axis != self.plane.channel_axis]
        return tuple(self.at(index).index[axis] or 0 for axis in axes)

    def labels_at(self, labels: LabelsPlane, index: int) -> LabelsPlane:
        """Return the labels of a slice; `labels` are those of the displayed one."""
        return labels.at(self.axis - len(self.plane.shape), index)


class LabelStack:
    """The labels of all slices as a (Z, H, W) array that is read by windows, in a worker too.

    Parameters
    ----------
    line : StackSlices
    labels : LabelsPlane
        Of the displayed slice.
    """

    def __init__(self, line: StackSlices, labels: LabelsPlane) -> None:
        self.line, self._labels = line, labels.frozen()
        self.shape, self.dtype = (line.size, *labels.shape), labels.dtype

    @property
    def key(self) -> object:
        """What is equal of the same slices of the same array."""
        index = self.line.at(0).index
        return self.line.image, id(self._labels.layer.data), index, self.line.axis

    def __getitem__(self, key: tuple[int, slice, slice]) -> NDArray[Any]:
        """Read a window of a slice."""
        return np.asarray(self.line.labels_at(self._labels, key[0])[key[1], key[2]])


@dataclass(eq=False)
class StackSnapshot:
    """What was there before a run, taken on the main thread to be looked at in a worker.

    Attributes
    ----------
    line : StackSlices
    labels : LabelsPlane
        Of the displayed slice, frozen.
    views : dict of int to (dict of int to SessionObject)
        By slice, by number: the objects of the slices' sessions.
    """

    line: StackSlices
    labels: LabelsPlane
    views: dict[int, dict[int, SessionObject]]

    def pixels(self, index: int, number: int) -> MaskPrompt | None:
        """Return what an object, or a label that is none, has in a slice."""
        view = self.views.get(index, {}).get(number)
        labels = self.line.labels_at(self.labels, index)
        if view is None:
            if labels.shape[0] * labels.shape[1] > _AT_ONCE:
                return None
            try:
                return MaskPrompt.from_any(find_label(labels, number))
            except ValueError:
                return None
        if not view.committed:
            has_mask = view.mask is not None and view.mask.crop.size
            return MaskPrompt.from_any(view.mask) if has_mask else None
        store = LabelStore()
        store.labels = labels
        return store.pixels_of(view)

    def known(self, number: int) -> tuple[dict[int, Mask], dict[int, FollowedSlice]]:
        """Return the masks that the user stands for, and those that came of earlier runs."""
        anchors: dict[int, Mask] = {}
        carried: dict[int, FollowedSlice] = {}
        for index in range(self.line.size):
            view = self.views.get(index, {}).get(number)
            by_hand = self._by_hand(index, number, view)
            if by_hand is not None:
                anchor = mask_from_label(by_hand, self.line.plane.size)
                known = None if view is None or view.mask is None else view.mask.answer
                anchors[index] = replace(anchor, answer=known)
            elif view is None or view.mask is None or not view.mask.crop.size or view.stale:
                continue
            elif view.is_carried:
                carried[index] = FollowedSlice(index, view.mask, source=view.source)
            else:
                anchors[index] = view.mask
        return anchors, carried

    def _by_hand(self, index: int, number: int, view: SessionObject | None) -> MaskPrompt | None:
        """Return what the labels have where that is not what was written there."""
        if view is None:
            return self.pixels(index, number)
        if not view.committed:
            return None
        store = LabelStore()
        store.labels = self.line.labels_at(self.labels, index)
        try:
            return store.changed_by_hand(view)
        except ValueError:
            # Erased: it is looked for again.
            return None


@dataclass(frozen=True)
class Task:
    """What to carry, and how far.

    Attributes
    ----------
    number : int
        The object.
    direction : int
        1 to higher slices, -1 to lower ones, 0 to both.
    first, last : int
        Slices to stay within, both included.
    end : EndOfObject
    """

    number: int
    direction: int
    first: int
    last: int
    end: EndOfObject

    def steps(self, found: StackSnapshot, source: Any, predictor: Any) -> Iterator[FollowedSlice]:
        """Carry it, one slice after the other; in a worker."""
        anchors, carried = found.known(self.number)
        here, line = found.line.here, found.line
        first, last = min(self.first, here), max(self.last, here)
        inside = [index for index in anchors if first <= index <= last]
        if not inside and here in carried:
            mask = carried.pop(here).mask
            inside = [here] if mask is not None else []
            anchors |= {here: mask} if mask is not None else {}
        # From a slice between two anchors it goes on from where its mask came from.
        if self.direction > 0:
            first = max((index for index in inside if index <= here), default=here)
        if self.direction < 0:
            last = min((index for index in inside if index >= here), default=here)
        given = {index: anchors[index] for index in inside if first <= index <= last}
        yield from Propagation(given, first, last, carried).steps(
            predictor, source, plane_of=line.place_of, end=self.end
        )


def relabel_steps(
    found: StackSnapshot, numbers: tuple[int, ...], target: int, first: int
) -> Iterator[Pixels]:
    """Find what is to get another number from a slice on; in a worker.

    Yields
    ------
    (int, dict of int to MaskPrompt)
        A slice, and what the objects have in it.
    """
    for index in range(first, found.line.size):
        parts = {number: found.pixels(index, number) for number in numbers}
        there = {number: pixels for number, pixels in parts.items() if pixels is not None}
        if set(there) - {target}:
            yield index, there


@dataclass(eq=False, kw_only=True)
class InSlices:
    """What is one step to undo in several slices; the group of its edits.

    Attributes
    ----------
    sessions : list of Session
        In which something was written.
    """

    sessions: list[Session] = field(default_factory=list)

    def repeat(self, session: Session, *, undo: bool) -> None:
        """Undo or redo it in all slices but one, where that was done."""
        for other in self.sessions:
            if other is not session:
                (other.undo_only if undo else other.redo_only)(self)


@dataclass(eq=False)
class StackRun(InSlices):
    """A thing that is done slice by slice.

    Attributes
    ----------
    title : str
        What is done, for the user.
    found : StackSnapshot
    number : int
        The object that is written.
    start : Session
        Of the slice where it was asked for.
    ends : list of str
        Where the object ended and why.
    refused : int
        Slices in which it got no pixel.
    then : int or None
        The axis along which it goes on from every slice where the object is.
    lines : list of StackSlices
        Those that are left of that.
    """

    title: str
    found: StackSnapshot
    number: int
    start: Session
    ends: list[str] = field(default_factory=list)
    refused: int = 0
    then: int | None = None
    lines: list[StackSlices] = field(default_factory=list)

    @property
    def class_name(self) -> str:
        """What kind of thing its object is, where it was asked for."""
        one = self.start.get(self.number)
        return "" if one is None else one.class_name

    def note(self, session: Session) -> None:
        """Note that something was written."""
        if not self.sessions and session is not self.start:
            self.start.mark(self)
            self.sessions.append(self.start)
        if session not in self.sessions:
            self.sessions.append(session)


def views_of(line: StackSlices, sessions: Mapping[ImagePlane, Session]) -> dict[int, Any]:
    """Return the objects of the slices' sessions, by slice and number."""
    there = {index: sessions.get(line.at(index)) for index in range(line.size)}
    return {
        index: {one.id: one for one in session.objects}
        for index, session in there.items()
        if session is not None and session.objects
    }


class SeenTogether:
    """The slices of several channels that are seen as one picture, as they are drawn now."""

    def __init__(self, line: StackSlices, channels: Channels) -> None:
        self._sources = {
            line.place_of(index): channels.see(line.image, line.at(index)).source
            for index in range(line.size)
        }

    def at(self, plane: Sequence[int]) -> ImageSource:
        """Return a slice, by its plane."""
        return self._sources[tuple(plane)]


def source_of(line: StackSlices, channels: Channels) -> ImageSource | SeenTogether:
    """Look at the slices as the displayed one is seen; on the main thread."""
    if channels.are_together(line.image, line.plane):
        return SeenTogether(line, channels)
    return image_source_of(line.image, line.at(line.here)).source
