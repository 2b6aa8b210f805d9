"""The table of the displayed plane's objects: its columns, its measures, its files. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.segment.measuring import Measures, Setting
from napari_pisam.docks.segment.rows import (
    FIRST_COLUMNS,
    KNOWN_COLUMNS,
    VOLUME_KEYS,
    ObjectRows,
    measured_columns,
)
from napari_pisam.docks.segment.stack_run import LabelStack
from napari_pisam.docks.segment.volumes import Volumes, VolumeSetting
from napari_pisam.images.label_formats.table import write_rows
from napari_pisam.layers.labels import painted_windows
from napari_pisam.layers.measuring import channels_of, pixel_of, set_label_features, voxel_of
from napari_pisam.measure.regions import Pixel, with_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.docks.segment.rows import Column, ListedObject
    from napari_pisam.docks.segment.stack_run import StackSlices
    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.images.crops import Bbox
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.session import Execute, Session

_KNOWN = {column.key for column in KNOWN_COLUMNS}


class ObjectTable:
    """What the object list shows.

    Parameters
    ----------
    workspace : Workspace
        Whose objects.
    write : Execute
        Runs a job in a thread that predictions do not wait for.
    later : callable
        ``later(call)`` calls it once napari has finished handling its event.
    line : callable
        Says which slices of a stack the displayed one is of, if any.

    Attributes
    ----------
    changed : Signal()
        There is something else to show.
    touched : Signal((int, int, int, int) or None)
        A window of the labels was written, or nobody knows which.
    shown : tuple of str
        Keys of the columns that are chosen.
    in_pixels : bool
        Whether lengths are in px where the layer has a unit.
    """

    changed = Signal()
    touched = Signal(object)

    def __init__(
        self,
        workspace: Workspace,
        write: Execute,
        later: Callable[[Callable[[], None]], None],
        line: Callable[[], StackSlices | None] = lambda: None,
    ) -> None:
        self._work, self._later, self._line = workspace, later, line
        self.measures, self.volumes = Measures(write), Volumes(write)
        self.shown: tuple[str, ...] = FIRST_COLUMNS
        self.in_pixels = False
        self._rows = ObjectRows()
        self._labels: Any = None
        self._session: Session | None = None
        self._channels: tuple[Any, list[Any]] = (None, [])
        self._is_asked = False
        for one in (self.measures, self.volumes):
            one.changed.connect(self._tell)
            one.failed.connect(workspace.failed.emit)
        workspace.planes.changed.connect(self._on_plane)

    def close(self) -> None:
        """Let go of layers and sessions."""
        self._follow(None, None)
        self._work.planes.changed.disconnect(self._on_plane)
        for one in (self.measures, self.volumes):
            one.changed.disconnect(self._tell)
            one.failed.disconnect(self._work.failed.emit)

    def _tell(self) -> None:
        self.changed.emit()

    # -- what there is ------------------------------------------------------------------------

    def choose(self, shown: Sequence[str], *, in_pixels: bool = False) -> None:
        """Choose the columns, and what lengths are in."""
        self.shown, self.in_pixels = tuple(shown), in_pixels
        self.changed.emit()

    def ask(self) -> None:
        """Have everything measured from now on, whatever columns are shown."""
        self._is_asked = True
        self.rows()

    @property
    def pixel(self) -> Pixel:
        """How large a pixel is, as the table has it."""
        planes = self._work.planes
        if self.in_pixels or planes.image is None or planes.plane is None:
            return Pixel()
        return pixel_of(planes.image, planes.plane)

    def columns(self) -> list[Column]:
        """Return all columns that there are."""
        names = [name for of_one, _ in self._pictures() for name in of_one]
        stack = self._stack()
        unit = None if stack is None else stack.pixel.unit
        return [*KNOWN_COLUMNS, *measured_columns(self.pixel.unit, names, of_volumes=unit)]

    def _stack(self) -> VolumeSetting | None:
        """Return the slices that objects go on through; None where there are none."""
        line, labels = self._line(), self._work.planes.labels
        if line is None or labels is None:
            return None
        voxel = voxel_of(line.image, line.plane, line.axis)
        if voxel is None:
            return None
        return VolumeSetting(LabelStack(line, labels), Pixel() if self.in_pixels else voxel)

    def shown_columns(self) -> list[Column]:
        """Return the columns that are chosen; the first ones where an image has none of them."""
        columns = self.columns()
        found = [column for column in columns if column.key in self.shown]
        if len(found) < min(2, len(self.shown)):
            return [column for column in columns if column.key in FIRST_COLUMNS]
        return found

    def rows(self) -> list[ListedObject]:
        """Return all objects; what is not measured yet is told by `changed` when it is."""
        work, measures = self._work, self.measures
        self._follow(work.choice["labels"], work.session)
        aside = _KNOWN | VOLUME_KEYS
        measures.wanted = self._is_asked or any(key not in aside for key in self.shown)
        measures.update(() if work.session is None else work.session.objects, self._setting())
        is_seen = any(key in VOLUME_KEYS for key in self.shown)
        self.volumes.update(self._stack() if is_seen else None)
        if measures.wanted and measures.is_complete and (measures.fresh or measures.gone):
            self._later(self._write_features)
        return self._rows.rows(work.session, self._labels, measures, self.volumes)

    def _setting(self) -> Setting:
        planes = self._work.planes
        channels, pixel = self._pictures(), self.pixel
        sources = tuple(source for _, source in channels)
        key = planes.session, planes.labels, planes.plane, sources, pixel
        return Setting(planes.labels, channels, pixel, key)

    def _pictures(self) -> list[Any]:
        """Find the pictures whose intensities are measured; looked for when layers change."""
        planes, layers = self._work.planes, self._work.viewer.layers
        if planes.image is None or planes.plane is None:
            return []
        images = tuple((o, o.name, id(o.data)) for o in layers if type(o).__name__ == "Image")
        key = planes.image, planes.plane, planes.plane.projection, images
        if self._channels[0] != key:
            self._channels = key, channels_of(layers, planes.image, planes.plane)
        return self._channels[1]

    # -- what changes the labels --------------------------------------------------------------

    def _follow(self, labels: Any, session: Session | None) -> None:
        if session is not self._session:
            for one, connect in ((self._session, False), (session, True)):
                if one is not None:
                    signal = one.labels_changed
                    (signal.connect if connect else signal.disconnect)(self._touch)
            self._session = session
        if labels is self._labels:
            return
        for layer, connect in ((self._labels, False), (labels, True)):
            for name in ("paint", "data", "set_data"):
                emitter = None if layer is None else getattr(layer.events, name)
                if emitter is not None:
                    (emitter.connect if connect else emitter.disconnect)(self._on_labels)
        self._labels = labels

    def _on_plane(self, _image: Any, plane: ImagePlane) -> None:
        line = self._line()
        index = None if line is None else plane.index[line.axis]
        if line is not None and index is not None and line.at(index) == plane:
            self.volumes.touch(index)

    def _touch(self, window: Bbox | None = None) -> None:
        self.measures.touch(window)
        if self._work.planes.plane is not None:
            self._on_plane(None, self._work.planes.plane)
        self.touched.emit(window)

    def _on_labels(self, event: Any) -> None:
        """Notice what others write, erase and take back."""
        planes = self._work.planes
        if planes.labels is None or planes.is_refreshing:
            return
        if event.type == "paint":
            for part in painted_windows(event.value):
                if (window := planes.labels.window_of(part)) is not None:
                    self._touch(window)
        else:
            self._touch()
        self.changed.emit()

    # -- where it goes ------------------------------------------------------------------------

    def _write_features(self) -> None:
        """Keep the measures in the Labels layer, where other plugins look for them."""
        measures, labels = self.measures, self._labels
        if labels is None or not measures.is_complete:
            return
        fresh, gone = measures.fresh, measures.gone
        measures.fresh, measures.gone = set(), set()
        unit, session = self.pixel.unit, self._session
        rows = {}
        for number in fresh:
            row = measures.row(number)
            one = None if session is None else session.get(number)
            if row and one is not None and one.committed:
                rows[number] = self._named(row, unit) | {"class": one.class_name}
            else:
                gone.add(number)
        if rows or gone:
            set_label_features(labels, rows, gone)

    @staticmethod
    def _named(row: Any, unit: str) -> dict[str, Any]:
        return {with_unit(name, unit): value for name, value in row.items()}

    def measuring_job(self) -> Callable[[], dict[int, dict[str, float]]]:
        """Return a job that gives all objects' measures, named with their units; for a worker."""
        self.rows()
        complete, unit = self.measures.complete(), self.pixel.unit
        return lambda: {number: self._named(row, unit) for number, row in complete().items()}

    def saving_job(self, path: Path) -> Callable[[], None]:
        """Return a job that writes the table with all measures as CSV."""
        known, measure, stack = self.rows(), self.measuring_job(), self._stack()
        through = None if stack is None else self.volumes.complete(stack)
        unit = "" if stack is None else stack.pixel.unit

        def job() -> None:
            measured, volumes = measure(), through() if through else {}
            rows = {
                row.id: {"class": row.class_name, "score": row.score, "status": row.status}
                | (measured.get(row.id) or {"area_px": row.value("area_px")})
                | self._named(volumes.get(row.id, {}), unit)
                for row in known
            }
            write_rows(path, rows)

        return job
