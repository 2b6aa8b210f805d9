"""Texts with names in them, as Qt is to show them: the one place that takes them for plain text.

A layer, a file or a run may have any name. Where a label or a tip is left to guess, Qt draws
``<b>`` as bold and loads the picture of an ``<img>``.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_pisam.docks.wording import printable

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def escaped(text: str) -> str:
    """Write a text so that it stands as it is inside rich text."""
    return html.escape(printable(text)).replace("\n", "<br>")


def tip(text: str) -> str:
    """Make a tip that shows the text as it is; of one or more lines."""
    return f"<p>{escaped(text)}</p>" if text else ""


def untagged(text: str) -> str:
    """Make a text that is plain also where Qt guesses and no format can be chosen.

    For napari's activity dock: no ``<`` or ``&`` is followed by what could be a tag or a character.
    """
    return re.sub("[<&]", "\\g<0>\N{WORD JOINER}", printable(text))


class PlainLabel(QLabel):
    """A label that shows every text as it is, in as many lines as it takes.

    Parameters
    ----------
    text : str
    is_selectable : bool
        Whether the mouse can select and copy it.
    is_narrow : bool
        Whether it takes no more room in a row than its text.
    """

    def __init__(
        self,
        text: str = "",
        *,
        is_selectable: bool = False,
        is_narrow: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(not is_narrow)
        if is_selectable:
            self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        if is_narrow:
            self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def setText(self, text: str | None) -> None:
        """Show a text, without the characters that a terminal or a line would obey."""
        super().setText(printable(text or ""))
