"""The objects with their scores and areas, and what can be done with the current one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_pisam.docks.segment.keys import KEYS
from napari_pisam.docks.segment.rows import LOW_SCORE
from napari_pisam.widgets.parts import button, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_pisam.docks.segment.rows import ListedObject

_COLUMNS = ("Object", "Score", "Area (px)", "Status")
_TIPS = (
    "The label that its pixels have or will get",
    "The network's own estimate of the overlap with the true object, 0 to 1",
    "Number of pixels of its mask",
    "committed: in the labels; preview: not yet; outdated: made from earlier prompts or by "
    "another model; "
    "erased: committed, but the labels have no pixel of it any more",
)
_LOW_TIP = f"The network's own estimate is below {LOW_SCORE}: have a look at this one"
_LOW_COLOR = "#d55e00"


class _Table(QTableWidget):
    """A table that leaves the dock's keys to the canvas."""

    removal_requested = Signal()
    moved_to = Signal(int)

    def sizeHint(self) -> QSize:
        """Ask for a few lines; more are taken where there is room."""
        return QSize(super().sizeHint().width(), 80)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take Delete and the arrows; the other keys are the viewer's."""
        if event is None:
            return
        key = event.key()
        if key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removal_requested.emit()
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Home, Qt.Key.Key_End):
            super().keyPressEvent(event)
            self.moved_to.emit(self.currentRow())
        else:
            event.ignore()


class ObjectList(QWidget):
    """The table of objects and the buttons for the current one.

    Attributes
    ----------
    shown : Signal(int)
        An object is to be looked at.
    picked : Signal(int)
        An object is to be corrected.
    commit_requested, next_requested, discard_requested, undo_requested, redo_requested,
    label_requested : Signal()
        A button was pressed.
    """

    shown = Signal(int)
    picked = Signal(int)
    commit_requested = Signal()
    next_requested = Signal()
    discard_requested = Signal()
    undo_requested = Signal()
    redo_requested = Signal()
    label_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.commit_button = button(
            "Commit, next",
            f"Write the preview into the labels and begin the next object [{KEYS['commit']}]",
            self.commit_requested.emit,
        )
        self.commit_button.setStyleSheet("QPushButton { font-weight: bold; padding: 5px; }")
        self.next_button = button(
            "Next",
            f"Begin another object; this one stays open in the list [{KEYS['next']}]",
            self.next_requested.emit,
        )
        self.discard_button = button(
            "Discard",
            f"Throw the current object away; undo brings it back [{KEYS['discard']}]",
            self.discard_requested.emit,
        )
        self.undo_button = button(
            "↶ Undo", f"Take the last step back [{KEYS['undo']}]", self.undo_requested.emit
        )
        self.redo_button = button(
            "↷ Redo", f"Do again what was undone [{KEYS['redo']}]", self.redo_requested.emit
        )
        self.label_button = button(
            "From label",
            "Correct the label that is selected in the Labels layer: it becomes the preview, "
            "and clicks change it",
            self.label_requested.emit,
        )
        self.table = self._make_table()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(row(self.commit_button, self.next_button, self.discard_button))
        layout.addWidget(row(self.undo_button, self.redo_button, self.label_button))
        layout.addWidget(self.table)
        self._rows: list[ListedObject] = []
        self._order = 0, False
        self._current: int | None = None

    def _make_table(self) -> _Table:
        table = _Table(0, len(_COLUMNS))
        table.setHorizontalHeaderLabels(_COLUMNS)
        for column, tip in enumerate(_TIPS):
            item = table.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(tip)
        table.setToolTip(
            "Click an object to see it in the middle; double-click it to correct it further; "
            "Delete removes it. Click a heading to sort."
        )
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        # For Delete and the arrows; no tab stop.
        table.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        table.setMinimumHeight(70)
        table.setShowGrid(False)
        vertical, header = table.verticalHeader(), table.horizontalHeader()
        if vertical is not None and header is not None:
            vertical.hide()
            vertical.setDefaultSectionSize(22)
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            header.setHighlightSections(False)
            header.setSectionsClickable(True)
            header.setSortIndicatorShown(True)
            header.setSortIndicator(0, Qt.SortOrder.AscendingOrder)
            header.sortIndicatorChanged.connect(self._sort)
        table.cellClicked.connect(lambda line, _column: self.shown.emit(self._rows[line].id))
        table.cellDoubleClicked.connect(lambda line, _column: self.picked.emit(self._rows[line].id))
        table.moved_to.connect(self._on_moved)
        table.removal_requested.connect(lambda: self.discard_requested.emit())
        return table

    def _on_moved(self, line: int) -> None:
        if 0 <= line < len(self._rows):
            self.shown.emit(self._rows[line].id)

    def _sort(self, column: int, order: Qt.SortOrder) -> None:
        self._order = column, order == Qt.SortOrder.DescendingOrder
        self.show_objects(self._rows, self._current)

    def show_objects(self, rows: Sequence[ListedObject], current: int | None) -> None:
        """Show the objects; only what differs from what is shown is drawn again.

        Parameters
        ----------
        rows : sequence of ListedObject
            In the order of the list.
        current : int or None
            The id of the current object.
        """
        column, is_reversed = self._order
        rows = sorted(rows, key=lambda one: one.sort_key(column), reverse=is_reversed)
        self._current = current
        blocker = QSignalBlocker(self.table)
        self.table.setUpdatesEnabled(False)
        self.table.setRowCount(len(rows))
        for line, new in enumerate(rows):
            if line >= len(self._rows) or self._rows[line] != new:
                self._show_row(line, new)
        self._rows = rows
        place = next((i for i, shown in enumerate(rows) if shown.id == current), -1)
        if place < 0:
            self.table.clearSelection()
        elif place not in {index.row() for index in self.table.selectedIndexes()}:
            self.table.selectRow(place)
            self.table.scrollToItem(self.table.item(place, 0))
        self.table.setUpdatesEnabled(True)
        blocker.unblock()

    def _show_row(self, line: int, shown: ListedObject) -> None:
        for column, text in enumerate(shown.cells):
            item = QTableWidgetItem(text)
            # Made whole before the table has it: each change then is looked at by the whole view.
            if column == 0:
                pixels = QPixmap(12, 12)
                pixels.fill(QColor.fromRgbF(*shown.color))
                item.setIcon(QIcon(pixels))
            elif column == 1 and shown.is_low:
                item.setForeground(QColor(_LOW_COLOR))
                item.setToolTip(_LOW_TIP)
            if column in (1, 2):
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(line, column, item)

    def show_possible(
        self, *, commit: bool, current: bool, undo: bool, redo: bool, label: bool
    ) -> None:
        """Enable what can be done now."""
        self.commit_button.setEnabled(commit)
        self.next_button.setEnabled(current)
        self.discard_button.setEnabled(current)
        self.undo_button.setEnabled(undo)
        self.redo_button.setEnabled(redo)
        self.label_button.setEnabled(label)
