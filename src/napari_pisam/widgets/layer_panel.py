"""Which layers the dock works on: four choosers that follow the layer list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_pisam.layers.prompt_layers import is_own
from napari_pisam.widgets.parts import button
from napari_pisam.widgets.text import PlainLabel, tip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qtpy.QtWidgets import QPushButton

ROLES = ("image", "boxes", "clicks", "labels")

_TEXTS = {
    "image": ("Image", "The image layer to segment; it is never changed"),
    "boxes": ("Boxes", "The Shapes layer whose rectangles are boxes around objects"),
    "clicks": ("Clicks", "The Points layer whose points are FG and BG clicks"),
    "labels": ("Labels", "The Labels layer that committed objects are written to"),
}
_PLACES = {"image": (0, 0), "labels": (0, 2), "boxes": (1, 0), "clicks": (1, 2)}
_NOTHING = "(none)"


class LayerCombo(QComboBox):
    """A choice of one of the layers, or none; survives renaming and reordering."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setMinimumWidth(80)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.activated.connect(lambda: self.chosen.emit(self.layer))

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex() - 1
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def show_layers(self, layers: Sequence[Any], current: Any) -> None:
        """List layers and show which is chosen, without emitting `chosen`."""
        blocker = QSignalBlocker(self)
        self._layers = list(layers)
        self.clear()
        self.addItems([_NOTHING, *(layer.name for layer in self._layers)])
        place = next((i for i, layer in enumerate(self._layers) if layer is current), -1)
        self.setCurrentIndex(place + 1)
        blocker.unblock()


class LayerPanel(QWidget):
    """The four choosers and a button for new prompt layers.

    Attributes
    ----------
    chosen : Signal(str, object)
        A role of `ROLES` and the layer chosen for it, or None.
    copy_requested : Signal(str)
        *Copy* was pressed beside the chooser of this role.
    new_requested : Signal()
        *New prompt layers* was pressed.
    """

    chosen = Signal(str, object)
    copy_requested = Signal(str)
    new_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Two in a row: on a laptop's screen everything has to be seen without scrolling.
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(3)
        layout.setColumnStretch(1, 1)
        layout.setColumnStretch(3, 1)
        self.combos: dict[str, LayerCombo] = {}
        self.copy_buttons: dict[str, QPushButton] = {}
        self.seen = PlainLabel()
        for role in ROLES:
            text, advice = _TEXTS[role]
            combo = LayerCombo()
            combo.setToolTip(advice)
            combo.chosen.connect(lambda layer, role=role: self.chosen.emit(role, layer))
            self.combos[role] = combo
            line, column = _PLACES[role]
            layout.addWidget(QLabel(text), line, column)
            row = self._with_copy(role, combo) if role in ("boxes", "clicks") else combo
            layout.addWidget(row, line, column + 1)
        self.new_button = button(
            "New prompt layers",
            "Make a Shapes layer for boxes, a Points layer for clicks and a Labels layer for the "
            "result, aligned with the image",
            self.new_requested.emit,
        )
        last = QHBoxLayout()
        last.addWidget(self.seen, stretch=1)
        last.addWidget(self.new_button)
        layout.addLayout(last, 2, 0, 1, 4)

    def _with_copy(self, role: str, combo: LayerCombo) -> QWidget:
        copy = button(
            "Copy",
            "This layer was not made here: it is read and never changed. Draw on a copy of it",
            lambda: self.copy_requested.emit(role),
        )
        copy.setVisible(False)
        self.copy_buttons[role] = copy
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(combo, stretch=1)
        line.addWidget(copy)
        return row

    def show_seen(self, text: str) -> None:
        """Say which part of the image the network sees."""
        self.seen.setText(text)
        self.seen.setToolTip(tip(text))

    def show_layers(self, choices: Mapping[str, Sequence[Any]], current: Mapping[str, Any]) -> None:
        """Show what can be chosen for each role and what is."""
        for role, combo in self.combos.items():
            combo.show_layers(choices[role], current[role])
        for role, copy in self.copy_buttons.items():
            copy.setVisible(current[role] is not None and not is_own(current[role]))
        self.new_button.setEnabled(current["image"] is not None)
