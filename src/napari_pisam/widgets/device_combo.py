"""Where to compute: a device of this computer, or workers."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QInputDialog, QLineEdit, QSizePolicy, QWidget

from napari_pisam.docks.segment.loading import DEVICES
from napari_pisam.predict.workers import is_scheduler

WORKERS = "workers…"


class DeviceCombo(QComboBox):
    """A choice of a device; the last entry asks for workers, which become an entry of their own."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItems([*DEVICES, WORKERS])
        self.setToolTip(
            "Where to compute: auto takes a GPU where there is one; workers are processes on this "
            "computer (local:2) or those of a dask scheduler, such as a workstation with a GPU"
        )
        # An address is longer than a device: it must not take the room of the model.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._before = self.currentText()
        self.currentTextChanged.connect(self._note)
        self.activated.connect(lambda _place: self._ask())

    @property
    def choice(self) -> str:
        """A device, or the address of a scheduler."""
        return self._before

    def choose(self, text: str) -> None:
        """Choose a device or workers; what is neither is ``auto``."""
        if is_scheduler(text) and self.findText(text) < 0:
            self.insertItem(self.count() - 1, text)
        self.setCurrentIndex(max(0, self.findText(text)))

    def _note(self, text: str) -> None:
        if text != WORKERS:
            self._before = text

    def _ask(self) -> None:
        if self.currentText() != WORKERS:
            return
        known = [self.itemText(place) for place in range(self.count())]
        last = next((text for text in reversed(known) if is_scheduler(text)), "local:2")
        text, _ = QInputDialog.getText(
            self,
            "Compute on workers",
            "local:2 for two processes on this computer, or the address of a dask scheduler, such "
            "as tcp://gpu-box:8786.\nIts workers compute all that it is asked: use one that you "
            "trust.",
            QLineEdit.EchoMode.Normal,
            last,
        )
        text = text.strip()
        self.choose(text if is_scheduler(text) else self._before)
