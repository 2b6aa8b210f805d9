"""Small Qt helpers that the panels share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.widgets.text import PlainLabel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtGui import QWheelEvent

Entries: TypeAlias = "Sequence[tuple[str, Callable[[], object] | Entries]]"
"""Of a menu."""


def button(text: str, tip: str, clicked: Callable[[], object] | None = None) -> QPushButton:
    """Make a push button that a click leaves without the keyboard; Tab reaches it."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    if clicked is not None:
        made.clicked.connect(lambda: clicked())
    return made


def note(text: str = "") -> PlainLabel:
    """Make a line of smaller text that wraps."""
    made = PlainLabel(text)
    made.setStyleSheet("QLabel { font-size: 11px; color: #a0a0a0; }")
    return made


def switch(text: str, tip: str) -> QToolButton:
    """Make a button that stays pressed."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setCheckable(True)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made


def menu_button(text: str, tip: str, entries: Entries) -> QPushButton:
    """Make a button that opens a menu: texts, and what each of them does, or a menu of its own."""
    made = button(text, tip)
    menu = QMenu(made)
    _fill(menu, entries)
    made.setMenu(menu)
    return made


def _fill(menu: QMenu, entries: Entries) -> None:
    for text, action in entries:
        if not callable(action):
            inner = menu.addMenu(text)
            if inner is not None:
                _fill(inner, action)
        elif (chosen := menu.addAction(text)) is not None:
            chosen.triggered.connect(lambda _checked=False, action=action: action())


def over(view: QAbstractScrollArea, text: str) -> QLabel:
    """Lay a sentence over a list that is empty; whoever fills the list hides it."""
    made = QLabel(text)
    made.setWordWrap(True)
    made.setAlignment(Qt.AlignmentFlag.AlignCenter)
    made.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    layout = QVBoxLayout(view.viewport())
    layout.addWidget(made)
    return made


def row(*widgets: QWidget) -> QWidget:
    """Put widgets beside each other, all as wide as they can be."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    return made


class Section(QWidget):
    """A panel under a heading that folds it away; folded at first.

    In place of superqt's `QCollapsible`, which gives a panel the height that it would have in a
    wide dock: in a narrow one, where texts take more lines, its end is cut off.

    Parameters
    ----------
    title : str
    content : QWidget
    tip : str
        Of the heading.
    """

    def __init__(self, title: str, content: QWidget, tip: str) -> None:
        super().__init__()
        self._title, self._content = title, content
        self._heading = QPushButton()
        self._heading.setCheckable(True)
        self._heading.setToolTip(tip)
        self._heading.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._heading.setStyleSheet("text-align: left; border: none; outline: none;")
        self._heading.toggled.connect(self._show)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._heading)
        layout.addWidget(content)
        self._show(False)

    def expand(self) -> None:
        """Show the panel."""
        self._heading.setChecked(True)

    def _show(self, is_open: bool) -> None:
        self._heading.setText(f"{'▾' if is_open else '▸'} {self._title}")
        self._content.setVisible(is_open)


def titled(title: str, *panels: QWidget) -> QGroupBox:
    """Put panels below each other in a frame with a title; the last one gets what room is left."""
    made = QGroupBox(title)
    layout = QVBoxLayout(made)
    layout.setContentsMargins(6, 6, 6, 6)
    for panel in panels:
        layout.addWidget(panel)
    return made


class Quiet:
    """Goes before a Qt class: the wheel changes the value only where it was clicked before.

    Otherwise whoever scrolls the panel would change what happens to be under the mouse.
    """

    def __init__(self: Any) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self: Any, event: QWheelEvent | None) -> None:
        """Scroll the panel instead."""
        if event is not None and not self.hasFocus():
            event.ignore()
        else:
            qt: Any = super()
            qt.wheelEvent(event)


class QuietCombo(Quiet, QComboBox):
    """A choice."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
