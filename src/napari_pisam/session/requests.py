"""One running prediction and one waiting slot.

The newest request replaces the waiting one. The running one is not interrupted, but may end itself
where something else has come (`Requests.is_overtaken`). Results of an older epoch are dropped. The
epoch is raised by what makes results meaningless, not by each click:
then a person who clicks faster than the model predicts still sees something.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

Execute: TypeAlias = Callable[
    [Callable[[], Any], Callable[[Any], None], Callable[[BaseException], None]], None
]
"""``execute(job, done, failed)`` runs ``job()`` in the background and then calls ``done(result)``
or ``failed(error)`` on the main thread, once."""


class Overtaken(Exception):
    """Raised by a job that is not wanted any more; nobody is told of it."""


@dataclass(frozen=True, eq=False)
class Request:
    """Something to be computed in the background.

    Attributes
    ----------
    key : hashable
        Whom it is for.
    start : callable
        Gives the job; called on the main thread when its turn has come.
    done, failed : callable
        Called on the main thread with the result or the error.
    """

    key: Hashable
    start: Callable[[], Callable[[], Any]]
    done: Callable[[Any], None]
    failed: Callable[[BaseException], None]


class Requests:
    """The slots; to be used from the main thread only.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background.
    busy : callable
        Called with True when there begins to be something to do, and with False when all is done.
    """

    def __init__(self, execute: Execute, busy: Callable[[bool], None]) -> None:
        self._execute = execute
        self._busy = busy
        self._is_busy = False
        self._running: Request | None = None
        self._kept: deque[Request] = deque()
        self._waiting: Request | None = None
        self._idle: Request | None = None
        self._is_pumping = False
        self.epoch = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything runs or waits."""
        queued = self._kept or self._waiting is not None or self._idle is not None
        return self._running is not None or bool(queued)

    def is_overtaken(self, epoch: int, *, but_waits: bool = False) -> bool:
        """Whether what runs since an epoch will give nothing, or holds up what is newer.

        To be called from any thread; `but_waits`: it is held up, as what runs must not be lost.
        """
        is_waited_for = self._waiting is not None or bool(self._kept)
        return epoch != self.epoch or (is_waited_for and not but_waits)

    def submit(self, request: Request) -> None:
        """Run now, or next in place of what waits."""
        self._waiting = request
        self._pump()

    def submit_kept(self, request: Request) -> None:
        """Run now or soon, and let nothing take its place; what waits for the same key is older."""
        self._kept.append(request)
        self.drop(request.key, kept=False)
        self._pump()

    def submit_when_idle(self, request: Request) -> None:
        """Run when there is nothing else to do; one at a time."""
        self._idle = request
        self._pump()

    def drop(self, key: Hashable, *, kept: bool = True) -> None:
        """Forget what waits for somebody; what runs is not stopped."""
        if self._waiting is not None and self._waiting.key == key:
            self._waiting = None
        if kept:
            self._kept = deque(request for request in self._kept if request.key != key)
        self._report()

    def drop_idle(self) -> None:
        """Forget what was to run when there is nothing else to do."""
        self._idle = None
        self._report()

    def invalidate(self) -> None:
        """Begin a new epoch: nothing that waits will run, what runs will give nothing."""
        self.epoch += 1
        self._waiting = self._idle = None
        self._kept.clear()
        self._report()

    def _take(self) -> Request | None:
        if self._kept:
            return self._kept.popleft()
        request, self._waiting = self._waiting, None
        if request is None:
            request, self._idle = self._idle, None
        return request

    def _pump(self) -> None:
        # A loop and no recursion: a job that ends at once would start the next one from within.
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._running is None and (request := self._take()) is not None:
                self._start(request)
        finally:
            self._is_pumping = False
            self._report()

    def _start(self, request: Request) -> None:
        self._running = request
        epoch = self.epoch
        self._report()

        def finish(receive: Callable[[Any], None], value: Any) -> None:
            if self._running is not request:
                return
            self._running = None
            try:
                if epoch == self.epoch:
                    receive(value)
            finally:
                self._pump()

        try:
            job = request.start()
            self._execute(
                job,
                lambda result: finish(request.done, result),
                lambda error: finish(request.failed, error),
            )
        except RuntimeError as error:
            # An executor that was shut down says so by raising.
            if self._running is not request:
                raise
            finish(request.failed, error)

    def _report(self) -> None:
        if self.is_busy != self._is_busy and not (self._is_pumping and self._running is None):
            self._is_busy = self.is_busy
            self._busy(self._is_busy)


def failure_sentence(error: BaseException, what: str = "The prediction") -> str:
    """Say in a sentence or two what failed and what to do; the prompts are always kept.

    Parameters
    ----------
    error : BaseException
        What was raised.
    what : str
        What failed, the sentence's subject.
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"{what} failed: not enough memory ({reason}). Close other programs or choose a "
            "smaller model; your prompts are kept."
        )
    if isinstance(error, OSError):
        return (
            f"{what} failed: {reason}. Check the disk and that the image's file is still there; "
            "your prompts are kept."
        )
    if isinstance(error, ValueError):
        # These say themselves what to do.
        return reason
    name = type(error).__name__
    return f"{what} failed ({name}: {reason}). Your prompts are kept; change one to try again."
