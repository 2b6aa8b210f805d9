"""Results of fine-tuning among the models to choose from, in both docks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt

from napari_pisam.docks.wording import printable
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QComboBox

CHECKPOINT_FILTER = "Checkpoints (*.safetensors *.pth *.pt);;All files (*)"


def add_file(models: QComboBox, path: str, title: str, about: str = "") -> None:
    """Put a checkpoint file before the last entry (which asks for one), and choose it."""
    place = models.findData(path)
    if place < 0:
        place = models.count() - 1
        _insert(models, place, path, title, about)
    models.setCurrentIndex(place)


def list_results(models: QComboBox, runs: Sequence[Any] | None = None) -> None:
    """Offer the results that are better than their base; what is chosen stays chosen.

    Parameters
    ----------
    models : QComboBox
        Whose last entry asks for a file.
    runs : sequence of RunSummary, optional
        Those in the user's folder by default.
    """
    if runs is None:
        from napari_pisam.learn.finetune.runs import list_runs

        runs = list_runs()
    blocker = QSignalBlocker(models)
    for run in runs:
        if run.weights is not None and models.findData(str(run.weights)) < 0:
            _insert(models, models.count() - 1, str(run.weights), run.name, run.verdict)
    for place in reversed(range(models.count())):
        path = models.itemData(place)
        is_gone = path and place != models.currentIndex() and not Path(str(path)).is_file()
        if is_gone:
            models.removeItem(place)
    blocker.unblock()


def _insert(models: QComboBox, place: int, path: str, title: str, about: str) -> None:
    models.insertItem(place, printable(title), path)
    models.setItemData(
        place, tip(f"{about}\n{path}" if about else path), Qt.ItemDataRole.ToolTipRole
    )
