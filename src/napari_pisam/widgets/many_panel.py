"""*Segment all boxes*, with its progress and a way out."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pisam.widgets.parts import button
from napari_pisam.widgets.strip import Strip


class ManyPanel(QWidget):
    """One button that starts or cancels, and a progress bar.

    Attributes
    ----------
    start_requested, cancel_requested : Signal()
        The button was pressed.
    """

    start_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = button("", "", self._press)
        self.bar = Strip()
        self.bar.setToolTip("How many of the boxes are done")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.button)
        layout.addWidget(self.bar)
        self._running = False
        self.show_idle()

    def _press(self) -> None:
        (self.cancel_requested if self._running else self.start_requested).emit()

    def show_idle(self) -> None:
        """Show that nothing runs."""
        self._running = False
        self.bar.hide()
        self.button.setText("Segment all boxes")
        self.button.setToolTip(
            "Predict and commit every box that has no clicks, many at once; one undo takes all "
            "back. Turn Live off to draw many boxes first, or choose a layer that has them."
        )

    def show_progress(self, done: int, total: int) -> None:
        """Show how many of the boxes are done."""
        self._running = True
        self.bar.show_progress(done, total)
        self.bar.show()
        self.button.setText(f"Cancel  ({done} of {total} done)")
        self.button.setToolTip("Stop after the boxes that are being computed; what is done stays")
