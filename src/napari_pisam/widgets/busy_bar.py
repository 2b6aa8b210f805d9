"""A sign in napari's activity dock that something is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

_SLOW = 700  # ms: encoding an image, but not a click
_SPEED = 10  # percent


class BusyBar:
    """Shows in napari's activity dock that something is computed, once it takes a while.

    Parameters
    ----------
    parent : QWidget
        Of the timer, in napari's window.
    title : str
        What the activity dock shows.
    """

    def __init__(self, parent: QWidget, title: str) -> None:
        self._title, self._parent = title, parent
        self._bar: Any = None
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SLOW)
        self._timer.timeout.connect(self._open)

    def show(self, busy: bool) -> None:
        """Begin or end."""
        if busy:
            self._timer.start()
            return
        self._timer.stop()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self) -> None:
        from napari.utils import progress

        if self._bar is None:
            self._bar = progress(total=0, desc=self._title)
            slow_spinners(self._parent)


def slow_spinners(widget: QWidget) -> None:
    """Let the small animations of a window, napari's sign of activity, turn once in a while.

    At full speed each picture draws the window with its canvas anew; without a graphics card that
    takes from the prediction a third of its time.
    """
    for label in (widget.window() or widget).findChildren(QLabel):
        movie = label.movie()
        if movie is not None:
            movie.setSpeed(_SPEED)
