"""One run: watched, paused, stopped, gone on with; and the runs of before. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.finetune.collecting import sentence
from napari_pisam.docks.finetune.texts import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.finetune.core import Core

_OVER = ("finished", "stopped", "failed", "interrupted")


class RunControl:
    """The run that is shown.

    Parameters
    ----------
    core : Core

    Attributes
    ----------
    run : FineTuneRun or None
    state : RunState or None
        What `poll` saw last.
    changed : Signal(object)
        The new state; None where there is no run any more.
    began : Signal()
        A run started, or goes on.
    ended : Signal(object)
        A run that was watched has come to its end; its state.
    failed : Signal(str)
        A sentence for the user.
    """

    changed = Signal(object)
    began = Signal()
    ended = Signal(object)
    failed = Signal(str)

    def __init__(self, core: Core) -> None:
        self._core = core
        self.run: Any = None
        self.state: Any = None

    @property
    def is_active(self) -> bool:
        """Whether the run's process is there."""
        return self.state is not None and self.state.status in (*ACTIVE, "paused")

    @property
    def can_resume(self) -> bool:
        """Whether it can go on, from a pause or from its last checkpoint."""
        state = self.state
        if state is None or state.status in ACTIVE:
            return False
        return state.status == "paused" or bool(state.can_resume)

    def begin(self, run: Any) -> None:
        """Start a new run and watch it."""
        self.run = run
        self._do(run.start)
        self.began.emit()

    def open(self, folder: Path) -> None:
        """Show a run that is there; it does not go on by that."""
        try:
            self.run = self._core.open(folder)
        except (ValueError, OSError) as error:
            self.failed.emit(sentence(error, "Opening the run"))
            return
        self.state = None
        self.poll()

    def pause(self) -> None:
        """Let it wait, with everything in memory."""
        if self.run is not None:
            self._do(self.run.pause)

    def resume(self) -> None:
        """Go on, also with a run of before napari was closed."""
        if self.run is not None:
            self._do(self.run.resume)
            self.began.emit()

    def stop(self) -> None:
        """End it; the best weights so far are kept."""
        if self.run is not None:
            self._do(self.run.stop)

    def poll(self) -> None:
        """Look how far it is; to be called several times a second, costs nothing at the end."""
        if self.run is not None and (self.state is None or self.is_active):
            self._look()

    def _look(self) -> None:
        try:
            state = self.run.poll()
        except (ValueError, OSError) as error:
            self.failed.emit(sentence(error, "Reading the run"))
            self.run = self.state = None
            self.changed.emit(None)
            return
        before, self.state = self.state, state
        if before is None or _differs(before, state):
            self.changed.emit(state)
        if before is not None and before.status in (*ACTIVE, "paused") and state.status in _OVER:
            self.ended.emit(state)

    def export(self, path: Path) -> Path | None:
        """Copy the best weights to a file; may be called in a worker.

        Raises
        ------
        ValueError
            If there are none.
        OSError
            If it cannot be written.
        """
        return None if self.run is None else self.run.export(path)

    def close(self) -> None:
        """Let go of the run: its process saves and ends, and it can be gone on with."""
        if self.run is not None and self.is_active:
            self.run.close()

    def _do(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self.failed.emit(sentence(error, "The run"))
        self._look()


def _differs(before: Any, after: Any) -> bool:
    """Whether there is anything new to show; curves are arrays, which are not compared."""
    names = (
        "status", "message", "error", "step", "progress", "eta", "batch", "best_step", "verdict",
        "best_weights", "can_resume",
    )  # fmt: skip
    if any(getattr(before, name) != getattr(after, name) for name in names):
        return True
    return any(
        len(getattr(before, name).x) != len(getattr(after, name).x)
        for name in ("loss", "iou_validation", "boundary_validation")
    ) or [(p.after, p.step) for p in before.previews] != [(p.after, p.step) for p in after.previews]
