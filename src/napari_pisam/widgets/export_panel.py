"""Write the labels and the session to files, and bring a session back."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pisam.widgets.file_dialogs import ask_open_path, ask_save_path
from napari_pisam.widgets.parts import button, row


class ExportPanel(QWidget):
    """Buttons that ask for a file.

    Attributes
    ----------
    labels_requested, session_requested, restore_requested : Signal(str)
        A file was chosen to write labels to, to write a session to, or to read one from.
    autosave_requested : Signal()
        The session that was saved last without being asked is wanted back.
    """

    labels_requested = Signal(str)
    session_requested = Signal(str)
    restore_requested = Signal(str)
    autosave_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.labels_button = button(
            "Labels as TIFF…",
            "Write the Labels layer as a compressed TIFF; model, image and objects stand in its "
            "description",
            self._ask_labels,
        )
        self.session_button = button(
            "Save session…",
            "Write prompts, masks, object numbers and the model's name to one file, to go on "
            "later or to replay it from the command line",
            self._ask_session,
        )
        self.restore_button = button(
            "Open session…", "Go on with a saved session on this image", self._ask_restore
        )
        self.autosave_button = button(
            "Restore last",
            "Bring back what was saved automatically for this image, for example after a crash",
            self.autosave_requested.emit,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(row(self.labels_button, self.session_button))
        layout.addWidget(row(self.restore_button, self.autosave_button))

    def show_possible(self, *, labels: bool, session: bool, autosave: str) -> None:
        """Enable what can be done now; `autosave` says what was saved last, "" for nothing."""
        self.labels_button.setEnabled(labels)
        self.session_button.setEnabled(session)
        self.restore_button.setEnabled(session)
        self.autosave_button.setEnabled(session and bool(autosave))
        self.autosave_button.setText(f"Restore last ({autosave})" if autosave else "Restore last")

    def _ask_labels(self) -> None:
        if path := ask_save_path(self, "Write the labels", "TIFF (*.tif *.tiff)", "labels.tif"):
            self.labels_requested.emit(path)

    def _ask_session(self) -> None:
        kinds = "Pi-SAM session (*.pisam)"
        if path := ask_save_path(self, "Save the session", kinds, "session.pisam"):
            self.session_requested.emit(path)

    def _ask_restore(self) -> None:
        kinds = "Pi-SAM session (*.pisam);;All files (*)"
        if path := ask_open_path(self, "Open a session", kinds):
            self.restore_requested.emit(path)
