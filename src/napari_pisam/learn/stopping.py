"""Ctrl-C and termination as a question that the training loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM ask for an end; the yielded question tells whether one came.

    The second signal of a kind ends the process as it always did. Outside of the main thread,
    where Python delivers no signals, it changes nothing.
    """
    came: list[int] = []
    before: dict[int, Any] = {}

    def restore(number: int) -> None:
        handler = before.pop(number, None)
        # None: it was not set by Python, and cannot be set back from it.
        if handler is not None:
            signal.signal(number, handler)

    def handle(number: int, _frame: object) -> None:
        came.append(number)
        restore(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield lambda: bool(came)
    finally:
        for left in list(before):
            restore(left)


def leave_signals_to_the_parent(worker: int) -> None:
    """Let a loader's process outlive Ctrl-C, which a terminal sends to all, until it is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
