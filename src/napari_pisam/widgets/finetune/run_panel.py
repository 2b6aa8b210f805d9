"""Check, Start, Pause or Resume, Stop; what is going on, and what there is to say about it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pisam.docks.finetune.texts import speed_text, state_text
from napari_pisam.widgets.parts import button, row
from napari_pisam.widgets.strip import Strip
from napari_pisam.widgets.text import PlainLabel


class RunPanel(QWidget):
    """The buttons of a run, and its progress; always in sight.

    Attributes
    ----------
    check_requested, start_requested, pause_requested, resume_requested, stop_requested : Signal()
        A button was pressed.
    """

    check_requested = Signal()
    start_requested = Signal()
    pause_requested = Signal()
    resume_requested = Signal()
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.check_button = button(
            "Check",
            "Find out on one real step how much memory and time it will take; nothing is changed",
            self.check_requested.emit,
        )
        self.start_button = button(
            "Start", "Check, then train; a new run", self.start_requested.emit
        )
        self.start_button.setStyleSheet("QPushButton { font-weight: bold; padding: 5px; }")
        self.pause_button = button("Pause", "", self._press_pause)
        self.stop_button = button("Stop", "", self.stop_requested.emit)
        self.bar = Strip()
        self.status, self.speed, self.note = (PlainLabel(is_selectable=True) for _ in range(3))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 4)
        layout.setSpacing(3)
        layout.addWidget(
            row(self.check_button, self.start_button, self.pause_button, self.stop_button)
        )
        layout.addWidget(self.bar)
        for label in (self.status, self.speed, self.note):
            layout.addWidget(label)
        self._can_resume = False
        self.show_note("")
        self.show_state(None, "", "", is_occupied=False, is_own=False, can_resume=False)

    def _press_pause(self) -> None:
        (self.resume_requested if self._can_resume else self.pause_requested).emit()

    def show_state(
        self,
        state: Any,
        activity: str,
        detail: str,
        *,
        is_occupied: bool,
        is_own: bool,
        can_resume: bool,
    ) -> None:
        """Show what a run, or a worker before it, is doing, and what can be done.

        Parameters
        ----------
        state : RunState or None
        activity, detail : str
            What a worker does; empty where none works.
        is_occupied : bool
            Whether nothing new can be started.
        is_own : bool
            Whether the run goes on and is this dock's.
        can_resume : bool
            Whether the run can go on.
        """
        status = None if state is None else state.status
        self._can_resume = can_resume and not activity
        self.check_button.setEnabled(not is_occupied)
        self.start_button.setEnabled(not is_occupied)
        self.pause_button.setEnabled(self._can_resume or (is_own and status == "running"))
        self.pause_button.setText("Resume" if self._can_resume else "Pause")
        self.pause_button.setToolTip(
            "Go on with the run that is shown"
            if self._can_resume
            else "Let the computer do other things for a while; everything stays in memory"
        )
        self.stop_button.setEnabled(bool(activity) or (is_own and status != "stopping"))
        self.stop_button.setToolTip(
            "Give up what is being prepared" if activity else "End the run; the best so far is kept"
        )
        if activity:
            self.bar.show_busy(True)
            self.status.setText(f"{activity}: {detail}" if detail else f"{activity} …")
            self.speed.setText("")
        elif state is None:
            self.bar.show_busy(False)
            self.status.setText("")
            self.speed.setText("")
        else:
            self.bar.show_busy(False)
            self.bar.show_progress(round(1000 * state.progress), 1000)
            self.status.setText(state.error or state_text(state))
            self.speed.setText(speed_text(state))
        self.bar.setVisible(bool(activity) or state is not None)
        for label in (self.status, self.speed):
            label.setVisible(bool(label.text()))

    def show_note(self, text: str, *, is_problem: bool = False) -> None:
        """Show a sentence: a hint, what a check found, or why nothing was started."""
        self._is_problem = is_problem
        self.note.setText(text)
        self.note.setVisible(bool(text))
        self.note.setStyleSheet("QLabel { font-weight: bold; }" if is_problem else "")

    def clear_problem(self) -> None:
        """Take away why nothing was started, where that is no longer so."""
        if self._is_problem:
            self.show_note("")
