"""Which part of an image a network sees for some prompts: one rule for all networks.

A SAM encodes a frame of 1024 px once and reads every object from that. A network that was trained
on crops around objects finds an object best where it fills the same share of the frame as it did
in training, and a small frame costs a fraction of a large one: its windows follow the prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.model.variants import Focus, Variant
    from napari_pisam.predict.prompts import Prompts

# A box gets half its side on top, a quarter at each end, so that the network sees the surroundings.
_BOX_MARGIN = 0.25
# A click on a window's edge would be judged by half of what there is to see.
_CLICK_MARGIN = 1 / 32
# Clicks outside a focused window make it grow by this share of its side beyond them.
_FOCUS_CLICK_MARGIN = 1 / 16
# A window of fewer px shows a few blurred blobs, whatever is in it.
_LEAST_SIDE = 32
MEAN_SAMPLES = 8
"""Samples per axis that a much reduced pixel is the mean of; more would change nothing visible."""

# Few sizes, so that images of equal size can be computed together and memory is used again.
FRAMES = (256, 384, 512, 768)


@dataclass(frozen=True)
class Window:
    """A part of one level of an image.

    Attributes
    ----------
    level : int
        0 is the largest.
    row0, col0, row1, col1 : int
        Half open, px of that level, inside it.
    step : int
        Blocks of ``step x step`` px are averaged to one while reading.
    level_scale : (float, float)
        Level-0 px per px of this level, along rows and columns.
    frame : int, optional
        Side of the frame that it is shown in, px; the network's own unless given.
    """

    level: int
    row0: int
    col0: int
    row1: int
    col1: int
    step: int = 1
    level_scale: tuple[float, float] = (1.0, 1.0)
    frame: int | None = None

    @property
    def rows(self) -> slice:
        """Rows, px of the level."""
        return slice(self.row0, self.row1)

    @property
    def cols(self) -> slice:
        """Columns, px of the level."""
        return slice(self.col0, self.col1)

    @property
    def reduced_shape(self) -> tuple[int, int]:
        """(height, width) after the averaging, px."""
        return -(-(self.row1 - self.row0) // self.step), -(-(self.col1 - self.col0) // self.step)

    def native_bbox(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """(row0, col0, row1, col1) in level-0 px, half open, inside an image of `shape`."""
        scale_r, scale_c = self.level_scale
        return (
            math.floor(self.row0 * scale_r),
            math.floor(self.col0 * scale_c),
            _native_end(self.row1, scale_r, shape[0]),
            _native_end(self.col1, scale_c, shape[1]),
        )

    def holds(self, prompts: Prompts) -> bool:
        """Whether the box, the mask and every click lie in the window."""
        low = np.array([self.row0, self.col0]) * self.level_scale - 0.5
        high = np.array([self.row1, self.col1]) * self.level_scale - 0.5
        corners = [prompts.points]
        for region in (prompts.box, None if prompts.mask is None else prompts.mask.box):
            if region is not None:
                corners.append(np.reshape(region, (2, 2)))
        places = np.concatenate(corners)
        # A level that was trimmed while it was made ends before level 0 does.
        high = high + np.array(self.level_scale) - 1
        return bool(((places >= low - 1e-6) & (places <= high + 1e-6)).all())


def _native_end(end: int, scale: float, size: int) -> int:
    """Where a window ends in level 0; where its level ends, so does level 0."""
    return size if size - end * scale < scale else math.ceil(end * scale)


def level_scale(base: tuple[int, int], here: tuple[int, int]) -> tuple[float, float]:
    """Level-0 px per px of a level of shape `here`; whole numbers where rounding hid them."""
    scales = []
    for full, size in zip(base, here, strict=True):
        factor = max(1, round(full / size))
        is_whole = size in (full // factor, -(-full // factor))
        scales.append(float(factor) if is_whole else full / size)
    return scales[0], scales[1]


def _extent(prompts: Prompts, shape: tuple[int, int], frame: int, share: float) -> tuple[Any, Any]:
    """(row, col) of the first and the last edge that a window has to hold; edges from 0 to size."""
    lows, highs = [], []
    for region in (prompts.box, None if prompts.mask is None else prompts.mask.box):
        if region is not None:
            low, high = np.array(region[:2]) + 0.5, np.array(region[2:]) + 0.5
            margin = share * (high - low)
            lows.append(low - margin)
            highs.append(high + margin)
    if len(prompts.points):
        margin = np.full(2, _CLICK_MARGIN * frame)
        lows.append(prompts.points.min(axis=0) + 0.5 - margin)
        highs.append(prompts.points.max(axis=0) + 0.5 + margin)
    size = np.array(shape, dtype=np.float64)
    return np.clip(np.min(lows, axis=0), 0, size), np.clip(np.max(highs, axis=0), 0, size)


def _place(low: float, high: float, side: int, size: int, grid: int) -> int:
    """Where a window of `side` px begins: centred on low..high, inside 0..size.

    It snaps to a grid where it still holds low..high, so that neighbours share an encoding.
    """
    start = (low + high - side) / 2
    snapped = round(start / grid) * grid
    if snapped <= low and high <= snapped + side:
        start = snapped
    return max(0, min(math.floor(start), size - side))


def frame_for(length: int, largest: int) -> int:
    """Side of the smallest frame, of at most `largest` px, that shows `length` px."""
    return min((size for size in FRAMES if length <= size < largest), default=largest)


def choose_window(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None = None,
    frame: int = 1024,
    *,
    focus: Focus | None = None,
) -> Window:
    """Choose what the network sees of an image.

    Without a focus: the whole image when it is at most `frame` px; else `frame` px around the
    prompts at native resolution; else, where the prompts need more, a square of their size and
    the margins from the coarsest level that still has `frame` px of it, averaged while reading if
    that is far more.

    With a focus: a square around the box or the mask, `focus.factor` times its longer side, read
    at native resolution where it has at most `frame` px, from a coarser level of the pyramid
    otherwise, and shown in a frame of about its own size, of at most `focus.frame` px. Clicks alone
    get `focus.click_window` px around them.

    Parameters
    ----------
    prompts : Prompts
        Inside the image.
    shape : (int, int)
        (H, W) of level 0, px.
    levels : sequence of (int, int), optional
        (H, W) of every level, px; level 0 alone by default.
    frame : int
        Side of the network's frame, px.
    focus : Focus, optional
        Of the network's variant.
    """
    if focus is None:
        return _around(prompts, shape, levels, frame)
    return _focused(prompts, shape, levels, frame, focus)


def stable_window(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None = None,
    frame: int = 1024,
    *,
    focus: Focus | None = None,
) -> Window:
    """Choose a window that clicks do not move as long as they fit into it.

    The window of the box (or of the first click) is kept; a click outside it leads to the window
    of everything so far. It depends on the prompts alone, not on what was predicted before.
    """
    first = 0
    if prompts.region is None:
        # How many clicks there are up to the first FG one.
        first = int(np.count_nonzero(~prompts.joined[: 1 + int(np.argmax(prompts.labels))]))
    window = choose_window(prompts.first_clicks(first), shape, levels, frame, focus=focus)
    for count in range(first + 1, prompts.click_count + 1):
        so_far = prompts.first_clicks(count)
        if not window.holds(so_far):
            window = choose_window(so_far, shape, levels, frame, focus=focus)
    return window


def window_in(source: ImageSource, prompts: Prompts, variant: Variant) -> Window:
    """Choose the stable window of prompts on an image, as a network of this variant sees it."""
    return stable_window(prompts, source.shape, source.levels, variant.frame, focus=variant.focus)


def _around(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None,
    frame: int,
    margin: float = _BOX_MARGIN,
) -> Window:
    """Choose without a focus; `margin` is the share of a box's side that is added at each end."""
    height, width = shape
    if max(shape) <= frame:
        return Window(0, 0, 0, height, width)
    levels = [shape] if levels is None else levels
    low, high = _extent(prompts, shape, frame, margin)
    need = float((high - low).max())
    level, scale, side, step = 0, (1.0, 1.0), frame, 1
    if need > frame:
        for number, size in enumerate(levels):
            candidate = level_scale(shape, size)
            if need / max(candidate) >= frame:
                level, scale = number, candidate
        side = math.ceil(need / min(scale)) + 1
        step = max(1, side // frame)
        if step >= 2 * MEAN_SAMPLES:
            step -= step % MEAN_SAMPLES
        side = -(-side // step) * step
    sizes = levels[level]
    # In much reduced images a window begins at a whole block.
    grid = max(frame // 4 // step, 1) * step
    ends = []
    for axis in (0, 1):
        length = min(side, sizes[axis])
        edges = low[axis] / scale[axis], high[axis] / scale[axis]
        start = _place(*edges, length, sizes[axis], grid)
        ends.append((start, start + length))
    (row0, row1), (col0, col1) = ends
    return Window(level, row0, col0, row1, col1, step, scale)


def _focused(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None,
    frame: int,
    focus: Focus,
) -> Window:
    largest = min(focus.frame, frame)
    region = prompts.region
    if region is None:
        window = _around(prompts, shape, levels, min(focus.click_window, frame))
        return replace(window, frame=frame_for(max(window.reduced_shape), largest))
    low, high = np.array(region[:2]) + 0.5, np.array(region[2:]) + 0.5
    side = max(focus.factor * float((high - low).max()), _LEAST_SIDE)
    if len(prompts.points):
        centre = (low + high) / 2
        reach = (1 + 2 * _FOCUS_CLICK_MARGIN) * np.abs(prompts.points + 0.5 - centre).max()
        side = max(side, 2 * float(reach))
    if side > frame:
        margin = (focus.factor - 1) / 2
        window = _around(prompts, shape, levels, frame, margin)
        return replace(window, frame=largest)
    ends = []
    for axis in (0, 1):
        # Not a px more for the rounding of factor * side.
        length = min(math.ceil(side - 1e-6), shape[axis])
        start = round((low[axis] + high[axis] - length) / 2)
        start = max(0, min(start, shape[axis] - length))
        ends.append((start, start + length))
    (row0, row1), (col0, col1) = ends
    size = frame_for(max(row1 - row0, col1 - col0), largest)
    return Window(0, row0, col0, row1, col1, frame=size)
