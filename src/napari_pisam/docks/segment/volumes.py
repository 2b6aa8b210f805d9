"""Volumes of objects through a stack: a slice is read again only if it changed, aside. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from psygnal import Signal

from napari_pisam.measure.volumes import Sums, sums_of_slice
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.stack_run import LabelStack
    from napari_pisam.measure.regions import Pixel
    from napari_pisam.session.session import Execute

    Row = dict[str, float]

# Pixels that one job looks at: between two of them others have their turn.
_AT_ONCE = 1 << 23


class VolumeSetting(NamedTuple):
    """What objects are measured in: the labels of the slices, and how large a voxel is."""

    labels: LabelStack
    pixel: Pixel


class Volumes:
    """Measures of the objects of a stack's labels through its slices.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background and delivers on the main thread.

    Attributes
    ----------
    changed : Signal()
        Measures have come.
    failed : Signal(str)
        Why some could not be measured.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._setting: VolumeSetting | None = None
        self._sums: dict[int, Sums] = {}
        self._dirty: set[int] = set()
        self._rows: dict[int, Row] = {}
        self._is_running = False

    def row(self, number: int) -> Row | None:
        """Return an object's measures, as last known; None before it was measured."""
        return self._rows.get(number)

    def touch(self, index: int) -> None:
        """Note that a slice may be another one now."""
        self._dirty.add(index)

    def update(self, setting: VolumeSetting | None) -> None:
        """Measure what is new or changed, in the background."""
        before, self._setting = self._setting, setting
        if setting is None or before is None or setting.labels.key != before.labels.key:
            self._sums, self._rows = {}, {}
            self._dirty = set(range(setting.labels.line.size)) if setting else set()
        elif setting.pixel != before.pixel:
            self._dirty.add(setting.labels.line.here)
        if not self._is_running:
            self._work()

    def _work(self) -> None:
        setting = self._setting
        if setting is None or not self._dirty:
            return
        here = setting.labels.line.here
        order = sorted(self._dirty, key=lambda index: abs(index - here))
        height, width = setting.labels.shape[1:]
        some = order[: max(1, _AT_ONCE // max(1, height * width))]
        self._dirty.difference_update(some)
        self._is_running = True
        is_last, known, rows = not self._dirty, self._sums, self._rows

        def job() -> tuple[dict[int, Sums], dict[int, Row] | None]:
            found = known | _sums_of(setting, some)
            if not is_last:
                return found, None
            # What is as it was stays the very same: only others are drawn again.
            new = _rows_of(found, setting.pixel)
            same = {number for number, row in new.items() if rows.get(number) == row}
            return found, new | {number: rows[number] for number in same}

        def done(came: tuple[dict[int, Sums], dict[int, Row] | None]) -> None:
            self._is_running = False
            if self._setting is not None and self._setting.labels.key == setting.labels.key:
                self._sums = came[0]
                if came[1] is not None:
                    self._rows = came[1]
                    self.changed.emit()
            self._work()

        def failed(error: BaseException) -> None:
            self._is_running = False
            self._dirty.clear()
            self.failed.emit(failure_sentence(error, "Measuring volumes"))

        self._execute(job, done, failed)

    def complete(self, setting: VolumeSetting) -> Callable[[], dict[int, Row]]:
        """Return a job that gives all objects' measures; for a worker."""
        is_same = self._setting is not None and self._setting.labels.key == setting.labels.key
        known = dict(self._sums) if is_same else {}
        missing = [z for z in range(setting.labels.line.size) if z not in known or z in self._dirty]
        return lambda: _rows_of(known | _sums_of(setting, missing), setting.pixel)


def _sums_of(setting: VolumeSetting, indices: list[int]) -> dict[int, Sums]:
    return {index: sums_of_slice(setting.labels, index) for index in indices}


def _rows_of(found: dict[int, Sums], pixel: Pixel) -> dict[int, Any]:
    return Sums.together(list(found.values())).rows(pixel) if found else {}
