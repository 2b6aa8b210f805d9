"""One run: watched, paused, stopped, gone on with; also one of before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.finetune.texts import failure_text
from napari_pisam.learn.finetune import missing_packages
from napari_pisam.learn.finetune.preflight import preflight
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.runs import list_runs, new_folder
from napari_pisam.weights.cache import download, missing_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.docks.jobs import Cancelled, Report
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage


class TrainingBackend:
    """What prepares, makes and finds runs; a test can put in another one."""

    missing_packages = staticmethod(missing_packages)
    preflight = staticmethod(preflight)
    open = staticmethod(FineTuneRun.open)
    list_runs = staticmethod(list_runs)

    def fetch(self, base: str, report: Report, cancel: Cancelled) -> None:
        """Download a base model where it is public and not on this machine; for a worker.

        The run's own process downloads nothing.

        Raises
        ------
        DownloadError
            If that fails, or was cancelled.
        """
        if missing_entry(base) is not None:
            download(base, progress=report, cancel=cancel)

    def create(
        self,
        settings: FineTuneSettings,
        images: Sequence[SourceImage],
        rows: Sequence[ObjectRow],
    ) -> FineTuneRun:
        """Make a run in a new folder; for a worker."""
        base = settings.base.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
        return FineTuneRun.create(new_folder(title=base), settings, images, rows)


class RunControl:
    """The run that is shown.

    Parameters
    ----------
    backend : TrainingBackend

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

    def __init__(self, backend: TrainingBackend) -> None:
        self._backend = backend
        self.run: Any = None
        self.state: Any = None
        self._is_started_here = False

    @property
    def is_active(self) -> bool:
        """Whether the run's process is there."""
        return self.state is not None and bool(self.state.is_active)

    @property
    def is_own(self) -> bool:
        """Whether its process is there and is this dock's, not another window's."""
        return self._is_started_here and self.is_active

    @property
    def can_resume(self) -> bool:
        """Whether it can go on, from a pause or from its last checkpoint."""
        return self.state is not None and bool(self.state.can_resume)

    def begin(self, run: Any) -> None:
        """Start a new run and watch it."""
        self.run = run
        self._go(run.start)

    def open(self, folder: Path) -> None:
        """Show a run that is there; it does not go on by that."""
        try:
            self.run = self._backend.open(folder)
        except Exception as error:  # noqa: BLE001 - whatever a damaged folder holds
            self.failed.emit(failure_text(error, "Opening the run"))
            return
        self.state, self._is_started_here = None, False
        self.poll()

    def take_up(self) -> str:
        """Show the newest run where it did not come to its end, and say so; else show none."""
        newest = next(iter(self._backend.list_runs()), None)
        if newest is None or newest.finished:
            return ""
        self.open(newest.folder)
        if self.is_active:
            return f"{newest.name} is going on in another process, or is being saved."
        if self.state is not None and self.state.status == "interrupted":
            return f"{newest.name} was interrupted. Resume goes on with it, Start begins a new run."
        self.run = self.state = None
        self.changed.emit(None)
        return ""

    def pause(self) -> None:
        """Let it wait, with everything in memory."""
        if self.run is not None:
            self._do(self.run.pause, "Pausing the run")
            self._look()

    def resume(self) -> None:
        """Go on, also with a run of before napari was closed."""
        if self.run is not None:
            self._go(self.run.resume)

    def stop(self) -> None:
        """End it; the best weights so far are kept."""
        if self.run is not None:
            self._do(self.run.stop, "Stopping the run")
            self._look()

    def poll(self) -> None:
        """Look how far it is; to be called several times a second, costs nothing at the end."""
        if self.run is not None and (self.state is None or self.is_active):
            self._look()

    def _look(self) -> None:
        try:
            state = self.run.poll()
        except Exception as error:  # noqa: BLE001 - asked for by a timer: once, not ever again
            self.failed.emit(failure_text(error, "Reading the run"))
            self.run = self.state = None
            self.changed.emit(None)
            return
        before, self.state = self.state, state
        if state != before:
            self.changed.emit(state)
        if before is not None and before.is_active and state.is_over:
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
        if self.run is not None and self.is_own:
            self.run.close()

    def _go(self, action: Callable[[], object]) -> None:
        is_started = self._do(action, "Starting the run")
        self._is_started_here = is_started or self.is_own
        self._look()
        if is_started:
            self.began.emit()

    def _do(self, action: Callable[[], object], what: str) -> bool:
        try:
            action()
        except (ValueError, OSError) as error:
            self.failed.emit(failure_text(error, what))
            return False
        return True
