"""Ctrl-C and termination as a question that the training loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self


class StopRequest:
    """Context in which SIGINT and SIGTERM ask the loop to save and stop.

    The second signal of a kind ends the process as it always did. Outside of the main thread,
    where Python delivers no signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Tell whether a signal came."""
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in list(self._before):
            self._restore(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore(number)

    def _restore(self, number: int) -> None:
        before = self._before.pop(number, None)
        # None: it was not set by Python, and cannot be set back from it.
        if before is not None:
            signal.signal(number, before)


def leave_signals_to_the_parent(worker: int) -> None:
    """Let a loader's process outlive Ctrl-C, which a terminal sends to all, until it is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
