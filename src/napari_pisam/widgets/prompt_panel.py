"""FG or BG, live or on request, and whether something is being computed."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_pisam.docks.segment.drawn import SHAPE_USES
from napari_pisam.docks.segment.keys import KEYS
from napari_pisam.widgets.parts import button, menu_button, row, switch
from napari_pisam.widgets.strip import Strip
from napari_pisam.widgets.text import tip

_STYLE = """
QToolButton {{ padding: 1px; font-weight: bold; border: 2px solid transparent; }}
QToolButton:checked {{ background: {color}; color: {text}; border: 2px solid {color}; }}
"""


class PromptPanel(QWidget):
    """What the next click says, and when to predict.

    Parameters
    ----------
    many : ManyPanel
        Stands beside *Predict*.

    Attributes
    ----------
    foreground_chosen : Signal(bool)
        The next click is FG, or BG.
    live_chosen : Signal(bool)
        Predict on every change, or on request.
    predict_requested, cancel_requested, box_requested, click_requested : Signal()
        A button was pressed.
    draw_requested : Signal(str)
        Something else than a box or clicks is to be drawn; see `SegmentController.draw`.
    use_chosen : Signal(str)
        A shape that was drawn is to be something else; see `SegmentController.change_shapes`.
    other_answer_requested : Signal()
        Thin lines in the box are wanted, or what is solid in it.
    """

    foreground_chosen = Signal(bool)
    live_chosen = Signal(bool)
    predict_requested = Signal()
    cancel_requested = Signal()
    box_requested = Signal()
    click_requested = Signal()
    draw_requested = Signal(str)
    use_chosen = Signal(str)
    other_answer_requested = Signal()

    def __init__(self, many: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box_button = button(
            "▭ Draw a box",
            f"Select the box layer and its rectangle tool [{KEYS['box']}]",
            self.box_requested.emit,
        )
        drawn = [
            (text, partial(self.draw_requested.emit, what))
            for what, text in (
                ("scribble", f"Scribble along the object, FG or BG [{KEYS['scribble']}]"),
                ("outline", f"Outline of an object (lasso) [{KEYS['outline']}]"),
                ("part", f"Further box of this object [{KEYS['part']}]"),
                ("not_here", "Box that this object is not in"),
            )
        ]
        uses = [(text, partial(self.use_chosen.emit, use)) for use, text in SHAPE_USES.items()]
        self.more_button = menu_button(
            "More",
            "Scribbles, outlines, several boxes; and what a shape is that was drawn",
            [
                *drawn,
                (
                    f"Thin lines in the box, or what is solid [{KEYS['other']}]",
                    self.other_answer_requested.emit,
                ),
                ("The selected shape, or the last one, is …", uses),
            ],
        )
        self.foreground = switch(
            "● FG", f"The next click says: this belongs to the object [{KEYS['toggle']} switches]"
        )
        self.background = switch(
            "✕ BG", f"The next click says: this does not belong to it [{KEYS['toggle']} switches]"
        )
        # The colours of the clicks themselves; the signs say the same without colour.
        for made, color in ((self.foreground, "#009e73"), (self.background, "#d55e00")):
            made.setStyleSheet(_STYLE.format(color=color, text="white"))
            made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        group = QButtonGroup(self)
        group.addButton(self.foreground)
        group.addButton(self.background)
        self.foreground.setChecked(True)
        self.foreground.clicked.connect(lambda: self._choose(True))
        self.background.clicked.connect(lambda: self._choose(False))
        self.live = QCheckBox("Live")
        self.live.setToolTip("Predict after every box and click; otherwise only on Predict")
        self.live.setChecked(True)
        self.live.toggled.connect(self.live_chosen.emit)
        self.predict_button = button("Predict", "")
        self.predict_button.clicked.connect(self._press)
        self._in_tiles = False
        self.busy = Strip()
        self.busy.setToolTip("Moves while a mask is being computed; go on clicking meanwhile")
        self.hint = QElidingLabel()
        self.hint.setWordWrap(True)
        # Of its two lines none for that, which alignment to the top puts above them.
        self.hint.setIndent(0)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(row(self.box_button, self.more_button, self.foreground, self.background))
        layout.addWidget(row(self.live, self.predict_button, many))
        layout.addWidget(self.busy)
        layout.addWidget(self.hint)

    def _choose(self, foreground: bool) -> None:
        self.foreground_chosen.emit(foreground)
        self.click_requested.emit()

    def _press(self) -> None:
        (self.cancel_requested if self._in_tiles else self.predict_requested).emit()

    def show_tiles(self, tiles: tuple[int, int] | None) -> None:
        """Show how many tiles of a large object are done, of how many; or that there are none."""
        self._in_tiles = tiles is not None
        text, advice = "Predict", f"Predict the current object now [{KEYS['predict']}]"
        if tiles is not None:
            done, total = tiles
            text = f"Cancel ({done}/{total})"
            advice = f"{done} of {total} tiles of a large object are done; those are kept"
            self.busy.show_progress(done, total)
        self.predict_button.setText(text)
        self.predict_button.setToolTip(advice)

    def show_foreground(self, foreground: bool) -> None:
        """Show what the next click says."""
        (self.foreground if foreground else self.background).setChecked(True)

    def show_busy(self, busy: bool) -> None:
        """Show whether something is being computed."""
        self.busy.show_busy(busy)
        self.show_tiles(None)

    def show_hint(self, text: str) -> None:
        """Say what to do next."""
        # Always of two lines: nothing moves under the mouse when it says something else.
        self.hint.setFixedHeight(2 * self.hint.fontMetrics().lineSpacing() + 2)
        self.hint.setText(text)
        self.hint.setToolTip(tip(text))
