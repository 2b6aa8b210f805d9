"""The child's side of control: what it is asked, and what it says of itself."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from napari_pisam.learn.finetune.layout import STATE, write_json
from napari_pisam.system import lower_priority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.learn.finetune.state import Status

# A user waits for the end: what is not done by then is cut off. Every file is whole at any moment.
_LAST_MOMENT = 1.0
_QUICKEST = 0.2
_NICE = 10


def make_room() -> None:
    """Let other programs go first, and have a core.

    The last core brings a step next to nothing, and the window that a user looks at much.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    lower_priority(_NICE)


class ValidationInterrupted(Exception):
    """An end or a pause was asked for in the middle of a validation."""


class Control:
    """Knows what was asked, and writes what is to be known.

    Parameters
    ----------
    folder : Path
        Of the run.
    content : dict
        What is known of the run from before.
    writes : bool
        Whether this process is the one of several that writes.
    stop : callable, optional
        True orders to save and end.
    """

    def __init__(
        self,
        folder: Path,
        content: dict[str, Any],
        *,
        writes: bool = True,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.folder = folder
        self.content = content
        self.writes = writes
        self._stop = stop
        self._changed = threading.Condition()
        self._command = ""
        self._written = 0.0
        self._lock = threading.Lock()

    # -- what is asked --------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear commands on standard input until it closes, which is an order to save and end.

        To be called when all libraries are loaded: on Windows, loading one waits for a thread
        that reads standard input.
        """
        threading.Thread(target=self._hear, name="commands", daemon=True).start()

    def _hear(self) -> None:
        for line in sys.stdin.buffer:
            command = line.decode("ascii", "replace").strip()
            if command in ("pause", "resume", "stop"):
                self.ask("" if command == "resume" else command)
        self.ask("leave")

    def ask(self, command: str) -> None:
        """Take an order: ``pause``, ``stop``, ``leave``, or nothing to go on."""
        with self._changed:
            if self._command not in ("stop", "leave"):
                self._command = command
            self._changed.notify_all()
        if command == "stop":
            timer = threading.Timer(_LAST_MOMENT, self._cut_off)
            timer.daemon = True
            timer.start()

    @property
    def command(self) -> str:
        """The order of now; empty for going on."""
        if not self._command and self._stop is not None and self._stop():
            return "leave"
        return self._command

    def check(self) -> None:
        """Leave a long computation if there is an order.

        Raises
        ------
        ValidationInterrupted
        """
        if self.command:
            raise ValidationInterrupted

    def wait_while_paused(self) -> None:
        """Wait until the order is another one than a pause."""
        with self._changed:
            while self._command == "pause":
                self._changed.wait(1.0)

    def _cut_off(self) -> None:
        step = self.content.get("step", 0)
        final = self.content.get("final_verdict", "")
        with contextlib.suppress(OSError):
            self.say("stopped", f"Stopped after step {step}.", now=True, verdict=final)
        os._exit(0)

    # -- what is said ---------------------------------------------------------------------------

    def say(self, status: Status, message: str, *, now: bool = True, **values: Any) -> None:
        """Write the state; unless it must be known now, only if the last is a moment ago.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with self._lock:
            self.content |= {"status": status, "message": message, **values}
            clock = time.monotonic()
            if not self.writes or (not now and clock - self._written < _QUICKEST):
                return
            self._written = clock
            write_json(self.folder / STATE, self.content)
