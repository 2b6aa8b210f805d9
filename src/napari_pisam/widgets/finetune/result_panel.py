"""Whether a run made it better, and what to do with the result."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pisam.docks.finetune.texts import verdict_text
from napari_pisam.widgets.file_dialogs import ask_save_path
from napari_pisam.widgets.parts import button, row
from napari_pisam.widgets.text import PlainLabel

_FILTER = "Weights (*.safetensors)"


class ResultPanel(QWidget):
    """The verdict, *Use it*, *Export*, and the report.

    Attributes
    ----------
    use_requested : Signal()
        Take the result into *Segment*.
    export_requested : Signal(str)
        Copy the weights to a file.
    """

    use_requested = Signal()
    export_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.verdict = PlainLabel(is_selectable=True)
        self.use_button = button(
            "Use it",
            "Predict with the result in Segment from now on; boxes, clicks and labels stay",
            self.use_requested.emit,
        )
        self.use_button.setStyleSheet("QPushButton { font-weight: bold; padding: 5px; }")
        self.export_button = button(
            "Export…",
            "Copy the weights to a file (safetensors) that says where they come from",
            self._ask_for_file,
        )
        self.report_button = button("Report", "Open the run's report", self._open_report)
        self.folder_button = button(
            "Folder", "Open the run's folder: settings, log, weights", self._open_folder
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.verdict)
        layout.addWidget(
            row(self.use_button, self.export_button, self.report_button, self.folder_button)
        )
        self._report: Any = None
        self._folder: Any = None
        self.show_state(None, None)

    def show_state(self, state: Any, folder: Any, *, can_export: bool = True) -> None:
        """Show what is known of a run's result.

        Parameters
        ----------
        state : RunState or None
        folder : Path or None
            Of the run.
        can_export : bool
            False while something else is being done.
        """
        has_weights = state is not None and state.best_weights is not None
        text, is_final = verdict_text(state)
        self.verdict.setText(text)
        self.verdict.setStyleSheet("QLabel { font-weight: bold; }" if is_final else "")
        self.use_button.setEnabled(has_weights)
        self.export_button.setEnabled(has_weights and can_export)
        self._report = None if state is None else state.report
        self._folder = folder
        self.report_button.setEnabled(self._report is not None)
        self.folder_button.setEnabled(folder is not None)

    def _ask_for_file(self) -> None:
        path = ask_save_path(self, "Export the weights", _FILTER)
        if path:
            self.export_requested.emit(path)

    def _open_report(self) -> None:
        if self._report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._report)))

    def _open_folder(self) -> None:
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))
