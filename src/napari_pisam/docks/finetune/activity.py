"""One thing at a time that takes long, in a worker. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.finetune.collecting import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.jobs import StartJob


class Activity:
    """What is being done in a worker.

    Parameters
    ----------
    start_job : StartJob

    Attributes
    ----------
    title, detail : str
        What it is and how far it is; empty where nothing is done.
    changed : Signal()
        It began or ended.
    failed : Signal(str)
        A sentence for the user.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, start_job: StartJob) -> None:
        self._start_job = start_job
        self._job: Any = None
        self.title = self.detail = ""

    def tell(self, text: str) -> None:
        """Say how far it is; may be called in the worker, is shown at the next look."""
        self.detail = text

    def cancel(self) -> None:
        """Ask it to end soon."""
        if self._job is not None:
            self._job.cancel()

    def begin(self, title: str, job: Callable[..., Any], then: Callable[[Any], None]) -> None:
        """Do ``job(report, cancelled)`` in a worker and ``then(result)`` on the main thread."""

        def over() -> None:
            self._job, self.title, self.detail = None, "", ""

        def done(result: Any) -> None:
            over()
            then(result)
            self.changed.emit()

        def failed(error: BaseException) -> None:
            over()
            self.failed.emit(sentence(error, title))
            self.changed.emit()

        self.title = title
        self.changed.emit()
        started = self._start_job(f"Pi-SAM: {title.lower()}", job, done, failed)
        # With an executor that does it at once, it is over already.
        self._job = started if self.title else None
