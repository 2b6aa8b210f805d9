"""Between the export panel, a thread for files and the session: saving, and saving unasked."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_pisam.docks.segment import files
from napari_pisam.docks.segment.autosaver import Autosaver
from napari_pisam.docks.segment.disk_labels import finishing_job
from napari_pisam.docks.segment.opening import LabelOpener
from napari_pisam.docks.segment.restoring import Restorer
from napari_pisam.images.label_files import label_path
from napari_pisam.images.label_formats import FORMATS
from napari_pisam.session.autosave import describe
from napari_pisam.session.requests import failure_sentence
from napari_pisam.widgets.background import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.docks.segment.object_table import ObjectTable
    from napari_pisam.widgets.background import Background
    from napari_pisam.widgets.export_panel import ExportPanel

# Long enough not to write at every click, short enough to lose little.
_AUTOSAVE_AFTER = 1500  # ms


class FileActions:
    """Does what the export panel asks for.

    Parameters
    ----------
    background : Background
        Where files are written.
    panel : ExportPanel
        Which ones.
    controller : SegmentController
        Whose session.
    objects : ObjectTable
        Measures of the objects.
    parent : QWidget
        Of the timer.

    Attributes
    ----------
    autosaver : Autosaver
    """

    def __init__(
        self,
        background: Background,
        panel: ExportPanel,
        controller: SegmentController,
        objects: ObjectTable,
        parent: QWidget,
    ) -> None:
        self._objects = objects
        self._background, self._panel, self._work = background, panel, controller.workspace
        # What somebody asked for, and what to call it where it fails.
        self._under_way: dict[Future[Any], str] = {}
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AUTOSAVE_AFTER)
        self.autosaver = Autosaver(self._work.planes, background.write, self._wake)
        self._restorer = Restorer(self._work, background.write, self._before_restoring, self._soon)
        self._opener = LabelOpener(self._work, background.write)
        self._timer.timeout.connect(self.autosave)
        self.autosaver.failed.connect(self._work.failed.emit)
        self.autosaver.offered.connect(self._on_offer)
        panel.labels_requested.connect(self.export)
        panel.format_requested.connect(self.export_as)
        panel.opening_requested.connect(lambda path, way: self._opener.open(Path(path), way))
        panel.session_requested.connect(self.save)
        panel.restore_requested.connect(lambda path: self.restore(Path(path)))
        panel.autosave_requested.connect(self.restore_autosave)
        panel.disk_requested.connect(self.keep_on_disk)
        panel.disk_folder_chosen.connect(self._work.on_disk.choose_folder)
        panel.finish_requested.connect(self.finish)
        self._work.changed.connect(self.refresh)

    def refresh(self) -> None:
        """Show what can be done."""
        offer = self.autosaver.offer
        self._panel.show_possible(
            labels=self._work.choice["labels"] is not None,
            session=self._work.session is not None,
            autosave="" if offer is None else describe(offer),
        )

    def export(self, path: str) -> None:
        """Write the Labels layer as a TIFF."""
        layer = self._work.choice["labels"]
        if layer is None:
            return
        try:
            target = label_path(Path(path))
        except ValueError as error:
            self._work.failed.emit(str(error))
            return
        job = files.export_job(self._work.planes, layer, target)
        self.write(job, f"Labels written to {target.name}", "Writing the labels")

    def export_as(self, path: str, name: str) -> None:
        """Write the labels of the displayed slice in a format of `FORMATS`."""
        entry, target = FORMATS[name], Path(path)
        try:
            job = files.format_job(self._work.planes, entry, target, self._objects.measuring_job())
        except ValueError as error:
            self._work.failed.emit(str(error))
            return
        lost = f". Not in it: {entry.loses}" if entry.loses else ""
        self.write(job, f"Labels written to {target.name}{lost}", "Writing the labels")

    def keep_on_disk(self, path: str) -> None:
        """Commit to labels on disk from now on."""
        try:
            self._work.labels_on_disk(Path(path))
        except (ValueError, OSError) as error:
            self._work.failed.emit(str(error))

    def finish(self) -> None:
        """Write the pyramid of labels on disk."""
        objects = () if self._work.session is None else self._work.session.objects
        classes = {one.id: one.class_name for one in objects if one.class_name}
        try:
            job = finishing_job(self._work.choice["labels"], classes)
        except ValueError as error:
            self._work.failed.emit(str(error))
            return
        self.write(job, "The labels have a pyramid and colours now", "Writing the pyramid")

    def save(self, path: str) -> None:
        """Write the session, all planes of the image, to a file."""
        try:
            job = files.saving_job(self._work.planes, _session_path(path))
        except ValueError as error:
            self._work.failed.emit(str(error))
            return
        self.write(job, f"Session saved to {Path(path).name}", "Saving the session")

    def write(self, job: Callable[[], Any], done: str, what: str) -> None:
        """Write a file aside; say `done`, or that `what` failed."""
        if self._background.is_stopped:
            return
        future: Future[Any] = Future()
        self._under_way[future] = what

        def finish(_result: object) -> None:
            self._under_way.pop(future, None)
            if (error := future.exception()) is None:
                self._work.hinted.emit(done)
            else:
                self._work.failed.emit(failure_sentence(error, what))

        self._background.write(lambda: settle(future, job), finish, finish)

    def restore(self, path: Path) -> None:
        """Go on with a saved session; one step to undo."""
        self._restorer.restore(path)

    def restore_autosave(self) -> None:
        """Go on with what was saved last for this image."""
        if self.autosaver.offer is not None:
            self.restore(self.autosaver.offer.path)

    def _soon(self, call: Callable[[], None]) -> None:
        background = self._background
        QTimer.singleShot(0, lambda: None if background.is_stopped else call())

    def _before_restoring(self, image: Any) -> None:
        # What was done up to now is saved, and stays beside what comes.
        self.autosave()
        self.autosaver.file_of(image).begin_generation()

    # -- saving unasked -----------------------------------------------------------------------

    def _wake(self) -> None:
        # Not started anew by each change: whoever never rests would never be saved.
        if not self._timer.isActive():
            self._timer.start()

    def _on_offer(self) -> None:
        self.refresh()
        offer, session = self.autosaver.offer, self._work.session
        if offer is not None and session is not None and not session.has_content:
            self._work.hinted.emit(
                f"There is saved work on this image: Restore last ({describe(offer)}), under "
                "Files. It stays there if you begin anew."
            )

    def autosave(self) -> None:
        """Save what changed, in the background."""
        self.autosaver.save()

    def close(self) -> None:
        """Save what is not saved yet, now; waits for what is being written, and for what waits."""
        from napari.utils.notifications import show_warning

        for future, what in self._under_way.items():
            if (error := future.exception()) is not None:
                # The dock cannot say it any more.
                show_warning(failure_sentence(error, what))
        self._under_way.clear()
        self.autosaver.close()


def _session_path(path: str) -> Path:
    # What is behind the last point of "dose 0.5uM" is no ending.
    return Path(path if path.lower().endswith(".pisam") else f"{path}.pisam")
