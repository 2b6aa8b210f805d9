"""Saving unasked: what changed, where it belongs, and what an earlier run left. No Qt."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_pisam.docks.segment.files import Identities, level_of, take_snapshot
from napari_pisam.layers.images import image_source_of
from napari_pisam.session.autosave import Autosaves, Generation, autosave_folder
from napari_pisam.session.file_format import PackedMasks
from napari_pisam.session.identity import image_key, sampled_signature, stamp_of_layer
from napari_pisam.session.requests import failure_sentence
from napari_pisam.session.storage import save_planes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.segment.files import Snapshot
    from napari_pisam.docks.segment.planes import Planes
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.session import Execute


class AutosaveTarget:
    """The file that an image's sessions are saved to in this run.

    `number` and `begin_generation` are for the main thread, `write` and `find` for any.
    """

    def __init__(self, image: Any, autosaves: Autosaves) -> None:
        self.identities = Identities()
        self._autosaves = autosaves
        self._find_key = partial(
            image_key, level_of(image), str(image.name), stamp_of_layer(image.source.path)
        )
        self._key = ""
        self._path: Path | None = None
        self._lock = Lock()
        self._packed = PackedMasks()
        self._taken = self._written = 0
        self._generation = self._path_generation = 0

    def number(self) -> tuple[int, int]:
        """Count a snapshot: an older one is not written over a younger."""
        self._taken += 1
        return self._taken, self._generation

    def begin_generation(self) -> None:
        """Write to another file from now on: what was saved last stays."""
        self._generation += 1

    def write(self, snapshot: Snapshot, number: tuple[int, int]) -> None:
        """Write a snapshot, unless a younger one is written already."""
        taken, generation = number
        with self._lock:
            if taken <= self._written:
                return
            if self._path is None or generation != self._path_generation:
                self._path, self._path_generation = self._autosaves.new_path(self.key), generation
            self._autosaves.write(self._path, snapshot.content(), self._packed)
            self._written = taken

    def find(self, source: ImageSource | None) -> Generation | None:
        """Find what an earlier run, or another viewer, saved last of this image."""
        signatures = []
        if source is not None and self._autosaves.has_old_files:
            signatures.append(sampled_signature(source))
        with self._lock:
            key, own = self.key, self._path
        return self._autosaves.newest(key, but=own, signatures=signatures)

    @property
    def key(self) -> str:
        """The image's; may take as long as reading it takes."""
        if not self._key:
            self._key = self._find_key()
        return self._key


class SeriesTarget(AutosaveTarget):
    """A file of a series: the same in every run, and nothing to be offered.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, image: Any, autosaves: Autosaves, path: Path) -> None:
        super().__init__(image, autosaves)
        self.path = path

    def write(self, snapshot: Snapshot, number: tuple[int, int]) -> None:
        """Write a snapshot, unless a younger one is written already."""
        with self._lock:
            if number[0] > self._written:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                save_planes(self.path, snapshot.content(), self._packed)
                self._written = number[0]

    def find(self, source: ImageSource | None) -> Generation | None:
        """Find nothing: what was saved is there already."""
        return None


class Autosaver:
    """Saves every image whose sessions changed, whichever of them is displayed by then.

    Parameters
    ----------
    planes : Planes
        The sessions.
    write : Execute
        Runs a job in a thread for files and delivers on the main thread.
    wake : callable
        Called when there is something to save; `save` is to be called soon after.

    Attributes
    ----------
    offered : Signal()
        `offer` is another one.
    failed : Signal(str)
        A sentence for the user; once until saving works again.
    offer : Generation or None
        What was saved of the displayed image before this run worked on it.
    """

    offered = Signal()
    failed = Signal(str)

    def __init__(self, planes: Planes, write: Execute, wake: Callable[[], None]) -> None:
        self.offer: Generation | None = None
        self._planes, self._write, self._wake = planes, write, wake
        self._autosaves = Autosaves(autosave_folder())
        self._files: WeakKeyDictionary[Any, AutosaveTarget] = WeakKeyDictionary()
        # Keeps the images of which something is to be saved, also those that were taken away.
        self._dirty: dict[Any, set[ImagePlane]] = {}
        self._under_way: list[Callable[[], None]] = []
        self._looked_at: Any = None
        self._has_complained = False
        planes.changed.connect(self._on_changed)
        planes.switched.connect(self._on_switched)

    def file_of(self, image: Any) -> AutosaveTarget:
        """Return where an image's sessions are saved to."""
        if image not in self._files:
            self._files[image] = AutosaveTarget(image, self._autosaves)
        return self._files[image]

    def save_to(self, image: Any, path: Path) -> SeriesTarget:
        """Save an image's sessions to a file of its own from now on; those of before are gone."""
        self._dirty.pop(image, None)
        self._files[image] = target = SeriesTarget(image, self._autosaves, path)
        return target

    def _on_changed(self, image: Any, plane: ImagePlane) -> None:
        # An empty session must not replace anything.
        if any(session.has_content for session in self._planes.sessions[image].values()):
            self._dirty.setdefault(image, set()).add(plane)
            self._wake()

    def _jobs(self) -> list[tuple[Any, set[ImagePlane], Callable[[], None]]]:
        dirty, self._dirty = self._dirty, {}
        jobs: list[tuple[Any, set[ImagePlane], Callable[[], None]]] = []
        for image, changed in dirty.items():
            file = self.file_of(image)
            with suppress(ValueError):
                snapshot = take_snapshot(self._planes, image, file.identities)
                jobs.append((image, changed, partial(file.write, snapshot, file.number())))
        return jobs

    def save(self) -> None:
        """Save what changed, in the background."""
        for image, changed, job in self._jobs():
            self._under_way.append(job)
            self._write(
                job, partial(self._on_saved, job), partial(self._on_failed, job, image, changed)
            )

    def _on_saved(self, job: Callable[[], None], _result: object) -> None:
        self._under_way.remove(job)
        self._has_complained = False

    def _on_failed(
        self, job: Callable[[], None], image: Any, changed: set[ImagePlane], error: BaseException
    ) -> None:
        self._under_way.remove(job)
        # To be tried again: with the next change, and when the dock closes.
        self._dirty.setdefault(image, set()).update(changed)
        if not self._has_complained:
            self._has_complained = True
            self.failed.emit(failure_sentence(error, "Saving the session automatically"))

    def close(self) -> None:
        """Save what is not saved yet, now; waits for what is being written."""
        # The sessions may live on, with another dock.
        self._planes.changed.disconnect(self._on_changed)
        self._planes.switched.disconnect(self._on_switched)
        jobs = [*self._under_way, *(job for _, _, job in self._jobs())]
        self._under_way = []
        for job in jobs:
            # Nobody is left to be told.
            with suppress(ValueError, OSError):
                job()

    # -- what an earlier run left -------------------------------------------------------------

    def _on_switched(self) -> None:
        image = self._planes.image
        if image is self._looked_at:
            return
        self._looked_at, self.offer = image, None
        self.offered.emit()
        if image is not None:
            self.look()

    def look(self) -> None:
        """Find what there is to restore of the displayed image, in the background."""
        image, plane = self._planes.image, self._planes.plane
        if image is None:
            return
        source = None
        with suppress(ValueError):
            source = None if plane is None else image_source_of(image, plane).source
        self._write(
            partial(self.file_of(image).find, source), partial(self._on_found, image), _ignore
        )

    def _on_found(self, image: Any, found: Generation | None) -> None:
        if image is self._planes.image:
            self.offer = found
            self.offered.emit()


def _ignore(_error: BaseException) -> None:
    """Offer nothing: what cannot be read cannot be restored."""
