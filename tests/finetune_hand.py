"""A viewer with the Fine-tune dock, and the hand that presses its buttons."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_pisam.widgets.finetune.dock import FineTuneWidget

NAME = "Pi-SAM: Fine-tune (napari-pisam)"


def by_script(viewer, backend=None):
    """What a script does."""
    return viewer.window.add_dock_widget(FineTuneWidget(viewer, backend), name=NAME)


def by_menu(viewer, backend=None):
    """What *Plugins > napari-pisam > Pi-SAM: Fine-tune* does, in the real menu."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command("napari-pisam.fine_tune").result()
    return viewer.window._wrapped_dock_widgets[NAME]


def by_plugin(viewer, backend=None):
    """What a notebook does, and ``napari -w napari-pisam "Pi-SAM: Fine-tune"``."""
    return viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Fine-tune")[0]


DOORS = {"script": by_script, "menu": by_menu, "add_plugin_dock_widget": by_plugin}
"""The ways in to the dock."""


class Hand:
    """Opens the dock in a viewer, presses what can be pressed, and waits for what comes of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    qtbot : pytestqt.qtbot.QtBot
    backend : TrainingBackend, optional
        What trains; the real one by default.
    timeout : int
        How long to wait unless told, ms.
    door : callable
        One of `DOORS`.
    """

    def __init__(self, viewer, qtbot, backend=None, timeout=20_000, door=by_script):
        self.viewer, self.qtbot, self.backend, self.timeout = viewer, qtbot, backend, timeout
        viewer.window.resize(1600, 1000)
        self.open(door)

    def open(self, door=by_script):
        self.docked = door(self.viewer, self.backend)
        self.dock = self.docked.widget()
        self.settle()

    def close(self):
        """Press the dock's X."""
        button = self.docked.title.close_button
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        self.dock = self.docked = None
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
