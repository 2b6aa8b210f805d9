"""The menu of a table's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu

from napari_pisam.docks.segment.rows import FIRST_COLUMNS
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QAction, QMouseEvent
    from qtpy.QtWidgets import QWidget

    from napari_pisam.docks.segment.rows import Column


class ColumnMenu(QMenu):
    """Columns to be switched on and off; stays open meanwhile.

    Attributes
    ----------
    chosen : Signal(object, bool)
        Keys of the columns to show, and whether lengths are in px.
    """

    chosen = Signal(object, bool)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._columns: list[Column] = []
        self._shown: tuple[str, ...] = ()
        self._in_pixels = self._has_unit = False
        self._switches: dict[str, QAction] = {}
        self.setToolTipsVisible(True)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Switch a column without closing the menu."""
        action = self.activeAction()
        if action is not None and action.isCheckable():
            action.trigger()
        else:
            super().mouseReleaseEvent(event)

    def show_columns(
        self, columns: Sequence[Column], shown: Sequence[str], *, in_pixels: bool, unit: str
    ) -> None:
        """Offer columns; `unit` is that of the layer's lengths."""
        has_unit = unit != "px" or in_pixels
        if (list(columns), has_unit) != (self._columns, self._has_unit):
            self._columns, self._has_unit = list(columns), has_unit
            self._fill()
        self._shown, self._in_pixels = tuple(shown), in_pixels
        for key, action in self._switches.items():
            action.setChecked(key in shown if key else in_pixels)

    def _fill(self) -> None:
        self.clear()
        self._switches.clear()
        for column in self._columns:
            self._add(column.title, column.tip, column.key)
        self.addSeparator()
        everything = self.addAction("All of them")
        usual = self.addAction("The first ones only")
        if everything is not None and usual is not None:
            everything.triggered.connect(lambda: self._choose([one.key for one in self._columns]))
            usual.triggered.connect(lambda: self._choose(()))
        if self._has_unit:
            self.addSeparator()
            self._add("Lengths in pixels", "Instead of the layer's unit", "")

    def _add(self, text: str, meaning: str, key: str) -> None:
        action = self.addAction(text.replace("&", "&&"))
        if action is not None:
            action.setCheckable(True)
            action.setToolTip(tip(meaning))
            self._switches[key] = action
            action.triggered.connect(lambda is_on: self._switch(key, is_on))

    def _switch(self, key: str, is_on: bool) -> None:
        if not key:
            self.chosen.emit(self._shown, is_on)
        elif is_on:
            self._choose([*self._shown, key])
        else:
            self._choose([one for one in self._shown if one != key])

    def _choose(self, keys: Sequence[str]) -> None:
        self.chosen.emit(tuple(keys) or FIRST_COLUMNS, self._in_pixels)
