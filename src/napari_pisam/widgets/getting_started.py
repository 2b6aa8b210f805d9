"""A strip for the first minute: what to do in which order, and something to do it on."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_pisam.docks.segment.first_steps import SAMPLES, STEPS
from napari_pisam.widgets.parts import button, row


class GettingStarted(QWidget):
    """The steps, with the next one marked; buttons for sample images while there is none.

    Attributes
    ----------
    sample_requested : Signal(str)
        The key of a sample image.
    closed : Signal()
        Somebody knows already.
    """

    sample_requested = Signal(str)
    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.steps = QLabel()
        self.steps.setWordWrap(True)
        # Two lines in a dock as wide as it opens; its own hint is for one of half that width.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        close = button("✕", "Do not show these steps again", self.closed.emit)
        close.setAccessibleName("Do not show these steps again")
        close.setFixedWidth(24)
        top = QHBoxLayout()
        top.addWidget(self.steps, stretch=1)
        top.addWidget(close)
        self.samples = row(
            *(
                button(title, f"Open the sample image: {title}", self._ask(key))
                for key, title in SAMPLES.items()
            )
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.samples)
        self._step = -1
        self.show_step(0)

    def _ask(self, key: str) -> partial[None]:
        return partial(self.sample_requested.emit, key)

    def show_step(self, step: int) -> None:
        """Mark what comes next."""
        if step == self._step:
            return
        self._step = step
        lines = (
            f"✓ {text}" if place < step else f"<b>▸ {text}</b>" if place == step else text
            for place, text in enumerate(STEPS)
        )
        self.steps.setText(f"<b>Getting started:</b> {' · '.join(lines)}")
        self.samples.setVisible(step == 0)
