"""Measures of a plane's objects: each once, again only what changed, much of it aside. No Qt."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_pisam.images.label_places import object_places
from napari_pisam.measure.regions import Pixel, measure_objects
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.labels import LabelsPlane
    from napari_pisam.session.session import Execute, SessionObject

Channels = list[tuple[tuple[str, ...], "ImageSource"]]
Row = dict[str, float]

# What is measured at once: more objects or pixels are for a worker.
_FEW, _FEW_PIXELS = 48, 1 << 18
# Objects of one job: between two of them what came is shown.
_CHUNK = 1024
# Neighbours are read together, in one window of about this side.
_TILE = 1024
# So many windows are looked at one by one.
_WINDOWS = 64


@dataclass(frozen=True)
class Setting:
    """What objects are measured in.

    Attributes
    ----------
    labels : LabelsPlane or None
        Where the committed ones are.
    channels : list of ((str, ...), ImageSource)
        Names of channels and pixels, see `channels_of`.
    pixel : Pixel
        How large a pixel is.
    key : object
        Two settings of the same are one.
    """

    labels: LabelsPlane | None = None
    channels: Channels = field(default_factory=list)
    pixel: Pixel = field(default_factory=Pixel)
    key: object = None


@dataclass(eq=False)
class _Object:
    """What is known of an object; `digest` is of its pixels in the labels, 0 of none."""

    mask: Any
    committed: bool
    extent: Bbox
    digest: int | None = None
    row: Row | None = None


_Item = tuple[int, "_Object"]
_Measured = tuple[int, "_Object", int | None, "Row | None"]


class Measures:
    """Measures of the objects of one plane.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background and delivers on the main thread.

    Attributes
    ----------
    changed : Signal()
        Measures have come from the background.
    failed : Signal(str)
        Why some could not be measured.
    wanted : bool
        Whether more is asked for than which objects still have a pixel.
    fresh : set of int
        Objects whose measures are others since somebody emptied this.
    gone : set of int
        Objects that are not there any more, likewise.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._objects: dict[int, _Object] = {}
        self._setting = Setting()
        self._windows: list[Bbox] = []
        self._dirty: dict[int, None] = {}
        self._is_suspect = self._is_running = False
        self.wanted = False
        self.fresh: set[int] = set()
        self.gone: set[int] = set()

    def row(self, number: int) -> Row | None:
        """Return an object's measures, as last known; None before it was measured."""
        known = self._objects.get(number)
        return None if known is None else known.row

    def found(self, number: int) -> tuple[Row | None, bool]:
        """Return `row`, and whether the labels have no pixel of a committed object any more."""
        known = self._objects.get(number)
        if known is None:
            return None, False
        return known.row, known.digest == 0 and known.committed

    @property
    def is_complete(self) -> bool:
        """Whether nothing waits to be measured."""
        return not (self._dirty or self._is_suspect or self._windows)

    def touch(self, window: Bbox | None = None) -> None:
        """Note that a window of the labels, or nobody knows which part, was written by anybody."""
        if window is None:
            self._is_suspect = True
        else:
            self._windows.append(window)

    def update(self, objects: Iterable[SessionObject], setting: Setting) -> None:
        """Measure what is new or changed: a little at once, much in the background."""
        if setting.key != self._setting.key:
            self._objects, self._dirty, self._windows = {}, {}, []
            self.fresh, self.gone, self._is_suspect = set(), set(), False
        self._setting = setting
        self._take(objects)
        self._look_at_windows()
        if self._is_suspect:
            self._is_suspect = False
            committed = (id_ for id_, one in self._objects.items() if one.committed)
            self._dirty.update(dict.fromkeys(committed))
        if not self._is_running:
            self._work()

    def _take(self, objects: Iterable[SessionObject]) -> None:
        known, self._objects = self._objects, {}
        for one in objects:
            before = known.pop(one.id, None)
            mask = one.mask
            if mask is None or not mask.crop.size:
                continue
            if before is None or before.mask is not mask or before.committed != one.committed:
                before = _Object(mask, one.committed, mask.bbox)
                if self.wanted:
                    self._dirty[one.id] = None
            elif self.wanted and before.row is None:
                self._dirty[one.id] = None
            self._objects[one.id] = before
        self.gone.update(known)

    def _look_at_windows(self) -> None:
        windows, self._windows = self._windows, []
        labels = self._setting.labels
        committed = {id_: one for id_, one in self._objects.items() if one.committed}
        if labels is None or not committed or not windows:
            return
        if len(windows) > _WINDOWS:
            corners = np.array(windows)
            low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
            windows = [(int(low[0]), int(low[1]), int(high[0]), int(high[1]))]
        numbers = np.fromiter(committed, np.int64)
        extents = np.array([one.extent for one in committed.values()])
        for row0, col0, row1, col1 in windows:
            meets = (extents[:, 0] < row1) & (extents[:, 2] > row0)
            meets &= (extents[:, 1] < col1) & (extents[:, 3] > col0)
            self._dirty.update(dict.fromkeys(numbers[meets].tolist()))
            block = np.asarray(labels[row0:row1, col0:col1])
            for number, (rows, cols) in object_places(block).items():
                if (one := committed.get(number)) is not None:
                    one.extent = (
                        min(one.extent[0], row0 + rows.start),
                        min(one.extent[1], col0 + cols.start),
                        max(one.extent[2], row0 + rows.stop),
                        max(one.extent[3], col0 + cols.stop),
                    )
                    self._dirty[number] = None

    def complete(self) -> Callable[[], dict[int, Row]]:
        """Return a job that measures what is not measured yet, and gives all; for a worker."""
        setting, objects = self._setting, dict(self._objects)
        known = {id_: one.row for id_, one in objects.items() if one.row is not None}
        missing = [
            item for item in objects.items() if item[0] not in known or item[0] in self._dirty
        ]
        labels = None if setting.labels is None else setting.labels.frozen()

        def job() -> dict[int, Row]:
            found = _measured(missing, labels, setting.channels, setting.pixel, wanted=True)
            return known | {id_: row for id_, _, _, row in found if row is not None}

        return job

    # -- the work -----------------------------------------------------------------------------

    def _work(self) -> None:
        """Measure at once if there is little to do, else in the background, piece by piece."""
        setting = self._setting
        items = [(id_, self._objects[id_]) for id_ in self._dirty if id_ in self._objects]
        if not items:
            self._dirty.clear()
            return
        channels = setting.channels if self.wanted else []
        in_memory = all(source.is_in_memory for _, source in channels)
        if len(items) <= _FEW and in_memory and sum(_area(one) for _, one in items) <= _FEW_PIXELS:
            self._dirty.clear()
            given = items, setting.labels, channels, setting.pixel
            self._accept(_measured(*given, wanted=self.wanted))
            return
        items.sort(key=lambda item: _tile(item[1].extent))
        del items[_CHUNK:]
        for id_, _ in items:
            del self._dirty[id_]
        labels = None if setting.labels is None else setting.labels.frozen()
        job = partial(_measured, items, labels, channels, setting.pixel, wanted=self.wanted)
        self._is_running = True
        self._execute(job, partial(self._on_done, setting.key), partial(self._on_failed, items))

    def _on_done(self, key: object, found: list[_Measured]) -> None:
        self._is_running = False
        if key == self._setting.key:
            self._accept(found)
        self._work()
        self.changed.emit()

    def _on_failed(self, items: list[_Item], error: BaseException) -> None:
        self._is_running = False
        for _, one in items:
            # Not tried again and again.
            one.row = one.row or {}
        self.failed.emit(failure_sentence(error, "Measuring the objects"))

    def _accept(self, found: list[_Measured]) -> None:
        for id_, one, digest, row in found:
            if self._objects.get(id_) is not one:
                continue
            if digest is not None:
                one.digest = digest
            if row is not None and row != one.row:
                one.row = row
                self.fresh.add(id_)


def _area(one: _Object) -> int:
    row0, col0, row1, col1 = one.extent
    return (row1 - row0) * (col1 - col0)


def _tile(extent: Bbox) -> tuple[int, int]:
    return extent[0] // _TILE, extent[1] // _TILE


def _measured(
    items: Sequence[_Item],
    labels: LabelsPlane | None,
    channels: Channels,
    pixel: Pixel,
    *,
    wanted: bool,
) -> list[_Measured]:
    """Measure objects; those of the labels that have the same pixels as before only if new."""
    found: list[_Measured] = []
    changed: list[tuple[int, _Object, int]] = []
    for id_, one in items:
        if not one.committed or labels is None:
            row = _row_of_mask(one, channels, pixel) if wanted else None
            found.append((id_, one, None, row))
            continue
        row0, col0, row1, col1 = one.extent
        digest = _digest(np.asarray(labels[row0:row1, col0:col1]) == id_)
        is_known = digest == one.digest and (one.row is not None or not wanted)
        if digest and wanted and not is_known:
            changed.append((id_, one, digest))
        else:
            found.append((id_, one, digest, None if digest else {}))
    tiles: dict[object, list[tuple[int, _Object, int]]] = {}
    for item in changed:
        row0, col0, row1, col1 = item[1].extent
        is_large = max(row1 - row0, col1 - col0) > _TILE
        tiles.setdefault(item[0] if is_large else _tile(item[1].extent), []).append(item)
    if labels is not None:
        for members in tiles.values():
            found += _of_tile(members, labels, channels, pixel)
    return found


def _digest(mask: NDArray[np.bool_]) -> int:
    """Tell pixels from others; 0 where there are none."""
    return (zlib.crc32(np.packbits(mask).tobytes()) | 1 << 32) if mask.any() else 0


def _row_of_mask(one: _Object, channels: Channels, pixel: Pixel) -> Row:
    return _measure(one.mask.crop.astype(np.uint8), one.mask.bbox, channels, pixel, [1])[1]


def _of_tile(
    members: list[tuple[int, _Object, int]], labels: LabelsPlane, channels: Channels, pixel: Pixel
) -> list[_Measured]:
    extents = np.array([one.extent for _, one, _ in members])
    row0, col0 = (int(value) for value in extents[:, :2].min(axis=0))
    row1, col1 = (int(value) for value in extents[:, 2:].max(axis=0))
    block = np.asarray(labels[row0:row1, col0:col1])
    rows = _measure(
        block, (row0, col0, row1, col1), channels, pixel, [number for number, *_ in members]
    )
    return [(number, one, digest, rows.get(number, {})) for number, one, digest in members]


def _measure(
    block: NDArray[Any], bbox: Bbox, channels: Channels, pixel: Pixel, only: list[int]
) -> dict[int, Row]:
    row0, col0, row1, col1 = bbox
    window = slice(row0, row1), slice(col0, col1)
    pictures = [source.read(window) for _, source in channels]
    names = [name for of_one, _ in channels for name in of_one]
    picture = np.concatenate(pictures, axis=-1) if pictures else None
    given = () if names == [""] else names
    rows = measure_objects(
        block, picture, pixel=pixel, channels=given, only=only, origin=(row0, col0)
    )
    return rows
