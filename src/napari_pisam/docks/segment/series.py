"""A series of images in the viewer, one at a time; nothing that was done on one is lost. No Qt."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_pisam.docks.segment.drawn import read_drawn
from napari_pisam.docks.segment.files import export_job, take_snapshot
from napari_pisam.docks.segment.series_images import LoadedImage, load_image, put_aside
from napari_pisam.layers.geometry import PlaneMap, plane_of
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.opened import add_picture, can_show_in, replace_labels, show_picture
from napari_pisam.layers.prompt_layers import is_own
from napari_pisam.session.requests import failure_sentence
from napari_pisam.session.series import Series, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.docks.segment.autosaver import Autosaver, SeriesTarget
    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.session.session import Execute, Session


@dataclass
class ShownImage:
    """What is shown of a series.

    Attributes
    ----------
    loaded : LoadedImage
    image, labels : napari layers
        Made for the series.
    target : SeriesTarget
        Where its sessions are saved.
    is_changed : bool
        Whether anything was done that the files do not have.
    """

    loaded: LoadedImage
    image: Any
    labels: Any
    target: SeriesTarget
    is_changed: bool = False

    @property
    def has_chosen_contrast(self) -> bool:
        """Whether the contrast is not the one that it came with."""
        given = self.loaded.picture.contrast_limits
        return not self.image.rgb and tuple(self.image.contrast_limits) != given


class SeriesWork:
    """Opens a series, goes through it, and saves each image that is left.

    Parameters
    ----------
    controller : SegmentController
        Of the dock.
    run : Execute
        Runs jobs in a thread for files, one after the other, and delivers on the main thread.
    autosaver : Autosaver
        Saves what is shown, too, while it is worked on.

    Attributes
    ----------
    changed : Signal()
        Another image, or another state.
    series : Series or None
    """

    changed = Signal()

    def __init__(self, controller: SegmentController, run: Execute, autosaver: Autosaver) -> None:
        self._controller, self._work = controller, controller.workspace
        self._run, self._autosaver = run, autosaver
        self.series: Series | None = None
        self._shown: ShownImage | None = None
        self._ahead: LoadedImage | None = None
        # Which image somebody waits for, which one is likely to be next, and what is being read.
        self._wanted: int | None = None
        self._aimed: int | None = None
        self._reading: set[int] = set()
        self._step = 1
        self._unsaved: dict[tuple[int, int], partial[None]] = {}
        self._work.planes.changed.connect(self._on_changed)
        self._take_up(controller.kept.series)

    def _take_up(self, shown: ShownImage | None) -> None:
        """Go on where the viewer's last dock was."""
        if shown is None or shown.image not in self._work.viewer.layers:
            return
        self.series, self._shown = shown.loaded.series, shown
        shown.target = self._autosaver.save_to(shown.image, shown.target.path)
        self._look_ahead()

    def close(self, *, viewer_stays: bool = False) -> None:
        """Save what is not saved yet, now.

        Parameters
        ----------
        viewer_stays : bool
            Whether its layers may still be touched.
        """
        self._work.planes.changed.disconnect(self._on_changed)
        self._save(viewer_stays=viewer_stays, is_later=False)
        for (_, place), job in list(self._unsaved.items()):
            try:
                job()
            except (ValueError, OSError) as error:
                self._on_unsaved(self._name(place), error)
        if self._ahead is not None:
            self._ahead.open_files.close()
        self._ahead = None
        self._controller.kept.series = self._shown
        self._wanted = self._aimed = None

    @property
    def is_reading(self) -> bool:
        """Whether an image is on its way."""
        return self._wanted is not None

    # -- commands -----------------------------------------------------------------------------

    def open(self, sources: Sequence[str | Path], labels: str | Path | None = None) -> None:
        """Open a series where one was; see `Series`."""
        self._run(lambda: Series(sources, labels), self._on_opened, self._fail)

    def _on_opened(self, series: Series) -> None:
        self._save()
        self._drop_ahead()
        self.series = series
        self.go(series.at)

    def move(self, step: int) -> None:
        """Go some images on, or back where `step` is below 0."""
        if self.series is not None:
            self._step = 1 if step >= 0 else -1
            self.go((self.series.at if self._wanted is None else self._wanted) + step)

    def finish(self) -> None:
        """Say that the image is done, and go to the next one."""
        self._mark(State.DONE)

    def skip(self) -> None:
        """Say that the image is left out, and go to the next one."""
        self._mark(State.SKIPPED)

    def _mark(self, state: State) -> None:
        series, shown = self.series, self._shown
        if series is None or shown is None or self._wanted is not None:
            return
        series.mark(series.at, state)
        # An image without any object has labels, too, once it is done.
        shown.is_changed |= state is State.DONE
        if series.at + 1 < len(series):
            self.move(1)
        else:
            self._save()
            self._work.hinted.emit(f"This is the last image. {series.summary}.")
            self.changed.emit()

    def go(self, place: int) -> None:
        """Show an image of the series."""
        series = self.series
        if series is None:
            return
        if not 0 <= place < len(series):
            self._work.hinted.emit(f"There is no image beyond this one. {series.summary}.")
            return
        self._wanted = place
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.place == place:
            self._show(ahead)
            return
        self._close_files(ahead)
        self._read(place)
        self.changed.emit()

    # -- reading ------------------------------------------------------------------------------

    def _read(self, place: int) -> None:
        series = self.series
        if series is None or place in self._reading:
            return
        self._reading.add(place)
        channels = self._work.planes.channels
        axis = channels.axis_of(self._shown.image) if self._shown else None

        def job() -> LoadedImage | None:
            if place not in (self._wanted, self._aimed) or series is not self.series:
                return None
            if (unsaved := self._unsaved.get((id(series), place))) is not None:
                unsaved()  # failed before: what is on the disk is older than what was done
            return load_image(series, place, axis)

        self._run(job, partial(self._on_read, series, place), partial(self._on_unread, place))

    def _on_read(self, series: Series, place: int, loaded: LoadedImage | None) -> None:
        self._reading.discard(place)
        if series is self.series and place == self._wanted:
            if loaded is None:
                self._read(place)
            else:
                self._show(loaded)
        elif series is self.series and place == self._aimed and loaded is not None:
            self._drop_ahead()
            self._ahead = loaded
            self._encode_ahead(loaded)
        else:
            self._close_files(loaded)

    def _on_unread(self, place: int, error: BaseException) -> None:
        self._reading.discard(place)
        series = self.series
        if place != self._wanted or series is None:
            return
        self._wanted = None
        if (id(series), place) in self._unsaved:
            self._fail(error)
            return
        if series.state(place) is State.UNTOUCHED:
            series.mark(place, State.SKIPPED)
        text = failure_sentence(error, f"Reading {series.images[place].name}")
        self._work.failed.emit(f"{text} It is left out.")
        if 0 <= place + self._step < len(series):
            self.go(place + self._step)
        else:
            self.changed.emit()

    def _look_ahead(self) -> None:
        if self.series is not None:
            self._aimed = self.series.at + self._step
            if 0 <= self._aimed < len(self.series):
                self._read(self._aimed)

    def _encode_ahead(self, loaded: LoadedImage) -> None:
        planes, shown, picture = self._work.planes, self._shown, loaded.picture
        if planes.plane is None or shown is None or planes.image is not shown.image:
            return
        if shown.has_chosen_contrast:
            picture = replace(picture, contrast_limits=tuple(shown.image.contrast_limits))
        index = [one for one in planes.plane.index if one is not None]
        with suppress(ValueError):
            plane = plane_of(picture, channel_axis=planes.plane.channel_axis, index=index)
            planes.encode_ahead(image_source_of(picture, plane).source)

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        self._close_files(ahead)

    def _close_files(self, loaded: LoadedImage | None) -> None:
        if loaded is not None:
            # After what is being written: a session's windows are read once more.
            self._run(loaded.open_files.close, _ignore, _ignore)

    # -- showing ------------------------------------------------------------------------------

    def _show(self, loaded: LoadedImage) -> None:
        self._wanted = None
        self._save()
        before = self._shown
        try:
            self._swap(loaded)
        except (ValueError, OSError, MemoryError) as error:
            self._fail(error)
        if before is not None:
            self._close_files(before.loaded)
        if self.series is not None:
            self.series.at = loaded.place
        for note in loaded.notes:
            self._work.failed.emit(note)
        self._look_ahead()
        self.changed.emit()

    def _swap(self, loaded: LoadedImage) -> None:
        """Put an image, its labels and its objects in the place of those that are shown."""
        work, picture = self._work, loaded.picture
        choice, planes, layers = work.choice, work.planes, work.viewer.layers
        before = self._shown
        with choice.paused():
            is_ours = before is not None and planes.image is before.image
            choice.choose("image", None)
            choice.choose("labels", None)
            if is_ours:
                self._clear_prompts()
            if before is not None:
                planes.forget(before.image)
            seen = (
                None if before is None else (before.loaded.picture.shape, tuple(before.image.scale))
            )
            if before is not None and before.image in layers and can_show_in(before.image, picture):
                image = before.image
                show_picture(image, picture, keep_contrast=before.has_chosen_contrast)
            else:
                if before is not None and before.image in layers:
                    layers.remove(before.image)
                image = add_picture(work.viewer, picture)
                if before is not None:
                    planes.channels.copy(image, before.image)
            target = self._autosaver.save_to(image, loaded.series.session_path(loaded.place))
            labels = self._show_labels(loaded, image)
            self._shown = ShownImage(loaded, image, labels, target)
            choice.choose("labels", labels)
            choice.choose("image", image)
        for plane, state in loaded.planes:
            session = planes.session_of(image, plane)
            rule = session.rule
            planes.attach_labels_to(plane, session)
            session.from_state(state)
            session.rule = rule
        self._name_prompts(image)
        if seen != (picture.shape, tuple(image.scale)):
            work.viewer.reset_view()
        # What was just put there is in the files.
        self._shown.is_changed = False

    def _show_labels(self, loaded: LoadedImage, image: Any) -> Any:
        work, name = self._work, f"{loaded.picture.name} labels"
        before = None if self._shown is None else self._shown.labels
        if before is not None and before in work.viewer.layers:
            if before.ndim == loaded.labels.ndim:
                replace_labels(before, loaded.labels, image, name)
                return before
            work.viewer.layers.remove(before)
        return work.add_labels(image, loaded.labels, name)

    def _clear_prompts(self) -> None:
        """Empty the dock's own prompt layers: the sessions have what is in them."""
        for role in ("boxes", "clicks"):
            layer = self._work.choice[role]
            if is_own(layer) and len(layer.data):
                layer.remove(list(range(len(layer.data))))

    def _name_prompts(self, image: Any) -> None:
        for role in ("boxes", "clicks"):
            layer = self._work.choice[role]
            if is_own(layer):
                layer.name = f"{image.name} {role}"

    # -- saving -------------------------------------------------------------------------------

    def _on_changed(self, image: Any, _plane: object) -> None:
        shown = self._shown
        if shown is None or image is not shown.image:
            return
        shown.is_changed = True
        series, place = shown.loaded.series, shown.loaded.place
        sessions = self._work.planes.sessions.get(image, {}).values()
        if series.state(place) is State.UNTOUCHED and any(one.has_content for one in sessions):
            series.mark(place, State.BEGUN)
            self.changed.emit()

    def _save(self, *, viewer_stays: bool = True, is_later: bool = True) -> None:
        """Save what is shown, in the background; or leave it to who closes the dock."""
        shown, work = self._shown, self._work
        if shown is None:
            return
        series, place = shown.loaded.series, shown.loaded.place
        if viewer_stays and work.planes.image is shown.image:
            work.sync.flush()
            self._controller.put_back()
            self._keep_waiting(shown.image)
        key = id(series), place
        job = self._unsaved.get(key)
        if shown.is_changed or job is None:
            # It has all that an older one has, which may not have been written yet.
            jobs = self._jobs(shown) if shown.is_changed else []
            self._unsaved[key] = job = partial(self._write, key, (*jobs, series.save))
        shown.is_changed = False
        if is_later:
            self._run(job, _ignore, partial(self._on_unsaved, self._name(place)))

    def _write(self, key: tuple[int, int], jobs: Sequence[Callable[[], object]]) -> None:
        job = self._unsaved.get(key)
        if job is not None and job.args[1] is jobs:
            for one in jobs:
                one()
            self._unsaved.pop(key, None)

    def _jobs(self, shown: ShownImage) -> list[Callable[[], object]]:
        series, place, planes = shown.loaded.series, shown.loaded.place, self._work.planes
        sessions = planes.sessions.get(shown.image, {})
        unused, shown.loaded.unused = shown.loaded.unused, []
        jobs: list[Callable[[], object]] = [partial(put_aside, path) for path in unused]
        path = series.labels_path(place)
        if any(session.has_content for session in sessions.values()):
            snapshot = take_snapshot(planes, shown.image, shown.target.identities)
            jobs.append(partial(shown.target.write, snapshot, shown.target.number()))
            if series.state(place) in (State.UNTOUCHED, State.SKIPPED):
                series.mark(place, State.BEGUN)
        else:
            jobs.append(partial(shown.target.path.unlink, missing_ok=True))
        is_shown = planes.image is shown.image
        labels = (self._work.choice["labels"] if is_shown else None) or shown.labels
        jobs.append(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        jobs.append(export_job(planes, labels, path))
        return jobs

    def _name(self, place: int) -> str:
        return "" if self._shown is None else self._shown.loaded.series.images[place].name

    def _on_unsaved(self, name: str, error: BaseException) -> None:
        text = failure_sentence(error, f"Saving {name}")
        self._work.failed.emit(f"{text} It is tried again when the dock or the image is opened.")

    def _keep_waiting(self, image: Any) -> None:
        """Make objects of the boxes that wait in our layer, in every plane: they are work, too."""
        work, shapes = self._work, self._work.choice["boxes"]
        plane, session = work.planes.plane, work.session
        if plane is None or session is None or not is_own(shapes):
            return
        while work.sync.waiting.boxes:
            count = len(work.sync.waiting.boxes)
            work.sync.adopt(session.first_id)
            if len(work.sync.waiting.boxes) == count:
                return
        if len(plane.shape) == 2 or not len(shapes.data):
            return
        owners = np.asarray(shapes.features["object"])
        rows = [row for row in range(len(shapes.data)) if not owners[row]]
        for row in rows:
            for index in PlaneMap(image, plane, shapes).planes(shapes.data[row][:1]):
                other = plane_of(
                    image, work.viewer.dims, channel_axis=plane.channel_axis, index=index
                )
                self._adopt(image, other, shapes, row)

    def _adopt(self, image: Any, plane: Any, shapes: Any, row: int) -> None:
        session: Session = self._work.planes.session_of(image, plane)
        number = max(one.first_id for one in self._work.planes.sessions[image].values())
        features = shapes.features.copy()
        features.loc[row, "object"] = number
        shapes.features = features
        drawn = read_drawn(image, plane, shapes, self._work.choice["clicks"]).objects
        if number in drawn:
            session.new_object(drawn[number].prompts(None), id=number)

    def _fail(self, error: BaseException) -> None:
        self._work.failed.emit(failure_sentence(error, "Opening the series"))


def _ignore(_value: object) -> None:
    """Say nothing: what matters is told by the job itself."""
