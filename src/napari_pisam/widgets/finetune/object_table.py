"""The table of objects; as quick with 70,000 of them as with seven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHeaderView, QTableView, QWidget

from napari_pisam.widgets.finetune.plot import TRAINING, VALIDATION

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("Image", "Object", "Area (px)", "Clicks", "Used for")
_TIPS = (
    "The image or slice that it is in",
    "Its label",
    "Number of pixels",
    "Your clicks that are known; objects corrected in Segment have some",
    "training: learned from; validation: never learned from, says whether training helped",
)
_WORDS = {"training": "training", "validation": "validation", "unused": "left out"}
_COLORS = {"training": QColor(TRAINING), "validation": QColor(VALIDATION)}
_SORT_ROLE = int(Qt.ItemDataRole.UserRole)


class _Model(QAbstractTableModel):
    """Rows as the table asks for them; nothing is made in advance."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: Sequence[Any] = ()

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
        row, column = self.rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == _SORT_ROLE:
            return (row.image, row.label, row.area, row.clicks, row.part)[column]
        if role == Qt.ItemDataRole.ForegroundRole and column == 4:
            return _COLORS.get(row.part)
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.note or (row.image if column == 0 else None)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in (1, 2, 3):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


def _text(row: Any, column: int) -> str:
    return (
        row.image,
        str(row.label),
        f"{row.area:,}",
        str(row.clicks) if row.clicks else "",
        _WORDS[row.part],
    )[column]


class ObjectTable(QTableView):
    """Objects that can be selected, many at once, and sorted.

    Attributes
    ----------
    picked : Signal(int)
        A line of the rows (not of the table as sorted) was double-clicked.
    """

    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model, self._sorted = _Model(), QSortFilterProxyModel()
        self._sorted.setSourceModel(self._model)
        self._sorted.setSortRole(_SORT_ROLE)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self._sorted.sort(-1)
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
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            for column, width in ((1, 52), (2, 72), (3, 50), (4, 78)):
                header.resizeSection(column, width)
        self.doubleClicked.connect(self._on_double)

    def show_rows(self, rows: Sequence[Any]) -> None:
        """Show objects; the selection stays where there are as many as before."""
        if len(rows) == len(self._model.rows):
            self._model.rows = list(rows)
            first, last = self._model.index(0, 0), self._model.index(len(rows) - 1, 4)
            if rows:
                self._model.dataChanged.emit(first, last)
            return
        self._model.beginResetModel()
        self._model.rows = list(rows)
        self._model.endResetModel()

    @property
    def selected(self) -> list[int]:
        """The lines of the rows that are selected."""
        selection = self.selectionModel()
        if selection is None:
            return []
        return sorted(self._sorted.mapToSource(i).row() for i in selection.selectedRows())

    def _on_double(self, index: QModelIndex) -> None:
        self.picked.emit(self._sorted.mapToSource(index).row())
