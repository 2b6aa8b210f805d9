"""From layers, folders and the Segment dock into the table of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from psygnal import Signal

from napari_pisam.docks.finetune.texts import failure_text
from napari_pisam.docks.jobs import Activity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.finetune.backend import TrainingBackend
    from napari_pisam.docks.finetune.learning_set import LearningSet
    from napari_pisam.docks.jobs import Cancelled, Report, StartJob

NOTHING_COMMITTED = (
    "Nothing is committed in Segment yet. Correct some objects there and commit them, or add "
    "layers or folders."
)


class SegmentLink(Protocol):
    """What the dock asks of *Segment*, which may not be open."""

    def sessions(self) -> list[tuple[Any, Any, Any]]:
        """List (image layer, plane, session) of every plane that was worked on."""

    def use(self, weights: Path, device: str) -> bool:
        """Load another model, unless one is being loaded; prompts and labels stay."""


class Collector:
    """Fills a `LearningSet`; layers are looked at at once, labels are read in a worker.

    Parameters
    ----------
    learning : LearningSet
    start_job : StartJob
    backend : TrainingBackend

    Attributes
    ----------
    activity : Activity
        The reading of labels.
    failed, hinted : Signal(str)
        A sentence that the user has to see, or that is good to know.
    """

    failed = Signal(str)
    hinted = Signal(str)

    def __init__(
        self, learning: LearningSet, start_job: StartJob, backend: TrainingBackend
    ) -> None:
        self._learning, self._backend = learning, backend
        self._folders: dict[tuple[Path, Path], list[str]] = {}
        self.activity = Activity(start_job, failure_text)
        self.activity.failed.connect(self.failed.emit)

    def add_session(self, link: SegmentLink | None, *, is_asked: bool = True) -> None:
        """Take what was committed in *Segment*.

        Parameters
        ----------
        link : SegmentLink or None
        is_asked : bool
            Whether the user wants it, and is to be told where there is nothing.
        """
        from napari_pisam.layers.training import take_session

        images = []
        try:
            for image, plane, session in [] if link is None else link.sessions():
                source = take_session(image, plane, session)
                if source is not None:
                    images.append(source)
        except ValueError as error:
            self.failed.emit(str(error))
            return
        if images:
            self._read("Reading what was committed", lambda _cancelled: (images, []))
        elif is_asked:
            self.hinted.emit(NOTHING_COMMITTED)

    def add_layers(self, image: Any, labels: Any, dims: Any, *, all_slices: bool = False) -> None:
        """Take an image layer with the Labels layer that belongs to it."""
        from napari_pisam.layers.training import take_pair

        if image is None or labels is None:
            self.hinted.emit("Choose an image layer and the Labels layer that belongs to it.")
            return
        try:
            pair = take_pair(image, labels, dims, all_slices=all_slices)
        except ValueError as error:
            self.failed.emit(str(error))
            return
        self._read(f"Reading {labels.name}", lambda cancelled: (pair.sources(cancelled), []))

    def add_folders(self, images: Path, masks: Path) -> None:
        """Take a folder of images and one of masks of the same names."""
        folders = (images, masks)
        self._learning.remove(self._folders.pop(folders, []))

        def remember(names: list[str]) -> None:
            self._folders[folders] = names

        self._read(
            f"Reading {masks.name}",
            lambda _cancelled: self._backend.from_folders(images, masks),
            remember,
        )

    def _read(
        self,
        title: str,
        collect: Callable[[Cancelled], tuple[list[Any], list[str]]],
        remember: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        if self.activity.is_busy:
            self.hinted.emit("Other labels are being read. Wait for them.")
            return

        def job(_report: Report, cancelled: Cancelled) -> Any:
            found, notes = collect(cancelled)
            images = self._learning.names_for(found)
            rows = [] if cancelled() else self._backend.list_objects(images, cancelled)
            return None if cancelled() else (images, rows, notes)

        def done(result: Any) -> None:
            if result is None:
                return
            images, rows, notes = result
            remember([image.name for image in images])
            self._learning.add(images, rows)
            if notes:
                self.hinted.emit(" ".join(notes))

        self.activity.begin(title, job, done)
