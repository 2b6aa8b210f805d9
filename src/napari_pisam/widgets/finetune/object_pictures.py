"""Validation objects before and after, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_pisam.widgets.text import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SIDE, _LARGE = 84, 320  # px
_EMPTY = (
    "During a run, objects that are not trained on appear here: above as the base sees them, "
    "below as the result does."
)


class _PicturePair(QWidget):
    """One object: two pictures with their IoU."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pictures = (QLabel(), QLabel())
        self._texts = (QLabel(), QLabel())
        self._shown: list[tuple[Path, int] | None] = [None, None]
        self._wanted: list[tuple[Path, int]] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        for picture, text in zip(self._pictures, self._texts, strict=True):
            picture.setFixedSize(_SIDE, _SIDE)
            picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
            text.setAlignment(Qt.AlignmentFlag.AlignCenter)
            layout.addWidget(picture)
            layout.addWidget(text)

    def show_preview(self, preview: Any) -> None:
        """Show an object's numbers; `read_picture` reads its pictures."""
        self._wanted = [(preview.before, 0), (preview.after, preview.step)]
        before, after = preview.iou_before, preview.iou_after
        self._texts[0].setText(f"{before:.2f}")
        gain = after - before
        weight = "bold" if gain > 0.005 else "normal"
        self._texts[1].setText(f"<span style='font-weight:{weight}'>{after:.2f}</span>")
        steps_text = f"after {preview.step} steps" if preview.step else "as the base"
        self.setToolTip(
            f"<p>Object {preview.label} of {escaped(preview.image)}. White: what it should "
            f"be.<br>Left: the base, IoU {before:.3f}; right: {steps_text}, IoU {after:.3f}.</p>"
            f"<img src='{escaped(str(preview.before))}' width='{_LARGE}'> "
            f"<img src='{escaped(str(preview.after))}' width='{_LARGE}'>"
        )

    def read_picture(self) -> bool:
        """Read one picture that is another one than what is shown; whether there was one."""
        for place, wanted in enumerate(self._wanted):
            if self._shown[place] != wanted:
                self._shown[place] = wanted
                pixels = QPixmap(str(wanted[0]))
                if not pixels.isNull():
                    pixels = pixels.scaled(
                        _SIDE,
                        _SIDE,
                        Qt.AspectRatioMode.KeepAspectRatio,
                        Qt.TransformationMode.SmoothTransformation,
                    )
                self._pictures[place].setPixmap(pixels)
                return True
        return False


class ObjectPictures(QScrollArea):
    """A row of validation objects that may be scrolled sideways."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._content = QWidget()
        self._row = QHBoxLayout(self._content)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(4)
        self._empty = QLabel(_EMPTY)
        self._empty.setWordWrap(True)
        self._row.addWidget(self._empty)
        self._row.addStretch(1)
        self._comparisons: list[_PicturePair] = []
        # One picture at a time: a dozen at once would be felt.
        self._timer = QTimer(self)
        self._timer.setInterval(20)
        self._timer.timeout.connect(self._read)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(self._content)
        self.setFixedHeight(2 * (_SIDE + 20) + 14)

    def show_previews(self, previews: Sequence[Any]) -> None:
        """Show objects, in their order."""
        while len(self._comparisons) < len(previews):
            self._comparisons.append(_PicturePair())
            self._row.insertWidget(self._row.count() - 1, self._comparisons[-1])
        for place, pair in enumerate(self._comparisons):
            pair.setVisible(place < len(previews))
            if place < len(previews):
                pair.show_preview(previews[place])
        self._empty.setVisible(not previews)
        self._timer.start()

    def _read(self) -> None:
        if not any(pair.read_picture() for pair in self._comparisons):
            self._timer.stop()
