"""The table of objects; as quick with 70,000 of them as with seven."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHeaderView, QTableView, QWidget

from napari_pisam.docks.wording import printable
from napari_pisam.widgets.finetune.plot import TRAINING, VALIDATION
from napari_pisam.widgets.text import tip

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("Image", "Object", "Area (px)", "Clicks", "Used for")
_SORTED_BY = ("image", "label", "area", "clicks", "part")
_TIPS = (
    "The image or slice that it is in",
    "Its label",
    "Number of pixels",
    "Your clicks that are known; objects corrected in Segment have some",
    "training: learned from; validation: never learned from, says whether training helped",
)
_WORDS = {"training": "training", "validation": "validation", "unused": "left out"}
_COLORS = {"training": QColor(TRAINING), "validation": QColor(VALIDATION)}


class _TrainingObjectsModel(QAbstractTableModel):
    """Rows as the table asks for them; nothing is made in advance."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []
        self.order: list[int] = []
        self._sorting = (-1, False)

    def set_rows(self, rows: Sequence[Any]) -> None:
        """Take other rows, sorted as the ones before."""
        self.rows = list(rows)
        self._put_in_order()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; in one go, where Qt's own way asks for every pair."""
        self.layoutAboutToBeChanged.emit()
        self._sorting = (column, order == Qt.SortOrder.DescendingOrder)
        self._put_in_order()
        self.layoutChanged.emit()

    def _put_in_order(self) -> None:
        column, is_reversed = self._sorting
        self.order = list(range(len(self.rows)))
        if column >= 0:
            key = list(map(attrgetter(_SORTED_BY[column]), self.rows))
            self.order.sort(key=key.__getitem__, reverse=is_reversed)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return _COLUMNS[section]
            if role == Qt.ItemDataRole.ToolTipRole:
                return _TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        row, column = self.rows[self.order[index.row()]], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == Qt.ItemDataRole.ForegroundRole and column == 4:
            return _COLORS.get(row.part)
        if role == Qt.ItemDataRole.ToolTipRole:
            return tip(row.note or (row.image if column == 0 else "")) or None
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (1, 2, 3):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


def _text(row: Any, column: int) -> str:
    return (
        printable(row.image),
        str(row.label),
        f"{row.area:,}",
        str(row.clicks) if row.clicks else "",
        _WORDS[row.part],
    )[column]


class ObjectTableView(QTableView):
    """Objects that can be selected, many at once, and sorted."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = _TrainingObjectsModel()
        self.setModel(self._model)
        header = self.horizontalHeader()
        if header is not None:
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.setSortingEnabled(True)
        self._model.layoutChanged.connect(self.clearSelection)
        self.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableView.SelectionMode.ExtendedSelection)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setMinimumHeight(120)
        vertical, header = self.verticalHeader(), self.horizontalHeader()
        if vertical is not None and header is not None:
            vertical.hide()
            vertical.setDefaultSectionSize(20)
            header.setHighlightSections(False)
            # Otherwise it asks every row whether it is selected before it paints a column's title.
            header.setSelectionModel(QItemSelectionModel(self._model, header))
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            for column, width in ((1, 52), (2, 72), (3, 50), (4, 78)):
                header.resizeSection(column, width)

    def show_rows(self, rows: Sequence[Any]) -> None:
        """Show objects; the selection stays where there are as many as before."""
        if len(rows) == len(self._model.rows):
            # In the order that they have: rows that jump away when they are changed are lost.
            self._model.rows = list(rows)
            first, last = self._model.index(0, 0), self._model.index(len(rows) - 1, 4)
            if rows:
                self._model.dataChanged.emit(first, last)
            return
        self._model.beginResetModel()
        self._model.set_rows(rows)
        self._model.endResetModel()

    @property
    def selected(self) -> list[int]:
        """The lines of the rows (not of the table as sorted) that are selected."""
        selection = self.selectionModel()
        if selection is None:
            return []
        # By ranges: asked for row by row, 70,000 would be felt.
        chosen = selection.selection()
        parts = [chosen[place] for place in range(len(chosen))]
        lines = {line for part in parts for line in range(part.top(), part.bottom() + 1)}
        return sorted(self._model.order[line] for line in lines)
