"""What happens when a dock is closed by its X.

napari only takes the widget out of its window then: there is no `closeEvent` and nothing is
destroyed, so that threads, timers and keys would go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QTimer

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


class DeletedWhenClosed(QObject):
    """Deletes a widget that napari took out of its dock; `QWidget.destroyed` tells the rest.

    Hiding a dock, moving it, and adding its widget to another dock at once delete nothing.

    Parameters
    ----------
    widget : QWidget
        That will be docked. It owns this object.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look, once napari is done, whether the widget is still in a window."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            self._timer.start(0)
        return super().eventFilter(watched, event)

    def _look(self) -> None:
        if self._widget.parent() is None:
            self._widget.hide()
            self._widget.deleteLater()
