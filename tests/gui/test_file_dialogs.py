"""Questions for a file's name: what was asked about is what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QLineEdit, QMessageBox

from napari_pisam.widgets.export_panel import ExportPanel
from napari_pisam.widgets.file_dialogs import ask_save_path

if TYPE_CHECKING:
    from pathlib import Path

TIFF = "TIFF (*.tif *.tiff)"


def answer(parent, path, press=None):
    """Type a name into the dialog that opens, and press a button of the question after it."""

    def type_name():
        dialog = next(one for one in parent.findChildren(QFileDialog) if one.isVisible())
        if press is not None:
            QTimer.singleShot(100, lambda: question().button(press).click())
        dialog.findChild(QLineEdit).setText(str(path))
        dialog.accept()

    def question():
        return next(one for one in parent.findChildren(QMessageBox) if one.isVisible())

    QTimer.singleShot(200, type_name)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("labels", "labels.tif"),
        ("labels.tif", "labels.tif"),
        ("labels.TIFF", "labels.TIFF"),
        # What is behind the last point is no suffix of this kind of file.
        ("dose 0.5uM", "dose 0.5uM.tif"),
    ],
)
def test_a_name_gets_a_suffix_of_its_kind(qtbot, tmp_path: Path, typed, written):
    panel = ExportPanel()
    qtbot.addWidget(panel)
    answer(panel, tmp_path / typed)
    assert ask_save_path(panel, "Write", TIFF, "labels.tif") == str(tmp_path / written)


@pytest.mark.parametrize("button", ["Yes", "No"])
def test_a_file_of_the_name_with_its_suffix_is_asked_about(qtbot, tmp_path: Path, button):
    path = tmp_path / "dose 0.5uM.pisam"
    path.write_bytes(b"")
    panel, asked = ExportPanel(), []
    qtbot.addWidget(panel)
    panel.session_requested.connect(asked.append)
    answer(panel, tmp_path / "dose 0.5uM", getattr(QMessageBox.StandardButton, button))
    panel.session_button.click()
    assert asked == ([str(path)] if button == "Yes" else [])
