"""An object followed from slice to slice, along z or t: every mask gives the next one's box."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import scipy

from napari_pisam.images.crops import around, seen_in
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box

_Run: TypeAlias = "Callable[[list[Mask], Sequence[int]], Iterator[FollowedSlice]]"

_REMEMBERED = 3
"""Slices whose motion is averaged."""

_MARGIN = 0.04
"""By how much of its sides a box is larger than the mask before; it is made tight afterwards."""

_GROWTH = 0.03
"""How far an object may grow from slice to slice, by the square root of its area."""

_SURPRISE = (0.25, 0.04)
"""How far an object may move otherwise than before, by the same: at first, and later."""


class SlicePredictor(Protocol):
    """What is needed of a predictor; `Predictor` has it."""

    def set_image(self, image: Any, *, plane: Any = None) -> None:
        """Choose a slice."""

    def predict(self, box: Any) -> Mask:
        """Predict the mask of prompts that are a box."""


@dataclass(frozen=True)
class EndOfObject:
    """When an object is taken to have ended, each compared with the slice before.

    Attributes
    ----------
    overlap : float
        Least IoU with the mask before, moved as the object moves.
    area_ratio : float
        Least area of the smaller of both masks by that of the larger.
    score : float
        Least score, what its IoU is likely to be.
    """

    overlap: float = 0.3
    area_ratio: float = 0.35
    score: float = 0.2

    def reason(self, before: Mask, after: Mask, motion: tuple[float, float]) -> str | None:
        """Why the object has ended between two slices, in words; ``None`` if it goes on."""
        if not after.area:
            return "nothing found"
        ratio = min(before.area, after.area) / max(before.area, after.area)
        if ratio < self.area_ratio:
            return f"area changed by a factor of {1 / ratio:.1f}"
        shift = (round(motion[0]), round(motion[1]))
        overlap = _overlap(_moved(before, shift), after)
        if overlap < self.overlap:
            return f"overlap {overlap:.2f}"
        if after.score < self.score:
            return f"score {after.score:.2f}"
        return None


@dataclass(frozen=True)
class FollowedSlice:
    """What came of one slice.

    Attributes
    ----------
    index : int
        Which slice.
    mask : Mask or None
        ``None``: the object ended before it.
    end : str
        Why it ended; empty if it did not.
    source : tuple of int
        The `anchor_key` of each anchor that the mask comes from: of one, or of the one before and
        the one behind.
    """

    index: int
    mask: Mask | None
    end: str = ""
    source: tuple[int, ...] = ()


def anchor_key(index: int, mask: Mask) -> int:
    """Tell an anchor from others, and from itself after a correction: 32 bits."""
    place = repr((index, *(int(side) for side in mask.bbox))).encode()
    return zlib.crc32(np.packbits(mask.crop).tobytes(), zlib.crc32(place))


def follow(
    predictor: SlicePredictor,
    image: Any,
    mask: Mask,
    indices: Sequence[int],
    *,
    plane_of: Callable[[int], Any] = lambda index: index,
    end: EndOfObject | None = None,
    before: Sequence[Mask] = (),
) -> Iterator[FollowedSlice]:
    """Follow an object from slice to slice until it ends.

    Parameters
    ----------
    predictor : SlicePredictor
        Its image is set for every slice.
    image : array-like or ImageSource
        ``(N, H, W)`` or more axes; lazy arrays are read in windows only.
    mask : Mask
        Of the object in the slice before the first of `indices`.
    indices : sequence of int
        Slices in the order in which they are visited, e.g. ``range(8, 20)`` or
        ``range(6, -1, -1)``.
    plane_of : callable
        From a slice's index to `Predictor.set_image`'s ``plane``.
    end : EndOfObject, optional
        Limits; by default those of `EndOfObject`.
    before : sequence of Mask
        Masks of the slices before that of `mask`, the last one last: how the object moves.

    Yields
    ------
    FollowedSlice
        One for every slice; the last one has no mask if the object ended. Whoever stops asking
        stops the work.
    """
    end = end or EndOfObject()
    middles = [_middle(one) for one in [*before, mask][-_REMEMBERED:]]
    for index in indices:
        motion = _motion(middles)
        plane = plane_of(index)
        if hasattr(image, "at"):
            # As it is seen, an `ImageSource`: its contrast stays.
            predictor.set_image(image.at((plane,) if isinstance(plane, int) else plane))
        else:
            predictor.set_image(image, plane=plane)
        found = _in_box(predictor, mask, motion, _SURPRISE[len(middles) > 1])
        reason = "it left the image" if found is None else end.reason(mask, found, motion)
        if found is None or reason is not None:
            yield FollowedSlice(index, None, reason or "")
            return
        mask = found.without_logits()
        middles = [*middles, _middle(mask)][-_REMEMBERED:]
        yield FollowedSlice(index, mask)


def propagate(
    predictor: SlicePredictor,
    image: Any,
    anchors: Mapping[int, Mask],
    *,
    first: int = 0,
    last: int | None = None,
    plane_of: Callable[[int], Any] = lambda index: index,
    end: EndOfObject | None = None,
    report: Callable[[FollowedSlice], object] = lambda _: None,
) -> dict[int, Mask]:
    """Carry an object from the slices where it is known to the others.

    Before the first and behind the last anchor it is followed until it ends. Between two anchors
    it is followed from both, and the masks are mixed by how near each anchor is.

    Parameters
    ----------
    predictor, image, plane_of, end
        See `follow`.
    anchors : mapping of int to Mask
        Masks that are right, by slice.
    first, last : int
        Slices to stay within, both included; `last` is by default that of the image.
    report : callable
        Called with every slice as it is done; what it raises stops the work.

    Returns
    -------
    dict of int to Mask
        By slice, in order, the anchors included.

    Raises
    ------
    ValueError
        If there is no anchor, one is empty, or one lies outside the range.
    """
    last = int(image.shape[0]) - 1 if last is None else last
    propagation = Propagation(anchors, first, last)
    masks = dict(anchors)
    for step in propagation.steps(predictor, image, plane_of=plane_of, end=end):
        if step.mask is not None:
            masks[step.index] = step.mask
        report(step)
    return dict(sorted(masks.items()))


def propagate_along(
    predictor: SlicePredictor,
    image: Any,
    anchors: Mapping[tuple[int, ...], Mask],
    ranges: Mapping[int, tuple[int, int]],
    *,
    plane_of: Callable[[tuple[int, ...]], Any] = lambda index: index,
    end: EndOfObject | None = None,
    report: Callable[[FollowedSlice], object] = lambda _: None,
) -> dict[tuple[int, ...], Mask]:
    """Carry an object along one axis after the other, e.g. through z and t.

    First from its anchors along the first axis, then from every plane where it was found along the
    next one. So it has to be there, in a plane of an anchor, all along the first axis.

    Parameters
    ----------
    predictor, image, end, report
        See `propagate`.
    anchors : mapping of tuple of int to Mask
        Masks that are right, by the index of their plane.
    ranges : mapping of int to (int, int)
        For each axis, a place in those indices: the first and the last slice to stay within.
    plane_of : callable
        From such an index to `Predictor.set_image`'s ``plane``.

    Returns
    -------
    dict of tuple of int to Mask
        By index, the anchors included.

    Raises
    ------
    ValueError
        See `propagate`.
    """
    masks = dict(anchors)
    for axis, (first, last) in ranges.items():
        lines: dict[tuple[int, ...], dict[int, Mask]] = {}
        for index, mask in masks.items():
            lines.setdefault(index[:axis] + index[axis + 1 :], {})[index[axis]] = mask
        for others, known in lines.items():
            indices = {k: (*others[:axis], k, *others[axis:]) for k in range(first, last + 1)}
            planes = {k: plane_of(index) for k, index in indices.items()}
            found = propagate(
                predictor,
                image,
                known,
                first=first,
                last=last,
                plane_of=planes.__getitem__,
                end=end,
                report=report,
            )
            masks |= {indices[k]: mask for k, mask in found.items()}
    return masks


class Propagation:
    """What is to be done to carry an object through a stack, slice by slice.

    Parameters
    ----------
    anchors : mapping of int to Mask
        Masks that are right, by slice.
    first, last : int
        Slices to stay within, both included.
    carried : mapping of int to FollowedSlice
        What came of earlier runs: what still comes from the same anchors is not done again, and
        a run that was cut off goes on where it was.

    Raises
    ------
    ValueError
        If there is no anchor, one is empty, or one lies outside the range.
    """

    def __init__(
        self,
        anchors: Mapping[int, Mask],
        first: int,
        last: int,
        carried: Mapping[int, FollowedSlice] | None = None,
    ) -> None:
        outside = [index for index in anchors if not first <= index <= last]
        if not anchors or outside or not all(mask.area for mask in anchors.values()):
            raise ValueError(
                f"Anchors are at {sorted(anchors)}; expected at least one mask that is not empty, "
                f"in the slices {first} to {last}."
            )
        self._anchors, self._first, self._last = anchors, first, last
        self._carried = carried or {}
        self._keys = {index: anchor_key(index, mask) for index, mask in anchors.items()}

    def steps(
        self,
        predictor: SlicePredictor,
        image: Any,
        *,
        plane_of: Callable[[int], Any] = lambda index: index,
        end: EndOfObject | None = None,
    ) -> Iterator[FollowedSlice]:
        """Do it; see `follow` for the parameters.

        Yields
        ------
        FollowedSlice
            As it is done. Between two anchors a slice comes twice, from the one before and from
            both. Without a mask: the object is not there, whatever came of earlier runs.
        """

        def run(path: list[Mask], indices: Sequence[int]) -> Iterator[FollowedSlice]:
            *before, mask = path[-_REMEMBERED:]
            return follow(
                predictor, image, mask, indices, plane_of=plane_of, end=end, before=before
            )

        known = sorted(self._anchors)
        yield from self._outwards(run, known[-1], range(known[-1] + 1, self._last + 1))
        yield from self._outwards(run, known[0], range(known[0] - 1, self._first - 1, -1))
        for before, after in itertools.pairwise(known):
            yield from self._between(run, before, after)

    def _done(self, indices: Sequence[int], source: tuple[int, ...]) -> list[Mask]:
        """Return the masks that an earlier run left in the first of these slices."""
        done = []
        for index in indices:
            here = self._carried.get(index)
            if here is None or here.mask is None or here.source != source:
                break
            done.append(here.mask)
        return done

    def _outwards(self, run: _Run, anchor: int, indices: range) -> Iterator[FollowedSlice]:
        source = (self._keys[anchor],)
        done = self._done(indices, source)
        for step in run([self._anchors[anchor], *done], indices[len(done) :]):
            yield replace(step, source=source)
            if step.mask is None:
                behind = indices[indices.index(step.index) + 1 :]
                gone = (index for index in behind if index in self._carried)
                yield from (FollowedSlice(index, None) for index in gone)

    def _between(self, run: _Run, before: int, after: int) -> Iterator[FollowedSlice]:
        source = self._keys[before], self._keys[after]
        indices = range(before + 1, after)
        done = self._done(indices[::-1], source)
        indices = indices[: len(indices) - len(done)]
        if not indices:
            return
        reused = self._done(indices, source[:1])
        onwards = dict(zip(indices, reused, strict=False))
        for step in run([self._anchors[before], *reused], indices[len(reused) :]):
            if step.mask is not None:
                onwards[step.index] = step.mask
                yield replace(step, source=source[:1])
        backwards = run([self._anchors[after], *done], indices[::-1])
        for index in indices[::-1]:
            step = next(backwards, FollowedSlice(index, None))
            mask, other = step.mask, onwards.get(index)
            if mask is not None and other is not None:
                mask = _mixed(other, mask, (index - before) / (after - before))
            yield FollowedSlice(index, mask or other, step.end if other is None else "", source)


def _in_box(
    predictor: SlicePredictor, before: Mask, motion: tuple[float, float], surprise: float
) -> Mask | None:
    """Predict in the box that the mask before says, then in that of what was found.

    Of two answers to a box it is the one that the mask before is.
    """
    row0, col0, row1, col1 = before.bbox
    grown_row = _MARGIN * (row1 - row0) + abs(motion[0]) / 2
    grown_col = _MARGIN * (col1 - col0) + abs(motion[1]) / 2
    box = (
        row0 - 0.5 + motion[0] - grown_row,
        col0 - 0.5 + motion[1] - grown_col,
        row1 - 0.5 + motion[0] + grown_row,
        col1 - 0.5 + motion[1] + grown_col,
    )
    clipped = _inside(box, before.shape)
    if clipped is None:
        return None
    asked = Prompts(clipped, answer=before.answer)
    found = _near(predictor.predict(asked), before, motion, surprise)
    if not found.area:
        return found
    # Not beyond the first box: where a neighbour is taken in, the box would follow it.
    tight = tuple(
        pick(value - 0.5, limit)
        for pick, value, limit in zip((max, max, min, min), found.bbox, clipped, strict=True)
    )
    if _box_overlap(tight, clipped) > 0.95:
        return found
    asked = Prompts(tight, answer=before.answer)
    again = _near(predictor.predict(asked), before, motion, surprise)
    return again if again.area else found


def _near(found: Mask, before: Mask, motion: tuple[float, float], surprise: float) -> Mask:
    """Leave out what lies farther from the mask before, moved, than an object grows.

    Where two objects touch, the one that is followed would take the other one in.
    """
    if not found.area:
        return found
    side = before.area**0.5
    # It need not have gone on as before; how it begins to move is not known at all.
    moved_otherwise = _middle(found) - _middle(before) - motion
    most = surprise * side
    shift = np.round(motion + np.clip(moved_otherwise, -most, most)).astype(int).tolist()
    crop, moved, origin = _together(found, _moved(before, (shift[0], shift[1])))
    reach = 2 + _GROWTH * side + max(abs(motion[0]), abs(motion[1])) / 2
    near = crop & (scipy.ndimage.distance_transform_edt(~moved) <= reach)
    parts, count = scipy.ndimage.label(near)
    if count > 1:
        shared = np.bincount(parts[moved], minlength=count + 1)
        # Parts that continue nothing are noise; those that do are all kept: objects divide.
        near = np.isin(parts, np.flatnonzero(shared[1:] > 0.05 * shared[1:].max()) + 1)
    return found if near.sum() == crop.sum() else _tight(near, origin, found)


def _inside(box: Box, shape: tuple[int, int]) -> Box | None:
    low = [max(box[axis], -0.5) for axis in (0, 1)]
    high = [min(box[axis + 2], shape[axis] - 0.5) for axis in (0, 1)]
    if high[0] - low[0] < 1 or high[1] - low[1] < 1:
        return None
    return low[0], low[1], high[0], high[1]


def _box_overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-9)


def _middle(mask: Mask) -> NDArray[np.float64]:
    rows, cols = np.nonzero(mask.crop)
    return np.array([rows.mean() + mask.bbox[0], cols.mean() + mask.bbox[1]])


def _motion(middles: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean step from slice to slice."""
    if len(middles) < 2:
        return 0.0, 0.0
    row, col = (middles[-1] - middles[0]) / (len(middles) - 1)
    return float(row), float(col)


def _moved(mask: Mask, shift: tuple[int, int]) -> Mask:
    row0, col0, row1, col1 = mask.bbox
    moved = (row0 + shift[0], col0 + shift[1], row1 + shift[0], col1 + shift[1])
    return replace(mask, bbox=moved)


def _overlap(first: Mask, second: Mask) -> float:
    """IoU of two masks, read in the box around both."""
    one, other, _ = _together(first, second)
    return float((one & other).sum() / max(1, (one | other).sum()))


def _together(
    first: Mask, second: Mask
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[int, int]]:
    """Both masks in the box around both, and where that begins."""
    window = around((first.bbox, second.bbox))
    one, other = (seen_in(window, mask.crop, mask.bbox) for mask in (first, second))
    return one, other, window[:2]


def _mixed(first: Mask, second: Mask, share: float) -> Mask:
    """Mix two masks: where they differ, the weighted distances to their outlines decide."""
    one, other, origin = _together(first, second)
    distances = [
        scipy.ndimage.distance_transform_edt(np.pad(part, 1))
        - scipy.ndimage.distance_transform_edt(~np.pad(part, 1))
        for part in (one, other)
    ]
    mixed = ((1 - share) * distances[0] + share * distances[1] > 0)[1:-1, 1:-1]
    if not mixed.any():
        return first if share < 0.5 else second
    score = (1 - share) * first.score + share * second.score
    return replace(_tight(mixed, origin, first), score=score)


def _tight(crop: NDArray[np.bool_], origin: tuple[int, int], like: Mask) -> Mask:
    """Make a mask of a crop, with the rest from another one."""
    return Mask.of_crop(crop, origin, like.shape, like.score, like.window, like.answer)
