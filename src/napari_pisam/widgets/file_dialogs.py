"""Questions for a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def ask_save_path(parent: QWidget, title: str, kinds: str, suffix: str) -> str:
    """Ask where to write a file; the name that is asked about is the one that is written.

    Parameters
    ----------
    parent : QWidget
    title : str
        Of the dialog.
    kinds : str
        The filter, e.g. ``"Weights (*.safetensors)"``.
    suffix : str
        What a name without a suffix gets, without the dot, before the dialog asks whether a file
        of that name may be replaced.

    Returns
    -------
    str
        The path; empty where the user thought better of it.
    """
    dialog = QFileDialog(parent, title, "", kinds)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(suffix)
    try:
        chosen = dialog.selectedFiles() if dialog.exec() else []
    finally:
        dialog.deleteLater()
    return chosen[0] if chosen else ""
