"""Which model computes where: choose, load, cancel, and what is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.docks.model_choice import advice
from napari_pisam.docks.wording import memory_text
from napari_pisam.widgets.device_combo import DeviceCombo
from napari_pisam.widgets.model_combo import ModelCombo
from napari_pisam.widgets.parts import button, row
from napari_pisam.widgets.text import PlainLabel, tip

if TYPE_CHECKING:
    from napari_pisam.images.kinds import ImageKind


class ModelPanel(QWidget):
    """The model's name or file, the device, and a button that loads or cancels.

    Attributes
    ----------
    load_requested : Signal(str, str)
        A variant's name or a file's path, and a device or a scheduler.
    cancel_requested : Signal()
        Loading is to be given up.
    """

    load_requested = Signal(str, str)
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.models = ModelCombo()
        self.models.setToolTip(
            "tiny is inside the package; the other models that have a name are downloaded once, on "
            "Load, from their authors' addresses; a fine-tuned model is a checkpoint file. What "
            "each is good for is in its tip in the list"
        )
        self.devices = DeviceCombo()
        self.button = button("Load", "", self._press)
        self.about, self.advice = PlainLabel(), PlainLabel()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = QProgressBar()
        self.bar.setMaximumHeight(12)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(row(self.models, self.devices, self.button))
        layout.addWidget(self.about)
        layout.addWidget(self.advice)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self._is_loading = False
        self._kind: ImageKind | None = None
        self.models.chosen.connect(lambda _model: self._show_choice())
        self.show_idle("Not loaded yet. The first box or click loads it.")
        self._show_choice()

    @property
    def choice(self) -> tuple[str, str]:
        """(variant's name or file's path, device or scheduler)."""
        return self.models.choice, self.devices.choice

    def _press(self) -> None:
        if self._is_loading:
            self.cancel_requested.emit()
        else:
            self.load_requested.emit(*self.choice)

    def show_idle(self, text: str) -> None:
        """Show that nothing is being loaded, and a sentence."""
        if self._is_loading:
            # What was downloaded is here now.
            self.models.list_names()
            self._show_choice()
        self._set_loading(False)
        self.status.setText(text)

    def show_kind(self, kind: ImageKind | None) -> None:
        """Advise for another kind of image."""
        if kind != self._kind:
            self._kind = kind
            self._show_choice()

    def _show_choice(self) -> None:
        self.about.setText(self.models.about)
        self.about.setToolTip(self.models.full_tip)
        text = advice(self._kind, self.models.rows, self.models.choice)
        self.advice.setText(text)
        self.advice.setToolTip(tip(f"{text} A guess; nothing is downloaded before you press Load."))
        self.advice.setVisible(bool(text))

    def show_loading(self, name: str) -> None:
        """Show that a model is being loaded."""
        self._set_loading(True)
        self.status.setText(f"Loading {self.models.title(name)} …")

    def show_progress(self, done: int, total: int | None) -> None:
        """Show how much of a download has arrived, bytes."""
        if not self._is_loading:
            return
        # Qt counts in 32 bits; a model has more bytes than that.
        self.bar.setRange(0, 0 if total is None else max(1, total >> 10))
        self.bar.setValue(done >> 10)
        whole = "" if total is None else f" of {memory_text(total)}"
        self.status.setText(f"Downloading: {memory_text(done)}{whole}")

    def _set_loading(self, loading: bool) -> None:
        self._is_loading = loading
        self.bar.setRange(0, 0)
        self.bar.setVisible(loading)
        self.models.setEnabled(not loading)
        self.devices.setEnabled(not loading)
        self.button.setText("Cancel" if loading else "Load")
        self.button.setToolTip(
            "Stop loading; what has been downloaded is kept"
            if loading
            else "Load this model now (and download it if need be). Boxes, clicks and labels stay."
        )
