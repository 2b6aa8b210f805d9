"""What is learned from: sources to add, the table of objects, and the part of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_pisam.widgets.file_dialogs import ask_folder
from napari_pisam.widgets.finetune.object_table import ObjectTableView
from napari_pisam.widgets.layer_panel import LayerCombo
from napari_pisam.widgets.parts import button, row
from napari_pisam.widgets.text import PlainLabel

if TYPE_CHECKING:
    from collections.abc import Sequence


class ObjectsPanel(QWidget):
    """Three ways to add objects, and the table of those that are there.

    Attributes
    ----------
    session_requested : Signal()
        Take what was committed in *Segment*.
    layers_requested : Signal(object, object, bool)
        Take an image layer and a Labels layer; all slices or the displayed one.
    folders_requested : Signal(str, str)
        Take a folder of images and one of masks.
    part_requested : Signal(list, str)
        Use these lines of the table for training, for validation, or not at all.
    removal_requested : Signal(list)
        Remove the images of these lines.
    fraction_chosen : Signal(float)
        The share that validates.
    split_requested : Signal()
        Draw another split.
    """

    session_requested = Signal()
    layers_requested = Signal(object, object, bool)
    folders_requested = Signal(str, str)
    part_requested = Signal(list, str)
    removal_requested = Signal(list)
    fraction_chosen = Signal(float)
    split_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session_button = button(
            "From Segment",
            "Learn from what was committed in the dock Segment, with the clicks that corrected it",
            self.session_requested.emit,
        )
        self.layers_switch = button(
            "Layers…", "Learn from an image layer and the Labels layer that belongs to it"
        )
        self.layers_switch.setCheckable(True)
        self.folders_button = button(
            "Folders…",
            "Learn from a folder of images and a folder of masks of the same file names",
            self._ask_for_folders,
        )
        self.layers_form = self._make_layers_form()
        self.layers_switch.toggled.connect(self.layers_form.setVisible)
        self.table = ObjectTableView()
        self.part_buttons = {
            part: button(text, tip, partial(self._give, part))
            for part, text, tip in (
                ("training", "Training", "Learn from the selected objects"),
                (
                    "validation",
                    "Validation",
                    "Keep the selected objects out of training, to see whether it helped",
                ),
                ("unused", "Leave out", "Use the selected objects for nothing"),
            )
        }
        self.remove_button = button(
            "Remove",
            "Take the images of the selected objects out of the table",
            lambda: self.removal_requested.emit(self.table.selected),
        )
        self.summary = PlainLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row(self.session_button, self.layers_switch, self.folders_button))
        layout.addWidget(self.layers_form)
        layout.addWidget(self.table, stretch=1)
        layout.addWidget(self.summary)
        selected = PlainLabel("Selected:", is_narrow=True)
        layout.addWidget(row(selected, *self.part_buttons.values()))
        layout.addWidget(self._make_split_row())
        self.layers_form.hide()
        selection = self.table.selectionModel()
        if selection is not None:
            selection.selectionChanged.connect(lambda *_: self._on_selected())
        self._on_selected()

    def _make_layers_form(self) -> QWidget:
        self.image_combo, self.labels_combo = LayerCombo(), LayerCombo()
        self.image_combo.setToolTip("The image to learn from; it is never changed")
        self.labels_combo.setToolTip("Its objects, one number each; of the same size and place")
        self.all_slices = QCheckBox("every slice that has labels")
        self.all_slices.setToolTip("Of a stack: all slices with an object, or the displayed one")
        add = button("Add", "Read the labels and list their objects", self._add_layers)
        self.add_layers_button = add
        form = QWidget()
        layout = QFormLayout(form)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(3)
        layout.addRow("Image", self.image_combo)
        layout.addRow("Labels", self.labels_combo)
        layout.addRow(row(self.all_slices, add))
        return form

    def _make_split_row(self) -> QWidget:
        self.fraction = QSpinBox()
        self.fraction.setRange(5, 75)
        self.fraction.setSingleStep(5)
        self.fraction.setSuffix(" %")
        self.fraction.setToolTip(
            "How much is kept for validation: whole images where there are several, else a region"
        )
        self.fraction.valueChanged.connect(lambda value: self.fraction_chosen.emit(value / 100))
        self.split_button = button(
            "Split again",
            "Draw other objects for validation; forgets what you decided by hand",
            self.split_requested.emit,
        )
        return row(
            PlainLabel("Validate with", is_narrow=True),
            self.fraction,
            self.split_button,
            self.remove_button,
        )

    def _add_layers(self) -> None:
        image, labels = self.image_combo.layer, self.labels_combo.layer
        self.layers_requested.emit(image, labels, self.all_slices.isChecked())

    def _ask_for_folders(self) -> None:
        images = ask_folder(self, "Folder of images")
        masks = images and ask_folder(self, "Folder of their masks")
        if masks:
            self.folders_requested.emit(images, masks)

    def _give(self, part: str) -> None:
        self.part_requested.emit(self.table.selected, part)

    def _on_selected(self) -> None:
        selection = self.table.selectionModel()
        is_some = selection is not None and selection.hasSelection()
        for one in (*self.part_buttons.values(), self.remove_button):
            one.setEnabled(is_some)

    def show_layers(self, images: Sequence[Any], labels: Sequence[Any]) -> None:
        """Show which layers there are; what was chosen stays chosen where it is still there."""
        for combo, layers in ((self.image_combo, images), (self.labels_combo, labels)):
            chosen = combo.layer if combo.layer in layers else (layers[0] if layers else None)
            combo.show_layers(layers, chosen)

    def show_objects(self, rows: Sequence[Any], summary: str, fraction: float) -> None:
        """Show the objects and how they are split."""
        self.table.show_rows(rows)
        self.summary.setText(summary)
        self._on_selected()
        blocker = QSignalBlocker(self.fraction)
        self.fraction.setValue(round(100 * fraction))
        blocker.unblock()

    def show_busy(self, busy: bool) -> None:
        """Show whether labels are being read; then nothing can be added."""
        for one in (self.session_button, self.add_layers_button, self.folders_button):
            one.setEnabled(not busy)
        if busy:
            self.summary.setText("Reading labels …")
