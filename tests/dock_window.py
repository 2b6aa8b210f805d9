"""A viewer with the Segment dock, and the hands that use it."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication

from fake_dock import ImagePredictor
from napari_pisam.docks.segment.loading import LoadedPredictor
from napari_pisam.widgets.segment import SegmentWidget

SHAPE = (120, 160)
BOX = (30.0, 40.0, 90.0, 110.0)


NAME = "Pi-SAM: Segment (napari-pisam)"


def by_script(viewer):
    """What a script does."""
    return viewer.window.add_dock_widget(SegmentWidget(viewer), name=NAME)


def by_menu(viewer):
    """What *Plugins > napari-pisam > Pi-SAM: Segment* does, in the real menu."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command("napari-pisam.segment").result()
    return viewer.window._wrapped_dock_widgets[NAME]


def by_plugin(viewer):
    """What a notebook does, and ``napari -w napari-pisam "Pi-SAM: Segment"``."""
    return viewer.window.add_plugin_dock_widget("napari-pisam", NAME[:15], tabify=True)[0]


def by_fine_tune(viewer):
    """What *Use it* in the other dock does."""
    from napari_pisam.widgets.finetune.segment_link import find_segment

    fine_tune = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Fine-tune")[1]
    find_segment(fine_tune._viewer, open_it=True)
    return viewer.window._wrapped_dock_widgets[NAME]


DOORS = {
    "script": by_script,
    "menu": by_menu,
    "add_plugin_dock_widget": by_plugin,
    "fine-tune": by_fine_tune,
}
"""The ways in to the dock."""


class Window:
    """A viewer with the dock, and hands."""

    def __init__(self, viewer, qtbot, load=None, door=by_script):
        self.viewer, self.qtbot = viewer, qtbot
        viewer.window.resize(1400, 920)
        self.predictor = ImagePredictor()
        self._load = load or self.fake_load
        self.open(door)

    def open(self, door=by_script):
        """Open the dock."""
        self.dock_widget = door(self.viewer)
        self.dock = self.dock_widget.widget()
        self.dock.loader._load = self._load
        self.settle()

    def fake_load(self, name, device, report, cancelled, *, may_download):
        return LoadedPredictor(self.predictor, name, "0" * 64, "cpu", 12_000_000)

    def settle(self):
        for _ in range(5):
            QApplication.processEvents()

    def until(self, condition, timeout=20_000):
        self.qtbot.waitUntil(condition, timeout=timeout)
        self.settle()

    def __getattr__(self, role):
        return self.dock.controller.workspace.choice[role]

    @property
    def session(self):
        return self.dock.controller.session

    @property
    def mask(self):
        current = self.session.current
        return None if current is None or current.stale else current.mask

    @property
    def table(self):
        """The texts of the object list, line by line, columns by their headings."""
        model = self.dock.object_list.table.model()
        columns = range(model.columnCount())
        names = [model.headerData(n, Qt.Orientation.Horizontal) for n in columns]
        return [
            {name: model.index(line, n).data() for n, name in zip(columns, names, strict=True)}
            for line in range(model.rowCount())
        ]

    def click_line(self, line, double=False, modifier=Qt.KeyboardModifier.NoModifier):
        """Click a line of the object list."""
        table = self.dock.object_list.table
        place = table.visualRect(table.model().index(line, 0)).center()
        press = self.qtbot.mouseDClick if double else self.qtbot.mouseClick
        press(table.viewport(), Qt.MouseButton.LeftButton, modifier, pos=place)
        self.settle()

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def place(self, row, col):
        """Where a pixel of the image, wherever that lies in the world, is on the canvas."""
        view = self.viewer.window._qt_viewer.canvas.view
        point = [0.0] * self.image.ndim
        point[-2:] = row, col
        down, across = self.image.data_to_world(point)[-2:]
        scene = view.scene.transform.map([across, down, 0, 1])
        x, y = scene[:2] / scene[3]
        return QPoint(round(x), round(y))

    def drag(self, start, stop):
        button = Qt.MouseButton.LeftButton
        first, last = self.place(*start), self.place(*stop)
        self.qtbot.mouseMove(self.canvas, first)
        self.qtbot.mousePress(self.canvas, button, pos=first)
        for part in (0.3, 0.6, 1.0):
            self.qtbot.mouseMove(self.canvas, first + (last - first) * part)
            self.settle()
        self.qtbot.mouseRelease(self.canvas, button, pos=last)
        self.settle()

    def draw(self, places):
        """Hold the button down from place to place, as a hand draws a line."""
        button, first = Qt.MouseButton.LeftButton, self.place(*places[0])
        self.qtbot.mouseMove(self.canvas, first)
        self.qtbot.mousePress(self.canvas, button, pos=first)
        for place in places[1:]:
            self.qtbot.mouseMove(self.canvas, self.place(*place))
            self.settle()
        self.qtbot.mouseRelease(self.canvas, button, pos=self.place(*places[-1]))
        self.settle()

    def click(self, row, col):
        self.qtbot.mouseMove(self.canvas, self.place(row, col))
        self.qtbot.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.place(row, col))
        self.settle()

    def press(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        self.qtbot.keyClick(self.canvas, key, modifier)
        self.settle()
