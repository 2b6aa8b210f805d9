"""A bar that shows progress, or that something is going on, at hardly any cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QTimer
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

_AFTER, _STEP = 300, 500  # ms; each step has Qt put the whole window together
_STEPS = 5
# Seen on napari's dark and light ground; its themes are no palettes.
_TRACK, _PART = QColor(128, 128, 128, 50), QColor("#56b4e9")


class Strip(QWidget):
    """Shows how much is done, or a part that steps along while something is going on.

    In place of a `QProgressBar`, which draws itself before it returns: in a window with an OpenGL
    canvas the whole window is put together anew then, 30 ms and more without a graphics card, and
    60 times a second while it is animated.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(5)
        self._from = self._to = 0.0
        self._place = 0
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._step)

    @property
    def is_busy(self) -> bool:
        """Whether it shows that something is going on."""
        return self._timer.isActive()

    def show_busy(self, busy: bool) -> None:
        """Show that something is going on, once it takes longer than a click."""
        if busy and not self.is_busy:
            self._place = 0
            self._timer.start(_AFTER)
        elif not busy:
            self._timer.stop()
            self._fill(0.0, 0.0)

    def show_progress(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        self._timer.stop()
        self._fill(0.0, done / max(1, total))

    def _step(self) -> None:
        self._timer.setInterval(_STEP)
        self._fill(self._place / _STEPS, (self._place + 1) / _STEPS)
        self._place = (self._place + 1) % _STEPS

    def _fill(self, start: float, stop: float) -> None:
        if (start, stop) != (self._from, self._to):
            self._from, self._to = start, stop
            self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the track and the part of it that is filled."""
        painter = QPainter(self)
        width, height = float(self.width()), float(self.height())
        painter.fillRect(QRectF(0, 0, width, height), _TRACK)
        part = QRectF(self._from * width, 0, (self._to - self._from) * width, height)
        painter.fillRect(part, _PART)
        painter.end()
