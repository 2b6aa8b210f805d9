"""A sign in napari's activity dock that something is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

_SLOW = 700  # ms: encoding an image, but not a click


class BusyBar:
    """Shows in napari's activity dock that something is computed, once it takes a while.

    Parameters
    ----------
    parent : QObject
        Of the timer.
    title : str
        What the activity dock shows.
    """

    def __init__(self, parent: QObject, title: str) -> None:
        self._title = title
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
