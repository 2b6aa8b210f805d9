"""What a person can do in the Fine-tune dock, as plain calls.

Usable without the dock: from napari's console, or from a test with jobs of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.finetune.learning_set import LearningSet
from napari_pisam.docks.finetune.run_control import RunControl
from napari_pisam.docks.finetune.texts import failure_text
from napari_pisam.docks.jobs import Activity
from napari_pisam.docks.wording import memory_text
from napari_pisam.learn.finetune.settings import FineTuneSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.finetune.learning_set import SegmentLink
    from napari_pisam.docks.finetune.run_control import TrainingBackend
    from napari_pisam.docks.jobs import Cancelled, Report, StartJob

CHECKING, PREPARING, EXPORTING = "Checking", "Preparing the run", "Exporting the weights"


class FineTuneController:
    """The commands of the Fine-tune dock.

    What goes wrong is told by ``failed`` (or ``hinted``) and never raised: these are called by
    buttons.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers are learned from.
    start_job : StartJob
        Runs a long job in a worker and delivers on the main thread.
    backend : TrainingBackend
        What trains.
    link : callable
        Gives *Segment*; ``link(True)`` opens it where it is not open, ``link(False)`` gives None.

    Attributes
    ----------
    learning : LearningSet
        The objects and their parts.
    runner : RunControl
        The run that is shown.
    values : dict
        The settings that are not at their defaults.
    check_result : Preflight or None
        Of the objects and settings as they are; None where they were not checked.
    activity : Activity
        What is being done in a worker before, or after, a run.
    changed : Signal()
        What there is or can be done may have changed.
    checked : Signal(object)
        A check found nothing against a run: the `Preflight`.
    failed, hinted : Signal(str)
        A sentence that the user has to see, or that is good to know.
    """

    changed = Signal()
    checked = Signal(object)
    failed = Signal(str)
    hinted = Signal(str)

    def __init__(
        self,
        viewer: Any,
        start_job: StartJob,
        backend: TrainingBackend,
        link: Callable[[bool], SegmentLink | None] = lambda open_it: None,
    ) -> None:
        self._viewer, self._start_job, self._backend, self._link = viewer, start_job, backend, link
        self.learning = LearningSet(start_job)
        self.runner = RunControl(backend)
        self.values: dict[str, Any] = {}
        self.check_result: Any = None
        self.activity = Activity(start_job, failure_text)
        self._revision = 0
        self.learning.changed.connect(self._on_edited)
        self.learning.activity.changed.connect(self.changed.emit)
        for failing in (self.learning, self.runner, self.activity):
            failing.failed.connect(self.failed.emit)
        self.activity.changed.connect(self.changed.emit)
        self.learning.hinted.connect(self.hinted.emit)

    # -- what to learn from, and how ----------------------------------------------------------

    def add_session(self, *, is_asked: bool = True) -> None:
        """Take what was committed in *Segment*, with its clicks."""
        self.learning.add_session(self._link(False), is_asked=is_asked)

    def add_layers(self, image: Any, labels: Any, *, all_slices: bool = False) -> None:
        """Take an image layer with the Labels layer that belongs to it."""
        self.learning.add_layers(image, labels, self._viewer.dims, all_slices=all_slices)

    def add_folders(self, images: Path, masks: Path) -> None:
        """Take a folder of images and one of masks of the same names."""
        self.learning.add_folders(images, masks)

    def set_values(self, values: dict[str, Any]) -> None:
        """Choose settings; those left out are at their defaults."""
        if values != self.values:
            self.values = dict(values)
            self._on_edited()

    def _on_edited(self) -> None:
        self._revision += 1
        self.check_result = None
        self.changed.emit()

    @property
    def objects_summary(self) -> str:
        """How many objects are used for what, or why there are none."""
        if self.runner.is_active and not self.learning.rows:
            return "The run that is shown has its own copies of its objects."
        return self.learning.summary

    # -- check and start ----------------------------------------------------------------------

    @property
    def is_occupied(self) -> bool:
        """Whether a run goes on or waits, or one is being checked or prepared."""
        return self.activity.is_busy or self.runner.is_own or self.learning.activity.is_busy

    def check(self, then: Callable[[], None] = lambda: None) -> None:
        """Find out whether a run can work, and what it needs; nothing is kept of it.

        Parameters
        ----------
        then : callable
            Called where nothing speaks against it.
        """
        settings = None if self.is_occupied else self._settings()
        if settings is None:
            return
        images, rows, revision = *self._objects_in_use(), self._revision
        self.hinted.emit("")

        def job(report: Report, cancelled: Cancelled) -> Any:
            self._fetch(settings.base, report, cancelled)
            if cancelled():
                return None
            tell = self.activity.tell
            result = self._backend.preflight(
                settings, images, rows, cancel=cancelled, progress=tell
            )
            return None if cancelled() else result

        def done(result: Any) -> None:
            if result is None:
                self.hinted.emit("The check was given up; nothing was started.")
            elif revision != self._revision:
                self.hinted.emit("Objects or settings were changed meanwhile. Check again.")
            else:
                self.check_result = result
                if result.problems:
                    self.failed.emit(" ".join(result.problems))
                else:
                    self.checked.emit(result)
                    then()

        self.activity.begin(CHECKING, job, done)

    def start(self) -> None:
        """Begin a new run, checked before where that was not done."""
        if self.is_occupied:
            self.hinted.emit("A run is going on. Stop it before you start another one.")
        elif self.check_result is not None and self.check_result.ok:
            self._create()
        else:
            self.check(self._create)

    def stop(self) -> None:
        """End the run, or give up what is being checked or read."""
        if self.activity.is_busy:
            self.activity.cancel()
        elif self.learning.activity.is_busy:
            self.learning.activity.cancel()
        else:
            self.runner.stop()

    def _settings(self) -> Any:
        missing = self._backend.missing_packages()
        problems = self.learning.problems
        if missing:
            problems = [
                f"Training needs {' and '.join(missing)}. Install what is missing with "
                "pip install 'napari-pisam[train]', and start napari again."
            ]
        if problems:
            self.failed.emit(" ".join(problems))
            return None
        try:
            return FineTuneSettings.checked(self.values)
        except ValueError as error:
            self.failed.emit(f"These settings do not work: {error}")
            return None

    def _fetch(self, base: str, report: Report, cancelled: Cancelled) -> None:
        """Download a public base that is not here; returns early where it is cancelled."""

        def tell(done: int, total: int | None) -> None:
            whole = "" if total is None else f" of {memory_text(total)}"
            self.activity.tell(f"downloading {base}, {memory_text(done)}{whole}")
            report(done, total)

        try:
            self._backend.fetch(base, tell, cancelled)
        except Exception:
            if not cancelled():
                raise

    def _objects_in_use(self) -> tuple[list[Any], list[Any]]:
        return self.learning.used_images, list(self.learning.rows)

    def _create(self) -> None:
        settings = self._settings()
        if settings is None:
            return
        images, rows = self._objects_in_use()
        self.activity.begin(
            PREPARING,
            lambda _report, _cancelled: self._backend.create(settings, images, rows),
            self.runner.begin,
        )

    # -- the result ---------------------------------------------------------------------------

    def use(self) -> None:
        """Take the result into *Segment*; prompts and labels stay, nothing is restarted."""
        state = self.runner.state
        if state is None or state.best_weights is None:
            self.hinted.emit("There are no weights that are better than the base.")
            return
        link = self._link(True)
        if link is None:
            return
        if link.use(state.best_weights, str(self.values.get("device", "auto"))):
            name = state.best_weights.parent.name
            self.hinted.emit(f"Segment loads {name}. Boxes, clicks and labels stay.")
        else:
            self.hinted.emit("Segment is loading a model. Wait for it, then press Use it again.")

    def take_up(self) -> None:
        """Show the newest run where it did not come to its end; *Resume* goes on with it."""
        text = self.runner.take_up()
        if text:
            self.hinted.emit(text)

    def export(self, path: Path) -> None:
        """Copy the result's weights to a file, with where they come from."""
        self.activity.begin(
            EXPORTING,
            lambda _report, _cancelled: self.runner.export(path),
            lambda _written: self.hinted.emit(f"Weights written to {path.name}."),
        )

    def close(self) -> None:
        """Let go: a run's process saves and ends, and it can be gone on with another time."""
        self.activity.cancel()
        self.learning.activity.cancel()
        self.runner.close()
