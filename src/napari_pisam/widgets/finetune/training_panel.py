"""The page that is watched: which run, its curves, objects before and after, the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QVBoxLayout, QWidget

from napari_pisam.docks.wording import printable
from napari_pisam.widgets.finetune.curves_panel import CurvesPanel
from napari_pisam.widgets.finetune.object_pictures import ObjectPictures
from napari_pisam.widgets.finetune.result_panel import ResultPanel
from napari_pisam.widgets.parts import row, titled
from napari_pisam.widgets.text import PlainLabel, tip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NONE = "No run yet: Start makes one"


class TrainingPanel(QWidget):
    """Everything that a run shows.

    Attributes
    ----------
    run_chosen : Signal(object)
        The folder of an earlier run.
    """

    run_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.runs = QComboBox()
        self.runs.setToolTip(
            "The run that is shown. An earlier one can be looked at, used, and gone on with where "
            "it did not come to its end."
        )
        self.runs.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.runs.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.runs.activated.connect(self._on_activated)
        label = PlainLabel("Run", is_narrow=True)
        self.curves, self.pictures, self.result = CurvesPanel(), ObjectPictures(), ResultPanel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(5)
        layout.addWidget(row(label, self.runs))
        layout.addWidget(self.curves, stretch=1)
        # Before the pictures: in sight also in a window of 720 px.
        layout.addWidget(titled("Result", self.result))
        layout.addWidget(titled("Validation objects: base above, result below", self.pictures))

    def _on_activated(self, place: int) -> None:
        folder = self.runs.itemData(place)
        if folder is not None:
            self.run_chosen.emit(folder)

    def show_runs(self, runs: Sequence[Any], current: Path | None) -> None:
        """List the runs, the newest first, and show which one is looked at."""
        blocker = QSignalBlocker(self.runs)
        self.runs.clear()
        if current is None:
            self.runs.addItem("Choose an earlier run …" if runs else _NONE, None)
        for run in runs:
            text = run.name if run.finished else f"{run.name}, not finished"
            self.runs.addItem(printable(text), run.folder)
            place = self.runs.count() - 1
            self.runs.setItemData(place, tip(run.verdict), Qt.ItemDataRole.ToolTipRole)
            if run.folder == current:
                self.runs.setCurrentIndex(place)
        blocker.unblock()

    def show_state(self, state: Any, folder: Path | None, *, is_going: bool, is_busy: bool) -> None:
        """Show a run, or that there is none.

        Parameters
        ----------
        state : RunState or None
        folder : Path or None
        is_going : bool
            Whether it goes on; then no other run can be looked at.
        is_busy : bool
            Whether something is done in a worker.
        """
        self.runs.setEnabled(not is_going and not is_busy)
        self.curves.show_state(state)
        self.pictures.show_previews(() if state is None else state.previews)
        self.result.show_state(state, folder, can_export=not is_busy)
