"""Objects larger than a network's frame: the mask of the whole first, its outline in tiles then.

So are thin lines that a frame shows reduced: lines of a pixel or less are lost there.

The whole is seen reduced, as any object is. Where its outline runs, tiles are looked at anew, each
with what was found before as its start: four times finer at most, and finer again, down to the
image's own pixels. A tile that the outline does not cross has nothing to add. Tiles overlap, and
what they say is blended; they lie on a grid of the image, so that a click changes few of them.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_pisam.images.crops import extent, seen_in
from napari_pisam.predict.areas import Answer
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.preprocessing import FrameTransform
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.predict.windows import Window, level_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_pisam.model.variants import Variant
    from napari_pisam.predict.click_sorting import Stroke

    Progress = Callable[[int, int], None]
    Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

    class LookAt(Protocol):
        """Runs the network on a tile."""

        def __call__(
            self, window: Window, prompts: Prompts, start: NDArray[np.float32] | None
        ) -> NDArray[np.float32]:
            """Return the (h, w) logits of a window, given (1, S/4, S/4) logits to start from."""


# How much finer one step is than the one before, at most.
_STEP = 4
# Tiles overlap by this share of their side; the outer half of that is not used: what a network
# says at the edge of what it sees is poor.
_OVERLAP = 0.25
# How far from an outline a finer look may move it, px of the coarser one.
_REACH = 3
# Lines are looked at in tiles where a frame's pixel has more of the image's on a side than this:
# eight networks of the fixed objects change, by +0.03 of IoU from the box and +0.04 after clicks.
_REDUCED = 1.2
# What is not looked at again is as sure as this.
_SURE = np.float32(10)
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True)
class _Grid:
    """Pixels of one size all over an image.

    Attributes
    ----------
    level, step : int
        `step` x `step` px of that level of the image are one.
    level_scale : (float, float)
        Level-0 px per px of the level.
    shape : (int, int)
        (H, W) of the image in pixels of the grid.
    """

    level: int
    step: int
    level_scale: tuple[float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, levels: Sequence[tuple[int, int]], size: float) -> _Grid:
        """Choose the grid whose pixels have at most `size` level-0 px, and nearly so many."""
        number, scale = 0, (1.0, 1.0)
        for place, shape in enumerate(levels):
            candidate = level_scale(levels[0], shape)
            if max(candidate) <= size:
                number, scale = place, candidate
        step = max(1, int(size / max(scale)))
        height, width = (-(-n // step) for n in levels[number])
        return cls(number, step, scale, (height, width))

    @property
    def pixel(self) -> tuple[float, float]:
        """Level-0 px per pixel, along rows and columns."""
        return self.step * self.level_scale[0], self.step * self.level_scale[1]

    def window(self, tile: _Tile, sizes: tuple[int, int], frame: int) -> Window:
        """Where a tile is in its level, of (H, W) px."""
        row0, col0 = tile.row * self.step, tile.col * self.step
        row1, col1 = (min(n * self.step, size) for n, size in zip(tile.ends, sizes, strict=True))
        return Window(self.level, row0, col0, row1, col1, self.step, self.level_scale, frame)


@dataclass(frozen=True)
class _RoughMask:
    """The mask so far.

    Attributes
    ----------
    crop : (h, w) bool array
        In pixels of some size.
    edge : (float, float)
        Its first edge, level-0 px from the image's.
    pixel : (float, float)
        Level-0 px per pixel.
    """

    crop: NDArray[np.bool_]
    edge: tuple[float, float]
    pixel: tuple[float, float]

    def places(self, grid: _Grid, first: int, last: int, axis: int) -> NDArray[np.intp]:
        """Which pixel of the crop, or beyond it, each of the grid's pixels first..last-1 is in."""
        middles = (np.arange(first, last) + 0.5) * grid.pixel[axis]
        places: NDArray[np.intp] = np.floor((middles - self.edge[axis]) / self.pixel[axis]).astype(
            np.intp
        )
        return places

    def outline(self) -> tuple[int, int, int, int]:
        """(row0, col0, row1, col1) of the True pixels of the crop, half open."""
        rows, cols = extent(self.crop) or (slice(0, 0), slice(0, 0))
        return rows.start, cols.start, rows.stop, cols.stop

    def seen_in(self, row0: int, col0: int, row1: int, col1: int) -> NDArray[np.bool_]:
        """Return the pixels of the crop from the first to the last; False beyond it."""
        return seen_in((row0, col0, row1 + 1, col1 + 1), self.crop, (0, 0, *self.crop.shape))


@dataclass(frozen=True)
class WholeObject:
    """An object as it is seen in one frame.

    Attributes
    ----------
    logits : (h, w) float32 array
        The valid part of the frame.
    transform : FrameTransform
        From the image to the frame.
    window : (int, int, int, int)
        What the frame shows, level-0 px, half open, inside the image.
    score : float
        What the mask's IoU is likely to be.
    answer : Answer or None
        Which of two answers it is.
    """

    logits: NDArray[np.float32]
    transform: FrameTransform
    window: tuple[int, int, int, int]
    score: float
    answer: Answer | None = None

    def as_mask(self, shape: tuple[int, int]) -> Mask:
        """Return the mask of an image of (H, W) px that the frame alone gives."""
        return Mask.from_frame_logits(
            self.logits, self.transform, self.window, shape, self.score, self.answer
        )

    @property
    def pixel(self) -> tuple[float, float]:
        """Level-0 px per pixel of the frame, along rows and columns."""
        rows, cols = self.transform.scale
        return 1 / rows, 1 / cols

    def found(self) -> _RoughMask:
        """Return the mask in the pixels of the frame."""
        return _RoughMask(self.logits > 0, self.transform.edge, self.pixel)


@dataclass(frozen=True)
class _Tile:
    """A tile of a grid, and how its pixels count beside those of its neighbours."""

    row: int
    col: int
    row_weights: NDArray[np.float32]
    col_weights: NDArray[np.float32]

    @property
    def ends(self) -> tuple[int, int]:
        return self.row + len(self.row_weights), self.col + len(self.col_weights)


def _starts(size: int, side: int) -> list[int]:
    """Where the tiles of an axis begin."""
    if size <= side:
        return [0]
    stride = side - round(_OVERLAP * side)
    return [*range(0, size - side, stride), size - side]


def _weights(size: int, side: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First pixel and weights of every tile of an axis; those of a pixel add up to 1."""
    starts, length = _starts(size, side), min(size, side)
    unused = round(_OVERLAP * side) // 4
    rising = np.ones(length)
    for place, start in enumerate(starts):
        weights = rising
        if place + 1 < len(starts):
            following = starts[place + 1]
            low, high = following + unused, start + length - unused
            middles = np.arange(start, following + length) + 0.5
            ramp = np.clip((middles - low) / max(high - low, 1), 0, 1)
            weights = rising - ramp[:length]
            rising = ramp[following - start :]
        yield start, weights.astype(np.float32)


class TiledObjects:
    """Predicts objects larger than the frame, and remembers the tiles of the last ones.

    Parameters
    ----------
    variant : Variant
        Of the network.
    side : int, optional
        Of a tile, px of its grid and of the frame; the largest frame that the network knows.
    """

    def __init__(self, variant: Variant, side: int | None = None) -> None:
        largest = (
            variant.frame if variant.focus is None else min(variant.focus.frame, variant.frame)
        )
        self._variant = variant
        self._least = variant.frame if side is None else side
        self.side = largest if side is None else side
        self._kept: OrderedDict[Any, NDArray[np.float16]] = OrderedDict()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget all tiles: the image is another one."""
        self._kept.clear()

    def is_large(self, prompts: Prompts) -> bool:
        """Whether an object's box is larger than the network's frame."""
        return self._longer_side(prompts) > self._least

    def may_apply(self, prompts: Prompts) -> bool:
        """Whether an object may be predicted in tiles, before it is seen: `apply` says it then."""
        focus = self._variant.focus
        if focus is None or not self._variant.fine_answer:
            return self.is_large(prompts)
        # At most so much is read around it.
        seen = focus.factor * self._longer_side(prompts)
        return seen > _REDUCED * self.side or self.is_large(prompts)

    def may_apply_to_any(self, prompts: Prompts) -> bool:
        """Whether one of an object's boxes may be predicted in tiles."""
        return any(self.may_apply(one) for one in (prompts, *map(Prompts, prompts.boxes)))

    def apply(self, prompts: Prompts, whole: WholeObject) -> bool:
        """Whether an object is predicted in tiles: it is large, or lines were seen reduced."""
        is_reduced = whole.answer is Answer.FINE and max(whole.pixel) > _REDUCED
        return self.is_large(prompts) or (is_reduced and self.may_apply(prompts))

    def _longer_side(self, prompts: Prompts) -> float:
        """Longer side of a box, px; 0 of what is not predicted in tiles."""
        region = prompts.region
        if region is None or (prompts.mask is not None and self._variant.focus is not None):
            return 0
        return max(region[2] - region[0], region[3] - region[1])

    def predict(
        self,
        whole: WholeObject,
        prompts: Prompts,
        levels: Sequence[tuple[int, int]],
        look_at: LookAt,
        progress: Progress | None = None,
        each: Each = map,
    ) -> Mask:
        """Look at the outline of an object in tiles.

        Parameters
        ----------
        whole : WholeObject
            The object as a whole, in one frame.
        prompts : Prompts
            All of the object's.
        levels : sequence of (int, int)
            (H, W) of the levels of the image, px.
        look_at : callable
            Runs the network.
        progress : callable, optional
            Called before every tile with (tiles done, tiles in all as far as is known); what it
            raises ends the work.
        each : callable
            As `map`; one that works on several tiles at a time is as good.
        """
        found, tell = whole.found(), progress or (lambda done, total: None)
        grids = list(_finer(levels, found.pixel))
        done = 0
        for place, grid in enumerate(grids):
            if not found.crop.any():
                break
            tiling = _Tiling(grid, self.side, found)
            asked = [t for t in tiling.tiles if TileView.at(t, grid, found, prompts) is not None]
            # An outline is as many times longer in tiles as these are smaller.
            finer = sum(max(grid.pixel) / max(one.pixel) for one in grids[place + 1 :])
            total = math.ceil(done + len(asked) * (1 + finer))
            counted = zip(itertools.count(done), asked, strict=False)
            done += len(asked)

            def seen(
                item: tuple[int, _Tile],
                grid: _Grid = grid,
                found: _RoughMask = found,
                total: int = total,
            ) -> NDArray[np.float32]:
                tell(item[0], total)
                return self._seen(item[1], found, grid, levels, prompts, look_at)

            answers, waiting = each(seen, counted), {id(tile) for tile in asked}
            for tile in tiling.tiles:
                is_asked = id(tile) in waiting
                tiling.add(tile, next(answers) if is_asked else _start(tile, grid, found))
            found = tiling.found()
        return _mask_of(found, whole, levels[0])

    def _seen(
        self,
        tile: _Tile,
        found: _RoughMask,
        grid: _Grid,
        levels: Sequence[tuple[int, int]],
        prompts: Prompts,
        look_at: LookAt,
    ) -> NDArray[np.float32]:
        """Logits of a tile: what was found before, and what is seen near the outline."""
        # Made anew for every tile in turn: all looks of a large object would fill the memory.
        look = TileView.at(tile, grid, found, prompts)
        logits = _start(tile, grid, found)
        if look is None:
            return logits
        window = grid.window(tile, levels[grid.level], self.side)
        key = (window, look.prompts, np.packbits(look.start).tobytes())
        with self._lock:
            seen = self._kept.pop(key, None)
        if seen is None:
            seen = look_at(window, look.prompts, look.start_logits()).astype(np.float16)
        with self._lock:
            self._kept[key] = seen
            while sum(kept.nbytes for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        np.copyto(logits, seen, where=look.near)
        return logits


class _Tiling:
    """The tiles of a grid around an object, row by row, and what they say together.

    Parameters
    ----------
    grid : _Grid
    side : int
        Of a tile, px of the grid.
    found : _RoughMask
        The mask so far, of which at least a pixel is True.
    """

    def __init__(self, grid: _Grid, side: int, found: _RoughMask) -> None:
        ends = _region(found, grid)
        rows, cols = (
            _within(list(_weights(grid.shape[axis], side)), ends[axis]) for axis in (0, 1)
        )
        self._tiles = [[_Tile(r, c, wr, wc) for c, wc in cols] for r, wr in rows]
        self._finished = 0
        self._pixel = grid.pixel
        self._top, self._left = rows[0][0], cols[0][0]
        height, width = rows[-1][0] + len(rows[-1][1]), cols[-1][0] + len(cols[-1][1])
        shape = height - self._top, width - self._left
        self._crop = np.zeros(shape, dtype=np.bool_)
        # The sum of a row of tiles; what the next row has no part in is finished.
        self._total = np.zeros((len(rows[0][1]), shape[1]), dtype=np.float32)

    @property
    def tiles(self) -> list[_Tile]:
        """All tiles, row by row."""
        return [tile for line in self._tiles for tile in line]

    def add(self, tile: _Tile, logits: NDArray[np.float32]) -> None:
        """Add the (h, w) logits, which are changed, of the tile after the one before."""
        logits *= tile.row_weights[:, None]
        logits *= tile.col_weights
        self._total[:, tile.col - self._left : tile.ends[1] - self._left] += logits
        line = self._tiles[self._finished]
        if tile is line[-1]:
            self._finish(line[0].row)

    def _finish(self, row: int) -> None:
        """Take what no further row of tiles has a part in."""
        self._finished += 1
        is_last = self._finished == len(self._tiles)
        count = len(self._total) if is_last else self._tiles[self._finished][0].row - row
        into = self._crop[row - self._top : row - self._top + count]
        np.greater(self._total[:count], 0, out=into)
        self._total[: len(self._total) - count] = self._total[count:].copy()
        self._total[len(self._total) - count :] = 0

    def found(self) -> _RoughMask:
        """Return the mask after all tiles."""
        edge = self._top * self._pixel[0], self._left * self._pixel[1]
        return _RoughMask(self._crop, edge, self._pixel)


@dataclass(frozen=True)
class TileView:
    """What is asked of a tile, and where the answer counts.

    Attributes
    ----------
    prompts : Prompts
        The object's start in the tile, and the clicks there.
    start : (h, w) bool array
        What was found before, in the tile's pixels.
    near : (h, w) bool array
        The tile's pixels that are near the outline or a click.
    """

    prompts: Prompts
    start: NDArray[np.bool_]
    near: NDArray[np.bool_]

    @classmethod
    def at(cls, tile: _Tile, grid: _Grid, found: _RoughMask, prompts: Prompts) -> TileView | None:
        """Return it, or None where there is nothing to be found."""
        from scipy import ndimage  # when it is used: a dock opens sooner

        ends = tile.ends
        rows = found.places(grid, tile.row, ends[0], 0)
        cols = found.places(grid, tile.col, ends[1], 1)
        origin = rows[0] - _REACH, cols[0] - _REACH
        around = found.seen_in(*origin, rows[-1] + _REACH, cols[-1] + _REACH)
        size = 2 * _REACH + 1
        near = ndimage.maximum_filter(around, size) != ndimage.minimum_filter(around, size)
        strokes = list(_strokes_in(tile, grid, prompts))
        points = np.array([point for line, _ in strokes for point in line]).reshape(-1, 2)
        for row, col in np.floor((points + 0.5 - found.edge) / found.pixel).astype(int) - origin:
            near[max(row - _REACH, 0) : row + size // 2, max(col - _REACH, 0) : col + size // 2] = 1
        near = near[np.ix_(rows - origin[0], cols - origin[1])]
        used = near[np.ix_(tile.row_weights > 0, tile.col_weights > 0)]
        if not used.any():
            return None
        start = around[np.ix_(rows - origin[0], cols - origin[1])]
        if not start.any():
            is_there = any(is_foreground for _, is_foreground in strokes)
            return cls(Prompts.from_strokes(None, strokes), start, near) if is_there else None
        rows_in, cols_in = extent(start) or (slice(0, 0), slice(0, 0))
        box = np.array([[rows_in.start, cols_in.start], [rows_in.stop, cols_in.stop]])
        box += np.array([tile.row, tile.col])
        corners = box * grid.pixel - 0.5
        return cls(Prompts.from_strokes(corners.ravel(), strokes), start, near)

    def start_logits(self) -> NDArray[np.float32] | None:
        """(1, S/4, S/4): the start as SAM's prompt encoder expects it; None where it is empty."""
        if self.prompts.region is None:
            return None
        height, width = self.start.shape
        # In pixels of the tile, which are those of its frame.
        transform = FrameTransform((0.0, 0.0), (1.0, 1.0), (height, width))
        return transform.mask_to_logits(MaskPrompt.from_any(self.start), max(height, width))


def _strokes_in(tile: _Tile, grid: _Grid, prompts: Prompts) -> Iterator[Stroke]:
    """Clicks in a tile, and the parts of scribbles that run through it."""
    low = np.array([tile.row, tile.col]) * grid.pixel - 0.5
    high = np.array(tile.ends) * grid.pixel - 0.5
    for places, is_foreground in prompts.strokes:
        line = np.array(places)
        if len(line) > 1:
            # A line may run through a tile without a corner in it.
            length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
            along = np.arange(0, length[-1], min(grid.pixel))
            along = np.union1d(along, length)
            line = np.stack([np.interp(along, length, axis) for axis in line.T], axis=1)
        inside = np.all((line >= low) & (line < high), axis=1)
        for part in np.split(np.arange(len(line)), np.flatnonzero(np.diff(inside)) + 1):
            if inside[part[0]]:
                yield tuple((row, col) for row, col in line[part].tolist()), is_foreground


def _start(tile: _Tile, grid: _Grid, found: _RoughMask) -> NDArray[np.float32]:
    """Make logits of a tile from what was found before."""
    rows = found.places(grid, tile.row, tile.ends[0], 0)
    cols = found.places(grid, tile.col, tile.ends[1], 1)
    part = found.seen_in(rows[0], cols[0], rows[-1], cols[-1])
    inside = part[np.ix_(rows - rows[0], cols - cols[0])]
    return np.where(inside, _SURE, -_SURE)


def _finer(levels: Sequence[tuple[int, int]], pixel: tuple[float, float]) -> Iterator[_Grid]:
    """From the first grid that is finer than a pixel to the image's own pixels."""
    size = max(pixel)
    while True:
        size = max(1.0, math.ceil(size / _STEP))
        grid = _Grid.of(levels, size)
        yield grid
        if size == 1:
            return


def _region(found: _RoughMask, grid: _Grid) -> list[tuple[int, int]]:
    """First and last + 1 pixel of the grid, along rows and columns, that may be the object's."""
    outline = found.outline()
    ends = []
    for axis in (0, 1):
        low, high = (outline[axis + side] + reach for side, reach in ((0, -_REACH), (2, _REACH)))
        edges = (found.edge[axis] + np.array([low, high]) * found.pixel[axis]) / grid.pixel[axis]
        first, last = np.clip([math.floor(edges[0]), math.ceil(edges[1])], 0, grid.shape[axis])
        ends.append((int(first), int(last)))
    return ends


def _within(
    tiles: list[tuple[int, NDArray[np.float32]]], ends: tuple[int, int]
) -> list[tuple[int, NDArray[np.float32]]]:
    """Those tiles whose pixels count between two ends."""
    return [
        (start, weights)
        for start, weights in tiles
        if weights[max(ends[0] - start, 0) : max(ends[1] - start, 0)].any()
    ]


def _mask_of(found: _RoughMask, whole: WholeObject, shape: tuple[int, int]) -> Mask:
    """Turn what was found in the image's own pixels into a mask of an image of (H, W) px."""
    edge = round(found.edge[0]), round(found.edge[1])
    return Mask.of_crop(found.crop, edge, shape, whole.score, whole.window, whole.answer)
