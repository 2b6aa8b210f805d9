"""Long jobs of the docks, whoever runs them; `widgets.background` does it with Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

Report: TypeAlias = "Callable[[int, int | None], None]"
"""Called by a job with (done, in all or None)."""

Cancelled: TypeAlias = "Callable[[], bool]"
"""Asked by a job; true means that it should end soon."""


class StartJob(Protocol):
    """`Background.start`: runs a long job in a worker and delivers on the main thread."""

    def __call__(
        self,
        title: str,
        job: Callable[..., Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> Any:
        """Start ``job(report, cancelled)``."""


class Activity:
    """What is being done in a worker, one thing at a time.

    Parameters
    ----------
    start_job : StartJob
    explain : callable
        Makes a sentence of an error and of what failed.

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

    def __init__(self, start_job: StartJob, explain: Callable[[BaseException, str], str]) -> None:
        self._start_job, self._explain = start_job, explain
        self._job: Any = None
        self.title = self.detail = ""

    @property
    def is_busy(self) -> bool:
        """Whether something is being done."""
        return bool(self.title)

    def tell(self, text: str) -> None:
        """Say how far it is; may be called in the worker, is shown at the next look."""
        self.detail = text

    def cancel(self) -> None:
        """Ask it to end soon."""
        if self._job is not None:
            self._job.cancel()

    def begin(self, title: str, job: Callable[..., Any], then: Callable[[Any], None]) -> None:
        """Do ``job(report, cancelled)`` in a worker and ``then(result)`` on the main thread."""

        def done(result: Any) -> None:
            self._end()
            then(result)
            self.changed.emit()

        def failed(error: BaseException) -> None:
            self._end()
            self.failed.emit(self._explain(error, title))
            self.changed.emit()

        self.title = title
        self.changed.emit()
        started = self._start_job(f"Pi-SAM: {title.lower()}", job, done, failed)
        # With an executor that does it at once, it is over already.
        self._job = started if self.title else None

    def _end(self) -> None:
        self._job, self.title, self.detail = None, "", ""
