"""One editor for each kind of setting, all with a value that may be read and set as a text."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from napari_pisam.widgets.parts import Quiet, QuietCombo

_AUTOMATIC = "automatic"
# Numbers that small are written, not stepped to.
_WRITTEN_BELOW = 1e-3


class Editor(QWidget):
    """Edits one setting.

    Attributes
    ----------
    edited : Signal()
        The value may be another one.
    """

    edited = Signal()

    def __init__(self, inner: QWidget, tip: str) -> None:
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(inner)
        self.inner = inner
        inner.setToolTip(tip)
        inner.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def value(self) -> Any:
        """What is chosen; None for "automatic"."""
        raise AttributeError("an editor of some kind has a value")

    @property
    def text(self) -> str:
        """The value as `take` understands it."""
        return "" if self.value is None else str(self.value)

    def take(self, text: str) -> None:
        """Choose a value; what is none of this setting's leaves it as it is."""
        raise AttributeError("an editor of some kind takes a value")


class ChoiceEditor(Editor):
    """One of several."""

    def __init__(self, choices: tuple[tuple[str, str], ...], default: Any, tip: str) -> None:
        self._combo = QuietCombo()
        for value, title in choices:
            self._combo.addItem(title, value)
        self._combo.setCurrentIndex(max(0, self._combo.findData(default)))
        super().__init__(self._combo, tip)
        self._combo.currentIndexChanged.connect(lambda _index: self.edited.emit())

    @property
    def value(self) -> Any:
        """The chosen one's value."""
        return self._combo.currentData()

    def take(self, text: str) -> None:
        """Choose the one of this value."""
        values = [str(self._combo.itemData(place)) for place in range(self._combo.count())]
        if text in values:
            self._combo.setCurrentIndex(values.index(text))


class NumberEditor(Editor):
    """A number, whole or not, with its unit."""

    def __init__(self, field: Any) -> None:
        is_whole = field.kind == "int"
        spin: Any = _QuietSpin() if is_whole else _QuietDoubleSpin()
        low, high = field.limits
        spin.setRange(low, high)
        step = max(1, round(field.default / 10))
        spin.setSingleStep(0.05 if high <= 1 else 32 if field.unit == "px" else step)
        if field.default == low and "0 for what" in field.help:
            spin.setSpecialValueText(_AUTOMATIC)
        spin.setSuffix(f" {field.unit}" if field.unit else "")
        spin.setValue(field.default)
        super().__init__(spin, field.help)
        self._spin = spin
        spin.valueChanged.connect(lambda _value: self.edited.emit())

    @property
    def value(self) -> Any:
        """The number."""
        return self._spin.value()

    def take(self, text: str) -> None:
        """Set the number, or the nearest that is possible."""
        with suppress(ValueError, OverflowError):
            self._spin.setValue(type(self.value)(text))


class TextEditor(Editor):
    """A text; or a number that may be left empty."""

    def __init__(self, field: Any) -> None:
        self._is_number = field.kind in ("int", "float")
        self._line = QLineEdit("" if field.default is None else str(field.default))
        if self._is_number and field.default is None:
            self._line.setPlaceholderText(_AUTOMATIC)
        super().__init__(self._line, field.help)
        self._line.editingFinished.connect(self.edited.emit)

    @property
    def value(self) -> Any:
        """The text, the number, or None where it is empty; what is no number stays a text."""
        text = self._line.text().strip()
        if not self._is_number:
            return text
        try:
            return float(text) if text else None
        except ValueError:
            return text

    def take(self, text: str) -> None:
        """Set the text, where one of a number is asked for only to one."""
        before = self._line.text()
        self._line.setText(text)
        if self._is_number and isinstance(self.value, str):
            self._line.setText(before)
        self.edited.emit()


def editor_for(field: Any) -> Editor:
    """Make the editor that suits a setting."""
    if field.kind == "choice":
        return ChoiceEditor(field.choices, field.default, field.help)
    low, high = field.limits or (0, 0)
    is_written = field.kind == "float" and 0 < low < _WRITTEN_BELOW and high < 1
    if field.kind == "text" or field.default is None or is_written:
        return TextEditor(field)
    return NumberEditor(field)


class _QuietSpin(Quiet, QSpinBox):
    pass


class _QuietDoubleSpin(Quiet, QDoubleSpinBox):
    def __init__(self) -> None:
        super().__init__()
        self.setDecimals(2)

    def textFromValue(self, value: float) -> str:
        return f"{value:g}"
