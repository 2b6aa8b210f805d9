"""The objects as a table, and what can be done with the current one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QSignalBlocker,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QGuiApplication, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QVBoxLayout, QWidget

from napari_pisam.docks.segment.cleaning import STEPS
from napari_pisam.docks.segment.keys import KEYS
from napari_pisam.docks.segment.rows import FIRST_COLUMNS, KNOWN_COLUMNS, LOW_SCORE, as_text
from napari_pisam.docks.wording import printable
from napari_pisam.widgets.column_menu import ColumnMenu
from napari_pisam.widgets.file_dialogs import ask_save_path
from napari_pisam.widgets.parts import QuietCombo, button, menu_button, over, row
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QKeyEvent

    from napari_pisam.docks.segment.rows import Column, ListedObject
    from napari_pisam.session.classes import ObjectClass

_LOW_TIP = f"Its overlap is likely to be below {LOW_SCORE}: have a look at this one"
_LOW_COLOR = QColor("#d55e00")
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_TEXTS = ("id", "class", "status")
# With more columns than fit beside each other the table is scrolled.
_FITTING = 4
# Of columns that are scrolled, px.
_NARROW, _WIDE = 56, 96


class _ObjectListModel(QAbstractTableModel):
    """Rows and columns as the table shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[ListedObject] = []
        self.columns: list[Column] = []
        self.class_colors: dict[str, QColor] = {}

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Count the objects."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Count the columns."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        shown, key = self.rows[index.row()], self.columns[index.column()].key
        is_low = key == "score" and shown.is_low
        if role == Qt.ItemDataRole.DisplayRole:
            return shown.text(key)
        if role == Qt.ItemDataRole.DecorationRole and key == "id":
            return QColor.fromRgbF(*shown.color)
        if role == Qt.ItemDataRole.DecorationRole and key == "class":
            return self.class_colors.get(shown.class_name)
        if role == Qt.ItemDataRole.TextAlignmentRole and key not in _TEXTS:
            return _RIGHT
        if role == Qt.ItemDataRole.ForegroundRole and is_low:
            return _LOW_COLOR
        if role == Qt.ItemDataRole.ToolTipRole and is_low:
            return _LOW_TIP
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return a heading, or its tip."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        shown = {
            Qt.ItemDataRole.DisplayRole: self.columns[section].title,
            Qt.ItemDataRole.ToolTipRole: tip(self.columns[section].tip),
        }
        return shown.get(Qt.ItemDataRole(role))

    def show(self, rows: list[ListedObject], columns: list[Column]) -> bool:
        """Show other rows; whether it is another table than before, without any selection."""
        before, self.rows = self.rows, rows
        is_same = columns == self.columns and len(rows) == len(before)
        if not is_same or any(a.id != b.id for a, b in zip(before, rows, strict=True)):
            self.beginResetModel()
            self.columns = columns
            self.endResetModel()
            return True
        changed = [n for n, (a, b) in enumerate(zip(before, rows, strict=True)) if a is not b]
        if changed:
            last = self.columnCount() - 1
            self.dataChanged.emit(self.index(changed[0], 0), self.index(changed[-1], last))
        return False


class _ObjectListView(QTableView):
    """A table that leaves the dock's keys to the canvas."""

    removal_requested = Signal()
    copy_requested = Signal()
    moved_to = Signal(int)

    def sizeHint(self) -> QSize:
        """Ask for a few lines; more are taken where there is room."""
        return QSize(super().sizeHint().width(), 80)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take Delete, the arrows, copying and selecting all; the other keys are the viewer's."""
        if event is None:
            return
        key = event.key()
        if key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removal_requested.emit()
        elif key in (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Home, Qt.Key.Key_End):
            super().keyPressEvent(event)
            self.moved_to.emit(self.currentIndex().row())
        elif event.matches(QKeySequence.StandardKey.Copy):
            self.copy_requested.emit()
        elif event.matches(QKeySequence.StandardKey.SelectAll):
            self.selectAll()
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
    columns_chosen : Signal(object, bool)
        Keys of the columns to show, and whether lengths are in px.
    table_requested : Signal(str)
        The table is to be written to this file.
    class_chosen : Signal(str)
        The selected objects are of this class.
    classes_requested : Signal()
        The list of classes is to be edited.
    """

    shown = Signal(int)
    picked = Signal(int)
    commit_requested = Signal()
    next_requested = Signal()
    discard_requested = Signal()
    undo_requested = Signal()
    redo_requested = Signal()
    label_requested = Signal()
    clean_requested = Signal(str, object)
    columns_chosen = Signal(object, bool)
    table_requested = Signal(str)
    class_chosen = Signal(str)
    classes_requested = Signal()

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
        self.clean_button = menu_button(
            "Clean",
            "Tidy up the selected objects, or the current one; each is one step of undo",
            [(one.text, partial(self._ask_clean, one.name)) for one in STEPS],
        )
        self._all: list[ListedObject] = []
        self._order = "id", False
        self._current: int | None = None
        self.column_menu = ColumnMenu(self)
        self.column_menu.chosen.connect(self.columns_chosen.emit)
        self.columns_button = button(
            "Columns", "Which measures the table shows: size, shape, intensity"
        )
        self.columns_button.setMenu(self.column_menu)
        self.save_button = button("Save…", "Write the whole table as CSV", self._ask_table)
        self.class_combo = QuietCombo()
        self.class_combo.setToolTip("Class of the selected objects, and of those to come [Alt+1-9]")
        self.class_combo.activated.connect(self._on_class)
        self._classes: list[ObjectClass] | None = None
        self.table = self._make_table()
        self.show_classes([], "")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(row(self.commit_button, self.next_button, self.discard_button))
        layout.addWidget(
            row(self.undo_button, self.redo_button, self.label_button, self.clean_button)
        )
        layout.addWidget(self.table)
        self.empty = over(self.table, "No objects yet: draw a box around one, or click on it.")
        self.tools = row(self.class_combo, self.columns_button, self.save_button)
        layout.addWidget(self.tools)

    def _ask_clean(self, name: str) -> None:
        self.clean_requested.emit(name, self.selected)

    def _make_table(self) -> _ObjectListView:
        table, self._model = _ObjectListView(), _ObjectListModel()
        self._model.columns = [one for one in KNOWN_COLUMNS if one.key in FIRST_COLUMNS]
        table.setModel(self._model)
        table.setToolTip(
            "Click an object to see it in the middle; double-click it to correct it further; "
            "Delete removes it. Click a heading to sort, right-click it to choose columns. "
            "Ctrl+C copies the selected lines."
        )
        table.setEditTriggers(QTableView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableView.SelectionMode.ExtendedSelection)
        # For Delete and the arrows; no tab stop.
        table.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        table.setMinimumHeight(90)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        vertical, header = table.verticalHeader(), table.horizontalHeader()
        if vertical is not None and header is not None:
            vertical.hide()
            vertical.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
            vertical.setDefaultSectionSize(22)
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            header.setHighlightSections(False)
            header.setSectionsClickable(True)
            header.setSortIndicatorShown(True)
            header.setSortIndicator(0, Qt.SortOrder.AscendingOrder)
            header.sortIndicatorChanged.connect(self._sort)
            header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
            header.customContextMenuRequested.connect(
                lambda place: self.column_menu.popup(header.mapToGlobal(place))
            )
        table.clicked.connect(lambda index: self.shown.emit(self._model.rows[index.row()].id))
        table.doubleClicked.connect(
            lambda index: self.picked.emit(self._model.rows[index.row()].id)
        )
        table.moved_to.connect(self._on_moved)
        table.copy_requested.connect(self.copy)
        table.removal_requested.connect(lambda: self.discard_requested.emit())
        return table

    def _on_moved(self, line: int) -> None:
        if 0 <= line < len(self._model.rows):
            self.shown.emit(self._model.rows[line].id)

    def _sort(self, column: int, order: Qt.SortOrder) -> None:
        if 0 <= column < len(self._model.columns):
            key = self._model.columns[column].key
            self._order = key, order == Qt.SortOrder.DescendingOrder
            self.show_objects(self._all, self._current)

    @property
    def selected(self) -> list[int]:
        """The objects whose lines are selected, in their order."""
        model = self.table.selectionModel()
        lines = [] if model is None else sorted(index.row() for index in model.selectedRows())
        return [self._model.rows[line].id for line in lines]

    def copy(self) -> None:
        """Put the selected lines, or all, into the clipboard, as spreadsheets take them."""
        chosen = set(self.selected)
        rows = [one for one in self._model.rows if one.id in chosen] or self._model.rows
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(as_text(rows, self._model.columns))

    def _ask_table(self) -> None:
        if path := ask_save_path(self, "Save the table", "Table (*.csv)", "objects.csv"):
            self.table_requested.emit(path)

    def show_objects(
        self,
        rows: Sequence[ListedObject],
        current: int | None,
        columns: list[Column] | None = None,
    ) -> None:
        """Show the objects; only what differs from what is shown is drawn again.

        Parameters
        ----------
        rows : sequence of ListedObject
            In any order.
        current : int or None
            The id of the current object.
        columns : list of Column, optional
            The columns to show; those of before by default.
        """
        self._all, self._current = list(rows), current
        self.empty.setVisible(not self._all)
        wanted = self._model.columns if columns is None else columns
        key, is_reversed = self._order
        ordered = list(rows)
        if key != "id" or is_reversed:
            ordered.sort(key=lambda one: one.sort_key(key), reverse=is_reversed)
        selected = set(self.selected)
        has_other_columns = wanted != self._model.columns
        if self._model.show(ordered, wanted):
            self._select([n for n, one in enumerate(ordered) if one.id in selected])
        if has_other_columns:
            self._fit_columns()
        place = next((n for n, one in enumerate(ordered) if one.id == current), -1)
        if place < 0:
            self.table.clearSelection()
        elif ordered[place].id not in selected:
            self.table.selectRow(place)
            self.table.scrollTo(self._model.index(place, 0))

    def _select(self, lines: list[int]) -> None:
        model = self.table.selectionModel()
        flags = QItemSelectionModel.SelectionFlag
        if model is not None:
            for line in lines:
                model.select(self._model.index(line, 0), flags.Select | flags.Rows)

    def _fit_columns(self) -> None:
        """Give few columns the width that there is, and many what they need."""
        header, count = self.table.horizontalHeader(), self._model.columnCount()
        if header is None:
            return
        is_fitting = count <= _FITTING
        mode = QHeaderView.ResizeMode
        header.setSectionResizeMode(mode.Stretch if is_fitting else mode.Interactive)
        header.setStretchLastSection(not is_fitting)
        metrics = header.fontMetrics()
        for section in range(0 if is_fitting else count):
            column = self._model.columns[section]
            least = _WIDE if column.key in ("class", "status") else _NARROW
            header.resizeSection(section, max(least, metrics.horizontalAdvance(column.title) + 28))
        keys = [column.key for column in self._model.columns]
        blocker = QSignalBlocker(header)
        if self._order[0] in keys:
            descending = Qt.SortOrder.DescendingOrder
            order = descending if self._order[1] else Qt.SortOrder.AscendingOrder
            header.setSortIndicator(keys.index(self._order[0]), order)
        else:
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        blocker.unblock()

    def show_classes(self, classes: list[ObjectClass], chosen: str) -> None:
        """Offer classes; `chosen` is that of the current object, or of those to come."""
        if classes != self._classes:
            self._classes = list(classes)
            self._model.class_colors = {one.name: QColor(one.color) for one in classes}
            self.class_combo.clear()
            self.class_combo.addItem("No class", "")
            for one in classes:
                self.class_combo.addItem(printable(one.name), one.name)
                last = self.class_combo.count() - 1
                color = self._model.class_colors[one.name]
                self.class_combo.setItemData(last, color, Qt.ItemDataRole.DecorationRole)
            self.class_combo.insertSeparator(self.class_combo.count())
            self.class_combo.addItem("Edit classes…", None)
        self.class_combo.setCurrentIndex(max(0, self.class_combo.findData(chosen)))

    def _on_class(self, place: int) -> None:
        name = self.class_combo.itemData(place)
        if name is None:
            self.class_combo.setCurrentIndex(0)
            self.classes_requested.emit()
        else:
            self.class_chosen.emit(name)

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
        self.save_button.setEnabled(bool(self._all))
