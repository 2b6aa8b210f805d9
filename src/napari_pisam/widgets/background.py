"""Work off the GUI thread: one thread for predictions, napari's workers for what takes long.

Everything that comes back is called on the GUI thread, and nothing comes back after `stop`.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal

from napari_pisam.widgets.text import untagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.jobs import Cancelled, Report

_T = TypeVar("_T")

# napari's progress bars and ours need not be redrawn for every 256 kB that arrive.
_REPORT_EVERY = 0.05  # s


class _Courier(QObject):
    """Carries a call to the thread it was made in."""

    sent = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.sent.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def send(self, call: Callable[[], None]) -> None:
        # Qt may be gone already when a thread ends.
        with suppress(RuntimeError):
            self.sent.emit(call)

    def _call(self, call: Callable[[], None]) -> None:
        call()


class LongJob:
    """A job in a napari worker; made by `Background.start`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._cancel = threading.Event()
        self._bar: Any = None
        self._closed = False

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked it to end."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask the job to end; its `failed` or `done` is called as ever."""
        self._cancel.set()

    def show(self, done: int, total: int | None) -> None:
        """Show how far it is in napari's activity dock, from the first time on."""
        from napari.utils import progress

        if self._closed:
            return
        if self._bar is None:
            # Not before there is something to show: napari draws its whole window, twice, to open
            # a bar, and that takes a third of a second while torch is being imported.
            self._bar = progress(total=0, desc=untagged(self.title))
        if total and self._bar.total != total:
            self._bar.reset(total=total)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take it out of the activity dock."""
        if not self._closed:
            self._closed = True
            if self._bar is not None:
                self._bar.close()


class Background:
    """Runs jobs off the GUI thread. Make it on the GUI thread.

    Examples
    --------
    ``session = Session(background.execute)``
    """

    def __init__(self) -> None:
        self._courier = _Courier()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pisam-predict")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="pisam-disk")
        self._jobs: set[LongJob] = set()
        self._stopped = False
        application = QCoreApplication.instance()
        if application is not None:
            # A dock's closeEvent does not always come when napari quits.
            application.aboutToQuit.connect(self.stop)

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def execute(
        self,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Run jobs one after the other in a thread; deliver on the GUI thread."""
        self._submit(self._pool, job, done, failed)

    def write(
        self,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Do the same in a thread for files, which predictions do not wait for."""
        self._submit(self._disk, job, done, failed)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        if self._stopped:
            return
        pool.submit(job).add_done_callback(
            lambda finished: self._courier.send(lambda: self._deliver(finished, done, failed))
        )

    def _deliver(
        self,
        future: Future[Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        if self._stopped or future.cancelled():
            return
        error = future.exception()
        if error is None:
            done(future.result())
        else:
            failed(error)

    def start(
        self,
        title: str,
        job: Callable[[Report, Cancelled], _T],
        done: Callable[[_T], None],
        failed: Callable[[BaseException], None],
        on_progress: Report | None = None,
    ) -> LongJob:
        """Run a long job in a napari worker; what it reports is shown in napari's activity dock.

        Parameters
        ----------
        title : str
            What the activity dock shows.
        job : callable
            Called in the worker with (report, cancelled).
        done, failed : callable
            Called with the result or the error, on the GUI thread.
        on_progress : callable, optional
            Called with (done, in all or None), on the GUI thread, at most 20 times a second.
        """
        from napari.qt.threading import create_worker

        running = LongJob(title)
        self._jobs.add(running)
        future: Future[_T] = Future()

        def show(count: int, total: int | None) -> None:
            if not self._stopped and running in self._jobs:
                running.show(count, total)
                if on_progress is not None:
                    on_progress(count, total)

        def finish() -> None:
            self._jobs.discard(running)
            running.close()
            self._deliver(future, done, failed)

        report = _seldom(lambda *counts: self._courier.send(lambda: show(*counts)))

        def perform() -> None:
            # The worker itself never fails: napari would show its traceback beside our sentence.
            settle(future, lambda: job(report, lambda: running.is_cancelled))
            self._courier.send(finish)

        # napari remembers every worker for as long as it lives: ours hold nothing once they ran.
        to_do = [perform]

        def work() -> None:
            to_do.pop()()

        # Made right before it starts: napari counts it as busy from then on.
        create_worker(work, _start_thread=True)
        return running

    def stop(self) -> None:
        """Cancel what waits and what runs, and deliver nothing any more; may be called twice."""
        if self._stopped:
            return
        self._stopped = True
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.stop)
        for job in tuple(self._jobs):
            job.cancel()
            job.close()
        self._jobs.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._disk.shutdown(wait=False)


def settle(future: Future[_T], job: Callable[[], _T]) -> None:
    """Run a job and put what comes of it into a future."""
    try:
        result = job()
    except BaseException as error:  # noqa: BLE001 - for whoever asks the future
        future.set_exception(error)
    else:
        future.set_result(result)


def _seldom(report: Report) -> Report:
    """Return a function that reports at most 20 times a second, and the end in any case."""
    last = 0.0

    def run(count: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if count == total or now - last >= _REPORT_EVERY:
            last = now
            report(count, total)

    return run
