"""Which model: those that need no file, results of fine-tuning, and checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal

from napari_pisam.docks.model_choice import about_file, in_full, in_short, offered_models
from napari_pisam.docks.wording import printable
from napari_pisam.learn.finetune.runs import list_runs
from napari_pisam.widgets.file_dialogs import ask_open_path
from napari_pisam.widgets.parts import QuietCombo
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.weights.models import ModelRow

_FILE = "Checkpoint file…"
_FILTER = "Checkpoints (*.safetensors *.pth *.pt);;All files (*)"


class ModelCombo(QuietCombo):
    """A choice of a model; its last entry asks for a file.

    Attributes
    ----------
    chosen : Signal(str)
        Another model is chosen: its name, or a checkpoint file's path.
    rows : list of ModelRow
        What is known of the models that have a name.
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[ModelRow] = []
        self._last = 0
        self.addItem(_FILE)
        self.list_names()
        self.setCurrentIndex(0)
        self.list_results()
        self.activated.connect(self._on_activated)
        self.currentIndexChanged.connect(self._on_changed)

    @property
    def choice(self) -> str:
        """The chosen model's name, or its checkpoint file's path."""
        return str(self.itemData(self._last) or self.itemText(self._last))

    @property
    def about(self) -> str:
        """One line about the chosen model: its size, whether it is here, time, what it is for."""
        row = next((row for row in self.rows if row.name == self.choice), None)
        return about_file(self.choice) if row is None else in_short(row)

    @property
    def full_tip(self) -> str:
        """All that is known of the chosen model, as a tip."""
        return str(self.itemData(self._last, Qt.ItemDataRole.ToolTipRole) or "")

    def title(self, model: str) -> str:
        """Look up what a model is called here: a run's result as the run."""
        place = self.findData(model)
        return printable(Path(model).name) if place < 0 else self.itemText(place)

    def choose_file(self, path: str, title: str = "") -> None:
        """Add a checkpoint file, by its name unless a title is given, and choose it."""
        if self.findData(path) < 0:
            self._add(path, title or Path(path).name)
        self.setCurrentIndex(self.findData(path))

    def choose(self, model: str) -> None:
        """Choose a model by its name or its file, where it is still there."""
        if model in self._names():
            self.setCurrentIndex(self._names().index(model))
        elif model and Path(model).is_file():
            self.choose_file(model)

    def list_names(self) -> None:
        """List the models that have a name and what is known of each now; the choice stays."""
        blocker = QSignalBlocker(self)
        gone = {row.name for row in self.rows}
        self.rows = offered_models()
        for row in self.rows:
            gone.discard(row.name)
            names = self._names()
            if row.name not in names:
                self.insertItem(len(names), row.name)
            place = self._names().index(row.name)
            self.setItemData(place, tip(in_full(row)), Qt.ItemDataRole.ToolTipRole)
        for name in gone - {self.choice}:
            self.removeItem(self._names().index(name))
        self._last = self.currentIndex()
        blocker.unblock()

    def _names(self) -> list[str]:
        """Texts of the entries above the files, which a file may have for its title too."""
        places = range(self.count() - 1)
        return [self.itemText(place) for place in places if not self.itemData(place)]

    def showPopup(self) -> None:
        """Open the list, with what is known by now."""
        self.list_names()
        super().showPopup()

    def list_results(self, runs: Sequence[Any] | None = None) -> None:
        """Offer the results that are better than their base; what is chosen stays chosen.

        Parameters
        ----------
        runs : sequence of RunSummary, optional
            Those in the user's folder by default.
        """
        if runs is None:
            runs = list_runs()
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
        if path := ask_open_path(self, "Open a checkpoint", _FILTER):
            self.choose_file(path)
        else:
            self.setCurrentIndex(self._last)

    def _on_changed(self, place: int) -> None:
        if place != self.count() - 1:
            self._last = place
            self.chosen.emit(self.choice)
