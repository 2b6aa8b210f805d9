"""How to train: four settings that a scientist understands, the rest under *Advanced*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.widgets.finetune.setting_editors import editor_for
from napari_pisam.widgets.model_combo import ModelCombo
from napari_pisam.widgets.parts import QuietCombo, Section, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.learn.finetune.settings import SettingField
    from napari_pisam.widgets.finetune.setting_editors import Editor
    from napari_pisam.widgets.preferences import Preferences

_MINUTES, _EPOCHS = "minutes", "rounds"
_OWN = ("base", "minutes", "epochs")


class SettingsPanel(QWidget):
    """A form of settings, made from their description.

    Parameters
    ----------
    fields : sequence of SettingField

    Attributes
    ----------
    edited : Signal(dict)
        All values.
    """

    edited = Signal(dict)

    def __init__(self, fields: Sequence[SettingField], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        by_name = {field.name: field for field in fields}
        self.editors: dict[str, Editor] = {}
        self._advanced: list[str] = []
        self.base = ModelCombo()
        self.base.setToolTip(getattr(by_name.get("base"), "help", ""))
        self.base.chosen.connect(lambda _model: self._tell())
        plain, advanced = QWidget(), QWidget()
        forms = {False: _form(plain), True: _form(advanced)}
        forms[False].addRow(_label("Base model", self.base.toolTip()), self.base)
        for field in fields:
            if field.name in _OWN:
                continue
            editor = editor_for(field)
            editor.edited.connect(self._tell)
            self.editors[field.name] = editor
            if not field.plain:
                self._advanced.append(field.name)
            forms[not field.plain].addRow(_label(field.title, field.help), editor)
        forms[False].insertRow(2, _label("Train for", ""), self._make_length(by_name))
        self.advanced = Section("Advanced", advanced, "Leave them alone unless you know why")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(plain)
        layout.addWidget(self.advanced)

    def _make_length(self, fields: dict[str, SettingField]) -> QWidget:
        minutes, epochs = fields.get("minutes"), fields.get("epochs")
        self.length, self.unit = QSpinBox(), QuietCombo()
        self.length.setRange(1, 100_000)
        self.length.setValue(round(getattr(minutes, "default", None) or 5))
        self.unit.addItem(_MINUTES)
        self.unit.addItem(_EPOCHS)
        self.unit.setMinimumContentsLength(6)
        self.length.setToolTip(getattr(minutes, "help", ""))
        self.unit.setToolTip(
            f"minutes: {getattr(minutes, 'help', '')} rounds: {getattr(epochs, 'help', '')}"
        )
        for one in (self.length, self.unit):
            one.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.length.valueChanged.connect(lambda _value: self._tell())
        self.unit.currentIndexChanged.connect(lambda _index: self._tell())
        return row(self.length, self.unit)

    @property
    def values(self) -> dict[str, Any]:
        """All settings by name, as they are shown."""
        found = {name: editor.value for name, editor in self.editors.items()}
        found["base"] = self.base.choice
        is_time = self.unit.currentText() == _MINUTES
        found["minutes"] = float(self.length.value()) if is_time else None
        found["epochs"] = None if is_time else self.length.value()
        return found

    def remember(self, preferences: Preferences) -> None:
        """Choose what was chosen the last time, where it still can be, and follow what is.

        *Advanced* is open where it is not as it is meant to be: nothing works unseen.
        """
        before = {name: editor.text for name, editor in self.editors.items()}
        for name, editor in self.editors.items():
            editor.take(preferences.get(f"tune_{name}", editor.text))
        if any(self.editors[name].text != before[name] for name in self._advanced):
            self.advanced.expand()
        self.base.choose(preferences.get("tune_base", ""))
        self.unit.setCurrentIndex(max(0, self.unit.findText(preferences.get("tune_unit", ""))))
        self.length.setValue(round(preferences.get("tune_length", float(self.length.value()))))

        def keep() -> None:
            for name, editor in self.editors.items():
                preferences.set(f"tune_{name}", editor.text)
            preferences.set("tune_base", self.base.choice)
            preferences.set("tune_unit", self.unit.currentText())
            preferences.set("tune_length", float(self.length.value()))

        self.edited.connect(lambda _values: keep())

    def list_results(self) -> None:
        """Offer the results of earlier runs as bases too."""
        self.base.list_results()

    def _tell(self) -> None:
        self.edited.emit(self.values)


def _form(widget: QWidget) -> QFormLayout:
    layout = QFormLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setVerticalSpacing(3)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    return layout


def _label(text: str, tip: str) -> QLabel:
    made = QLabel(text)
    made.setToolTip(tip)
    return made
