"""Which model: those that need no file, results of fine-tuning, and checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFileDialog

from napari_pisam.docks.finetune.backend import TrainingBackend
from napari_pisam.docks.segment.loading import MODEL_NAMES
from napari_pisam.docks.wording import printable
from napari_pisam.widgets.parts import QuietCombo
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILE = "Checkpoint file…"
_FILTER = "Checkpoints (*.safetensors *.pth *.pt);;All files (*)"


class ModelCombo(QuietCombo):
    """A choice of a model; its last entry asks for a file.

    Attributes
    ----------
    chosen : Signal(str)
        Another model is chosen: its name, or a checkpoint file's path.
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.addItems([*MODEL_NAMES, _FILE])
        self.list_results()
        self._last = 0
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def choice(self) -> str:
        """The chosen model's name, or its checkpoint file's path."""
        return str(self.itemData(self._last) or self.itemText(self._last))

    def title(self, model: str) -> str:
        """Look up what a model is called here: a run's result as the run."""
        place = self.findData(model)
        return printable(Path(model).name) if place < 0 else self.itemText(place)

    def choose_file(self, path: str, title: str = "") -> None:
        """Add a checkpoint file, by its name unless a title is given, and choose it."""
        if self.findData(path) < 0:
            self._add(path, title or Path(path).name)
        self.setCurrentIndex(self.findData(path))

    def list_results(self, runs: Sequence[Any] | None = None) -> None:
        """Offer the results that are better than their base; what is chosen stays chosen.

        Parameters
        ----------
        runs : sequence of RunSummary, optional
            Those in the user's folder by default.
        """
        if runs is None:
            runs = TrainingBackend().list_runs()
        blocker = QSignalBlocker(self)
        for run in runs:
            if run.weights is not None and self.findData(str(run.weights)) < 0:
                self._add(str(run.weights), run.name, run.verdict)
        for place in reversed(range(self.count())):
            path = self.itemData(place)
            if path and place != self.currentIndex() and not Path(str(path)).is_file():
                self.removeItem(place)
        self._last = self.currentIndex()
        blocker.unblock()

    def _add(self, path: str, title: str, about: str = "") -> None:
        place = self.count() - 1
        self.insertItem(place, printable(title), path)
        text = f"{about}\n{path}" if about else path
        self.setItemData(place, tip(text), Qt.ItemDataRole.ToolTipRole)

    def _on_activated(self, place: int) -> None:
        if place != self.count() - 1:
            return
        path, _ = QFileDialog.getOpenFileName(self, "Open a checkpoint", "", _FILTER)
        if path:
            self.choose_file(path)
        else:
            self.setCurrentIndex(self._last)

    def _on_changed(self, place: int) -> None:
        if place != self.count() - 1:
            self._last = place
            self.chosen.emit(self.choice)
