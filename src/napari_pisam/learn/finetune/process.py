"""The process that trains: started with little priority, told what to do through its input.

Its input is a pipe that closes when the program that started it ends, in whatever way and on every
system; nothing has to be polled for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.learn.finetune.layout import OUTPUT, disk_full
from napari_pisam.system import background_process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

MODULE = "napari_pisam.learn.finetune"
DISK_FULL, REFUSED = 73, 65
"""Exit codes, for where nothing can be written any more."""

_TAIL = 4000


class Child:
    """A running child; see `start`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.was_killed = False
        # Whoever lets go of it without a word: it hears that, saves and ends, and is cleared away.
        weakref.finalize(self, _close, process.stdin)
        threading.Thread(target=process.wait, name="pisam-child", daemon=True).start()

    @classmethod
    def start(cls, folder: Path, output: Path, options: Sequence[str] = ()) -> Child:
        """Start a child that works on a run.

        Parameters
        ----------
        folder : Path
            Of the run; also where it works, so that no module is found by accident where the
            user happens to be.
        output : Path
            File for what it prints.
        options : sequence of str
            Further arguments.

        Raises
        ------
        ValueError
            If it cannot be started.
        """
        command = [sys.executable, "-m", MODULE, str(folder.absolute()), "--child", *options]
        try:
            with output.open("ab") as file:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=_environment(),
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    **background_process(),
                )
        except OSError as error:
            raise ValueError(
                f"No process can be started for the training ({error}). Close other programs."
            ) from error
        return cls(process)

    def send(self, command: str) -> None:
        """Tell it ``pause``, ``resume`` or ``stop``; one that is gone hears nothing."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(OSError):
                pipe.write(f"{command}\n".encode())
                pipe.flush()

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self.was_killed = True
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self.close()

    def wait(self, timeout: float) -> bool:
        """Wait for its end; false if the time is over before."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Close its input: it saves and ends."""
        _close(self._process.stdin)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


def _environment() -> dict[str, str]:
    """Let the child find the package where this program found it."""
    environment = dict(os.environ)
    root = str(Path(__file__).parents[3])
    known = environment.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join([root, *(path for path in known if path)])
    # Its output is a file; what it says last must not wait in a buffer.
    environment["PYTHONUNBUFFERED"] = "1"
    # Threads that wait must not keep the cores from the program that a user looks at, nor, where
    # that keeps a core busy, from each other.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def how_it_ended(code: int, folder: Path) -> str:
    """Say why a child ended that did not say so itself."""
    if code == DISK_FULL:
        return disk_full(folder)
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        out_of_memory = name == "SIGKILL"
        why = "most likely because the memory was full" if out_of_memory else f"by {name}"
        advice = (
            "Close other programs, or let less learn, with a smaller batch, then go on with Resume."
            if out_of_memory
            else f"What it said last is in {folder / OUTPUT}. Go on with Resume."
        )
        return (
            f"The training was ended by the system, {why}. All until its last save is kept. "
            f"{advice}"
        )
    last = _last_words(folder / OUTPUT)
    said = f" It said: {last}" if last else ""
    return f"The training ended with exit code {code}.{said} The rest is in {folder / OUTPUT}."


def _last_words(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else ""
