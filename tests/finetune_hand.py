"""A viewer with the Fine-tune dock, and the hand that presses its buttons."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_pisam.widgets.finetune.dock import FineTuneWidget


class Hand:
    """Opens the dock in a viewer, presses what can be pressed, and waits for what comes of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    qtbot : pytestqt.qtbot.QtBot
    core : Core, optional
        What trains; the real one by default.
    timeout : int
        How long to wait unless told, ms.
    """

    def __init__(self, viewer, qtbot, core=None, timeout=20_000):
        self.viewer, self.qtbot, self.core, self.timeout = viewer, qtbot, core, timeout
        viewer.window.resize(1600, 1000)
        self.open()

    def open(self):
        self.dock = FineTuneWidget(self.viewer, self.core)
        self.viewer.window.add_dock_widget(self.dock, name="Pi-SAM: Fine-tune")
        self.settle()

    def settle(self):
        for _ in range(5):
            QApplication.processEvents()

    def until(self, condition, timeout=None):
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=timeout or self.timeout)
        self.settle()

    def press(self, button):
        assert button.isVisible(), button.text()
        assert button.isEnabled(), button.text()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        self.settle()

    def show(self, page):
        self.dock.tabs.setCurrentIndex(page)
        self.settle()

    @property
    def rows(self):
        return self.dock.controller.learning.rows

    @property
    def state(self):
        return self.dock.controller.runner.state

    @property
    def status(self):
        return None if self.state is None else self.state.status
