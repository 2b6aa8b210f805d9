"""Questions for a file's name, each beginning where the last one ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_pisam.widgets.preferences import Preferences

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def ask_folder(parent: QWidget, title: str) -> str:
    """Ask for a folder; empty where the user thought better of it."""
    preferences = Preferences()
    path: str = QFileDialog.getExistingDirectory(parent, title, preferences.folder)
    preferences.note_folder(path)
    return path


def ask_open_path(parent: QWidget, title: str, kinds: str) -> str:
    """Ask for a file that is there; empty where the user thought better of it."""
    preferences = Preferences()
    path, _ = QFileDialog.getOpenFileName(parent, title, preferences.folder, kinds)
    preferences.note_folder(path)
    return str(path)


def ask_open_paths(parent: QWidget, title: str, kinds: str) -> list[str]:
    """Ask for files that are there; empty where the user thought better of it."""
    preferences = Preferences()
    paths, _ = QFileDialog.getOpenFileNames(parent, title, preferences.folder, kinds)
    preferences.note_folder(paths[0] if paths else "")
    return list(paths)


def ask_save_path(parent: QWidget | None, title: str, kinds: str, name: str = "") -> str:
    """Ask where to write a file; the name that is asked about is the one that is written.

    Parameters
    ----------
    parent : QWidget or None
    title : str
        Of the dialog.
    kinds : str
        The filter, e.g. ``"TIFF (*.tif *.tiff)"``. A name with none of its suffixes gets the first
        of them.
    name : str
        What is proposed.

    Returns
    -------
    str
        The path; empty where the user thought better of it.
    """
    preferences = Preferences()
    dialog = QFileDialog(parent, title, preferences.folder, kinds)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    suffixes = re.findall(r"\*((?:\.\w+)+)", kinds)
    # Qt appends it, before it asks, to a name without a point.
    dialog.setDefaultSuffix(suffixes[0][1:])
    dialog.selectFile(name)
    try:
        chosen = dialog.selectedFiles() if dialog.exec() else []
    finally:
        dialog.deleteLater()
    path: str = chosen[0] if chosen else ""
    preferences.note_folder(path)
    if not path or path.lower().endswith(tuple(suffixes)):
        return path
    # "dose 0.5uM" has no suffix of ours; the dialog took it for one and asked without ours.
    path += suffixes[0]
    if Path(path).exists():
        asked = f"{Path(path).name} is there already. Replace it?"
        answer = QMessageBox.question(parent, title, asked)
        return path if answer == QMessageBox.StandardButton.Yes else ""
    return path
