"""Which channels the network sees together: those of an axis in colours, or layers as drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QWidget

from napari_pisam.docks.segment.channels import axes_of_channels
from napari_pisam.docks.wording import printable
from napari_pisam.layers.composite import CHANNEL_COLORS
from napari_pisam.layers.geometry import spatial_shape
from napari_pisam.widgets.parts import QuietCombo
from napari_pisam.widgets.text import PlainLabel

if TYPE_CHECKING:
    from typing import Any

    from napari_pisam.docks.segment.channels import ChannelRow
    from napari_pisam.docks.segment.planes import Planes

_APART = "one at a time"


class ChannelPanel(QWidget):
    """A choice of the axis that holds channels, and a row for each channel."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._planes: Planes | None = None
        self._shown: tuple[object, ...] = ()
        self.axis = QuietCombo()
        self.axis.setToolTip("Which axis of the image holds channels that are seen together")
        self.axis.activated.connect(self._choose_axis)
        self._axis_label = QLabel("Channels in")
        self.note = PlainLabel()
        self.boxes: list[QCheckBox] = []
        self.colors: list[QComboBox | None] = []
        self._rows: list[ChannelRow] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)
        self._grid.addWidget(self._axis_label, 0, 0)
        self._grid.addWidget(self.axis, 0, 1)
        self._grid.addWidget(self.note, 1, 0, 1, 2)

    def show_channels(self, planes: Planes) -> bool:
        """Show what can be chosen for the displayed image; whether there is anything."""
        self._planes, image = planes, planes.image
        axes = [] if image is None else axes_of_channels(image)
        rows = [] if image is None else planes.channels.rows(image)
        chosen = None if image is None else planes.channels.axis_of(image)
        names = [_axis_name(image, axis) for axis in axes]
        shown = (*names, chosen, *rows)
        if shown != self._shown:
            self._shown = shown
            self._show_axes(axes, names, chosen)
            self._show_rows(rows)
        return bool(axes or rows)

    def _show_axes(self, axes: list[int], names: list[str], chosen: int | None) -> None:
        blocker = QSignalBlocker(self.axis)
        self.axis.clear()
        self.axis.addItem(_APART, None)
        for axis, name in zip(axes, names, strict=True):
            self.axis.addItem(name, axis)
        self.axis.setCurrentIndex(0 if chosen is None else axes.index(chosen) + 1)
        blocker.unblock()
        self.axis.setVisible(bool(axes))
        self._axis_label.setVisible(bool(axes))

    def _show_rows(self, rows: list[ChannelRow]) -> None:
        for old in (*self.boxes, *self.colors):
            if old is not None:
                self._grid.removeWidget(old)
                old.deleteLater()
        self.boxes, self.colors, self._rows = [], [], rows
        for line, row in enumerate(rows, start=2):
            box = QCheckBox(printable(row.name).replace("&", "&&"))
            box.setChecked(row.is_used)
            box.toggled.connect(lambda used, key=row.key: self._use(key, used))
            self._grid.addWidget(box, line, 0)
            self.boxes.append(box)
            self.colors.append(None if row.color is None else self._add_color(row, line))
        self.note.setVisible(bool(rows))
        self.note.setText(
            "Each in its colour, with a contrast of its own."
            if rows and rows[0].color is not None
            else "Seen as drawn: contrast, gamma, colormap, opacity, blending."
        )

    def _add_color(self, row: ChannelRow, line: int) -> QComboBox:
        combo = QuietCombo()
        combo.addItems(list(CHANNEL_COLORS))
        combo.setCurrentText(str(row.color))
        combo.setEnabled(row.is_used)
        combo.textActivated.connect(lambda color, key=row.key: self._color(key, color))
        self._grid.addWidget(combo, line, 1)
        return combo

    def _choose_axis(self, _place: int) -> None:
        if self._planes is not None and self._planes.image is not None:
            self._planes.channels.choose_axis(self._planes.image, self.axis.currentData())

    def _use(self, key: Any, used: bool) -> None:
        if self._planes is not None and self._planes.image is not None:
            # The last one stays, and is shown so.
            self._shown = ()
            self._planes.channels.use(self._planes.image, key, used)

    def _color(self, key: int, color: str) -> None:
        if self._planes is not None and self._planes.image is not None:
            self._planes.channels.color(self._planes.image, key, color)


def _axis_name(image: Any, axis: int) -> str:
    label = str(image.axis_labels[axis]) if hasattr(image, "axis_labels") else ""
    name = "" if label.startswith("axis") else f" {label}"
    return f"axis {axis}{name} ({spatial_shape(image)[axis]})"
