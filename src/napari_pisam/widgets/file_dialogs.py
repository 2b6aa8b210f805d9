"""Questions for a file's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def ask_save_path(parent: QWidget, title: str, kinds: str, name: str = "") -> str:
    """Ask where to write a file; the name that is asked about is the one that is written.

    Parameters
    ----------
    parent : QWidget
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
    dialog = QFileDialog(parent, title, "", kinds)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    suffixes = re.findall(r"\*(\.\w+)", kinds)
    # Qt appends it, before it asks, to a name without a point.
    dialog.setDefaultSuffix(suffixes[0][1:])
    dialog.selectFile(name)
    try:
        chosen = dialog.selectedFiles() if dialog.exec() else []
    finally:
        dialog.deleteLater()
    path: str = chosen[0] if chosen else ""
    if not path or path.lower().endswith(tuple(suffixes)):
        return path
    # "dose 0.5uM" has no suffix of ours; the dialog took it for one and asked without ours.
    path += suffixes[0]
    if Path(path).exists():
        asked = f"{Path(path).name} is there already. Replace it?"
        answer = QMessageBox.question(parent, title, asked)
        return path if answer == QMessageBox.StandardButton.Yes else ""
    return path
