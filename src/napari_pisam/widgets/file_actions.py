"""Between the export panel, a thread for files and the session: saving, and saving unasked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_pisam.docks.segment import files
from napari_pisam.images.label_files import label_path
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.widgets.background import Background
    from napari_pisam.widgets.export_panel import ExportPanel

# Long enough not to write at every click, short enough to lose little.
_AUTOSAVE_AFTER = 2000  # ms


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
    parent : QWidget
        Of the timer.
    """

    def __init__(
        self,
        background: Background,
        panel: ExportPanel,
        controller: SegmentController,
        parent: QWidget,
    ) -> None:
        self._background, self._panel, self._work = background, panel, controller.workspace
        self._is_dirty = self._has_complained = False
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AUTOSAVE_AFTER)
        self._timer.timeout.connect(self.autosave)
        panel.labels_requested.connect(self.export)
        panel.session_requested.connect(self.save)
        panel.restore_requested.connect(lambda path: self.restore(Path(path)))
        panel.autosave_requested.connect(self.restore_autosave)
        self._work.changed.connect(self.refresh)
        self._work.objects_changed.connect(self._on_objects)

    def refresh(self) -> None:
        """Show what can be done."""
        session = self._work.session
        self._panel.show_possible(
            labels=self._work.choice["labels"] is not None,
            session=session is not None,
            autosave=session is not None and files.autosave_path(session).is_file(),
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
        self._write(job, f"Labels written to {target.name}", "Writing the labels")

    def save(self, path: str) -> None:
        """Write the session to a file."""
        try:
            job = files.saving_job(self._work.planes, _session_path(path))
        except ValueError as error:
            self._work.failed.emit(str(error))
            return
        self._write(job, f"Session saved to {Path(path).name}", "Saving the session")

    def _write(self, job: Callable[[], Any], done: str, what: str) -> None:
        self._background.write(
            job,
            lambda _result: self._work.hinted.emit(done),
            lambda error: self._work.failed.emit(failure_sentence(error, what)),
        )

    def restore(self, path: Path) -> None:
        """Go on with a saved session."""
        try:
            files.restore(self._work.planes, path)
        except (ValueError, OSError) as error:
            self._work.failed.emit(str(error))

    def restore_autosave(self) -> None:
        """Go on with what was saved last for this image."""
        if self._work.session is not None:
            self.restore(files.autosave_path(self._work.session))

    # -- saving unasked -----------------------------------------------------------------------

    def _on_objects(self) -> None:
        # An empty session must not replace the one that is to be restored.
        session = self._work.session
        if session is not None and (session.objects or session.can_undo):
            self._is_dirty = True
            self._timer.start()

    def _autosave_job(self) -> Callable[[], Any] | None:
        session = self._work.session
        if session is None or not self._is_dirty:
            return None
        self._is_dirty = False
        return files.saving_job(self._work.planes, files.autosave_path(session))

    def autosave(self) -> None:
        """Save the session if it changed, in the background."""
        with suppress(ValueError):
            job = self._autosave_job()
            if job is not None:
                self._background.write(job, self._on_saved, self._complain)

    def _on_saved(self, _path: Path) -> None:
        self._has_complained = False
        self.refresh()

    def _complain(self, error: BaseException) -> None:
        # To be tried again: with the next change, and when the dock closes.
        self._is_dirty = True
        if not self._has_complained:
            self._has_complained = True
            self._work.failed.emit(failure_sentence(error, "Saving the session automatically"))

    def close(self) -> None:
        """Save what is not saved yet, now."""
        # Nobody is left to be told.
        with suppress(ValueError, OSError):
            job = self._autosave_job()
            if job is not None:
                job()


def _session_path(path: str) -> Path:
    # What is behind the last point of "dose 0.5uM" is no ending.
    return Path(path if path.lower().endswith(".pisam") else f"{path}.pisam")
