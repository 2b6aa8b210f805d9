"""The list of classes: names, colours, and whether they are shown as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.session.classes import ClassList, ObjectClass, clean_name
from napari_pisam.widgets.parts import button, note

if TYPE_CHECKING:
    from collections.abc import Iterable


class _ClassRow(QWidget):
    """A class: its key, its name, its colour."""

    removed = Signal()

    def __init__(self, old: str, color: str) -> None:
        super().__init__()
        self.old, self.color = old, color
        self.key = QLabel()
        self.key.setMinimumWidth(44)
        self.name = QLineEdit(old)
        self.name.setPlaceholderText("Name of the class")
        self.color_button = QPushButton()
        self.color_button.setFixedWidth(36)
        self.color_button.setToolTip("Choose its colour")
        self.color_button.clicked.connect(self._ask_color)
        gone = button("✕", "Remove the class; its objects have none then", self.removed.emit)
        gone.setFixedWidth(28)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.key, self.name, self.color_button, gone):
            layout.addWidget(widget)
        self._show_color()

    def _show_color(self) -> None:
        self.color_button.setStyleSheet(f"QPushButton {{ background-color: {self.color}; }}")

    def _ask_color(self) -> None:
        chosen = QColorDialog.getColor(QColor(self.color), self)
        if chosen.isValid():
            self.color = chosen.name()
            self._show_color()


class ClassDialog(QDialog):
    """Asks which classes there are.

    Parameters
    ----------
    parent : QWidget
    classes : iterable of ObjectClass
        Those of now.
    has_layer : bool
        Whether they are shown as a layer.
    """

    def __init__(self, parent: QWidget, classes: Iterable[ObjectClass], has_layer: bool) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes")
        self.lines: list[_ClassRow] = []
        self.wanted: list[tuple[str, ObjectClass]] = []
        self._list = QVBoxLayout()
        self.add_button = button("Add a class", "The key is its place in the list", self.add)
        self.add_button.setAutoDefault(False)
        self.layer_check = QCheckBox("Show the classes as a layer of their own")
        self.layer_check.setChecked(has_layer)
        self.problem = note()
        ok = QDialogButtonBox.StandardButton.Ok
        buttons = QDialogButtonBox(ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addLayout(self._list)
        for widget in (self.add_button, self.layer_check, self.problem, buttons):
            layout.addWidget(widget)
        for one in classes:
            self._add(one.name, one.color)
        if not self.lines:
            self.add()
        self.setMinimumWidth(340)

    def add(self) -> None:
        """Add a line for another class."""
        palette = ClassList()
        palette.merge(ObjectClass(str(n), line.color) for n, line in enumerate(self.lines))
        palette.add(["new"])
        new = palette.get("new")
        self._add("", "#ffffff" if new is None else new.color)
        self.lines[-1].name.setFocus()

    def _add(self, name: str, color: str) -> None:
        line = _ClassRow(name, color)
        line.removed.connect(lambda: self._remove(line))
        self.lines.append(line)
        self._list.addWidget(line)
        self._number()

    def _remove(self, line: _ClassRow) -> None:
        self.lines.remove(line)
        self._list.removeWidget(line)
        line.deleteLater()
        self._number()

    def _number(self) -> None:
        for place, line in enumerate(self.lines, 1):
            line.key.setText(f"Alt+{place}" if place < 10 else "")

    def accept(self) -> None:
        """Close with what was chosen, unless a name cannot be."""
        try:
            self.wanted = [
                (line.old, ObjectClass(clean_name(line.name.text()), line.color))
                for line in self.lines
                if line.name.text().strip() or line.old
            ]
            ClassList().replace(new for _, new in self.wanted)
        except ValueError as error:
            self.problem.setText(str(error))
            return
        super().accept()
