"""What the docks remember from one start of napari to the next."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from qtpy.QtCore import QSettings

from napari_pisam.system import user_folder

_T = TypeVar("_T", bool, int, float, str)


class Preferences:
    """Values by name, in ``settings.ini`` of the user's data folder.

    Or in the file that the variable ``NAPARI_PISAM_SETTINGS`` names. What is damaged, or not there,
    is its default; what cannot be written is forgotten.
    """

    def __init__(self) -> None:
        path = user_folder("settings.ini", "NAPARI_PISAM_SETTINGS")
        self._store = QSettings(str(path), QSettings.Format.IniFormat)

    def get(self, name: str, default: _T) -> _T:
        """Return a value of the default's type."""
        text = self._store.value(name)
        if not isinstance(text, str):  # Qt's own types come back before they were written
            return text if type(text) is type(default) else default
        if isinstance(default, bool):
            return {"true": True, "false": False}.get(text.lower(), default)
        with suppress(ValueError):
            return type(default)(text)
        return default

    def set(self, name: str, value: bool | float | str) -> None:
        """Remember a value."""
        self._store.setValue(name, value)

    @property
    def folder(self) -> str:
        """Where a file was opened or saved last; empty where that is gone."""
        path = self.get("folder", "")
        return path if path and Path(path).is_dir() else ""

    def note_folder(self, path: str) -> None:
        """Remember the folder of a file, or a folder, that was chosen; nothing for an empty one."""
        if path:
            self.set("folder", path if Path(path).is_dir() else str(Path(path).parent))
