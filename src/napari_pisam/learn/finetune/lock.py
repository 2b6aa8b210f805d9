"""Who works on a run: a lock of the operating system, which ends with the process that holds it.

It alone tells whether a run goes on. It is advisory, and it is gone with its process, in whatever
way that ends. What is written in the file only says whom to ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from typing import IO, TYPE_CHECKING

from napari_pisam.system import lock_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = "lock"

# Who looks whether it is locked holds it for a moment.
_TRIES, _PAUSE = 40, 0.025


class RunLock:
    """The right to work on a run.

    Parameters
    ----------
    folder : Path
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock; false where another one has it, in this process or elsewhere.

        A file system that knows no locks protects nothing: then everybody gets it.
        """
        if self._file is not None:
            return True
        try:
            file = (self.folder / NAME).open("r+b")
        except FileNotFoundError:
            # Not "w": that would empty what another one wrote between the two.
            file = (self.folder / NAME).open("a+b")
        for _ in range(_TRIES):
            is_mine = lock_file(file.fileno())
            if is_mine is not False:
                break
            time.sleep(_PAUSE)
        if is_mine is False:
            file.close()
            return False
        about = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%H:%M")}
        with contextlib.suppress(OSError):  # a full disk
            file.truncate(0)
            file.seek(0)
            file.write(json.dumps(about).encode())
            file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Release it. The file stays: removing it would leave two locks of one name."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None


def is_held(folder: Path) -> bool:
    """Whether a process works on a run."""
    try:
        with (folder / NAME).open("r+b") as file:
            return lock_file(file.fileno()) is False
    except OSError:  # nobody ever worked on it, or it can only be read
        return False


def refuse_if_held(folder: Path) -> None:
    """Check that nobody works on a run.

    Raises
    ------
    ValueError
        If somebody does, with who it is.
    """
    if is_held(folder):
        raise ValueError(taken(folder))


def taken(folder: Path) -> str:
    """Say that a run is going on, and who does it."""
    who = "another process"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        known = json.loads((folder / NAME).read_bytes()[:1000])
        who = f"process {known['pid']} on {known['host']}, since {known['since']}"
    return (
        f"The run in {folder} is going on already ({who}). Stop it where it was started, or wait "
        "for its end."
    )
