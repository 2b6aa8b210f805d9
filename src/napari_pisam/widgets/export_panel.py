"""Write the labels and the session to files, and bring a session back."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pisam.images.label_formats import FORMATS
from napari_pisam.layers.label_arrays import IN_MEMORY
from napari_pisam.widgets.file_dialogs import ask_folder, ask_open_path, ask_save_path
from napari_pisam.widgets.parts import QuietCombo, button, menu_button, note, row

_TIFF = "All slices, compressed; model, image and objects stand in the description."
_WAYS = (
    ("objects", "As finished objects: into the labels, with their classes…"),
    ("starts", "As starts: previews that clicks change…"),
    ("boxes", "As boxes: for Segment all boxes to predict anew…"),
)


class ExportPanel(QWidget):
    """Buttons that ask for a file.

    Attributes
    ----------
    labels_requested, session_requested, restore_requested : Signal(str)
        A file was chosen to write labels to, to write a session to, or to read one from.
    format_requested : Signal(str, str)
        A file was chosen to write labels to, in the format of this name.
    opening_requested : Signal(str, str)
        A file was chosen to take objects from; what becomes of them, see `Way`.
    disk_requested : Signal(str)
        Labels are to be kept in a folder that was chosen, which may hold some.
    disk_folder_chosen : Signal(str)
        Where labels of large images are made from now on; empty: beside the image.
    finish_requested : Signal()
        Labels on disk are to get their pyramid.
    autosave_requested : Signal()
        The session that was saved last without being asked is wanted back.
    """

    labels_requested = Signal(str)
    format_requested = Signal(str, str)
    opening_requested = Signal(str, str)
    session_requested = Signal(str)
    restore_requested = Signal(str)
    disk_requested = Signal(str)
    disk_folder_chosen = Signal(str)
    finish_requested = Signal()
    autosave_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.labels_button = button(
            "Export labels…", "Write the Labels layer in the format beside", self._ask_labels
        )
        self.format_combo = QuietCombo()
        self.format_combo.setToolTip("Format that the labels are exported in")
        self.format_combo.addItem("TIFF", "")
        self.format_combo.setItemData(0, _TIFF, Qt.ItemDataRole.ToolTipRole)
        for name, entry in FORMATS.items():
            if name != "tiff":
                self.format_combo.addItem(f"{name}: {entry.title}", name)
        self.format_note = note()
        self.format_combo.currentIndexChanged.connect(lambda _place: self._say_what_is_lost())
        self.open_button = menu_button(
            "Open labels or outlines…",
            "Take objects from a label image, or from another tool's outlines: "
            "TIFF, PNG, COCO, GeoJSON, ROIs, YOLO, Shapes, OME-Zarr (the file zarr.json in it)",
            [(text, partial(self._ask_opening, way)) for way, text in _WAYS],
        )
        self.disk_button = menu_button(
            "Labels on disk",
            "Keep the labels as OME-Zarr on disk, written as they are made; so it is by itself for "
            f"images whose labels may take more than {IN_MEMORY >> 20} MB",
            [
                ("New…", self._ask_new_on_disk),
                ("Open…", self._ask_on_disk),
                ("Finish: write the pyramid for other tools", self.finish_requested.emit),
                ("Of large images, in a folder…", self._ask_disk_folder),
                ("Of large images, beside them", partial(self.disk_folder_chosen.emit, "")),
            ],
        )
        self.session_button = button(
            "Save session…",
            "Write prompts, masks, object numbers and the model's name to one file, to go on "
            "later or to replay it from the command line",
            self._ask_session,
        )
        self.restore_button = button(
            "Open session…", "Go on with a saved session on this image", self._ask_restore
        )
        self.autosave_button = button(
            "Restore last",
            "Bring back what was saved automatically for this image, for example after a crash",
            self.autosave_requested.emit,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(row(self.labels_button, self.format_combo))
        layout.addWidget(self.format_note)
        layout.addWidget(row(self.open_button, self.disk_button))
        layout.addWidget(row(self.session_button, self.restore_button))
        layout.addWidget(self.autosave_button)
        self._say_what_is_lost()

    def show_possible(self, *, labels: bool, session: bool, autosave: str) -> None:
        """Enable what can be done now; `autosave` says what was saved last, "" for nothing."""
        self.labels_button.setEnabled(labels)
        self.open_button.setEnabled(session)
        self.disk_button.setEnabled(session)
        self.session_button.setEnabled(session)
        self.restore_button.setEnabled(session)
        self.autosave_button.setEnabled(session and bool(autosave))
        self.autosave_button.setText(f"Restore last ({autosave})" if autosave else "Restore last")

    def _say_what_is_lost(self) -> None:
        name = self.format_combo.currentData()
        text = f"Of the displayed slice. Not in it: {FORMATS[name].loses}." if name else _TIFF
        if name and not FORMATS[name].loses:
            text = "Of the displayed slice."
        self.format_note.setText(text)

    def _ask_labels(self) -> None:
        name = self.format_combo.currentData()
        if not name:
            kinds = "TIFF (*.tif *.tiff)"
            if path := ask_save_path(self, "Write the labels", kinds, "labels.tif"):
                self.labels_requested.emit(path)
            return
        entry = FORMATS[name]
        kinds = f"{entry.title} ({' '.join(f'*{suffix}' for suffix in entry.suffixes)})"
        if path := ask_save_path(self, "Write the labels", kinds, f"labels{entry.suffixes[0]}"):
            self.format_requested.emit(path, name)

    def _ask_opening(self, way: str) -> None:
        suffixes = sorted(
            {one for entry in FORMATS.values() if entry.read for one in entry.suffixes}
        )
        endings = " ".join(f"*{one}" for one in suffixes)
        # OME-Zarr are folders: one of their files is chosen.
        kinds = f"Labels and outlines ({endings} zarr.json .zattrs);;All files (*)"
        if path := ask_open_path(self, "Open labels or outlines", kinds):
            self.opening_requested.emit(path, way)

    def _ask_new_on_disk(self) -> None:
        if path := ask_save_path(self, "New labels", "OME-Zarr (*.zarr)", "labels.ome.zarr"):
            self.disk_requested.emit(path)

    def _ask_on_disk(self) -> None:
        if path := ask_folder(self, "Open labels: the folder that ends in .zarr"):
            self.disk_requested.emit(path)

    def _ask_disk_folder(self) -> None:
        if path := ask_folder(self, "Where labels of large images are made"):
            self.disk_folder_chosen.emit(path)

    def _ask_session(self) -> None:
        kinds = "Pi-SAM session (*.pisam)"
        if path := ask_save_path(self, "Save the session", kinds, "session.pisam"):
            self.session_requested.emit(path)

    def _ask_restore(self) -> None:
        kinds = "Pi-SAM session (*.pisam);;All files (*)"
        if path := ask_open_path(self, "Open a session", kinds):
            self.restore_requested.emit(path)
