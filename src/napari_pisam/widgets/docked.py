"""What both docks are to napari's window: they notice that they were closed, and share a place."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


class Docked(QWidget):
    """The content of a dock.

    The X of napari's docks takes the content out of its dock and says no more: neither
    `closeEvent` nor `destroyed` comes. The content would go on working, unseen.
    """

    left = Signal()
    """The dock was closed; the content will be deleted."""

    def changeEvent(self, event: QEvent | None) -> None:
        """Notice that it was put into a dock, or taken out of one."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange:
            # Not before napari has finished: moved into another dock, it is in none for a moment.
            QTimer.singleShot(0, self._on_moved)

    def _on_moved(self) -> None:
        if self.parent() is None:
            self.left.emit()
            self.deleteLater()
        else:
            self._share_place()

    def _share_place(self) -> None:
        """Become a tab of the other dock, which with half of the height each would be too low."""
        dock = self.parent()
        window = None if dock is None else dock.parent()
        if not isinstance(dock, QDockWidget) or not isinstance(window, QMainWindow):
            return
        area = window.dockWidgetArea(dock)
        for other in window.findChildren(QDockWidget):
            if other is dock or not isinstance(other.widget(), Docked) or other.isFloating():
                continue
            if window.dockWidgetArea(other) == area and not dock.isFloating():
                if dock not in window.tabifiedDockWidgets(other):
                    window.tabifyDockWidget(other, dock)
                dock.show()
                dock.raise_()
                return
