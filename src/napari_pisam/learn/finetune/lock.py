"""Who works on a run: a lock of the operating system, which ends with the process that holds it.

It is advisory, and it is gone with its process, in whatever way that ends. What is written in the
file only says whom to ask; it is the lock that counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from napari_pisam.learn.finetune.layout import is_alive

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = "lock"

# Beyond what is written: on Windows, what is locked cannot be read by others.
_PLACE = 1 << 30
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

        Where the file system knows no locks, a run's sign of life is what is left to go by.
        """
        try:
            file = (self.folder / NAME).open("r+b")
        except FileNotFoundError:
            # Not "w": that would empty what another one wrote between the two.
            file = (self.folder / NAME).open("a+b")
        for _ in range(_TRIES):
            is_mine = _lock(file)
            if is_mine is not False:
                break
            time.sleep(_PAUSE)
        if is_mine is False or (is_mine is None and is_alive(self.folder)):
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
        """Give it back. The file stays: removing it would leave two locks of one name."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            _unlock(self._file)
            self._file.close()
            self._file = None


def is_held(folder: Path) -> bool:
    """Whether a process works on a run."""
    try:
        with (folder / NAME).open("r+b") as file:
            is_free = _lock(file)
            if is_free:
                _unlock(file)
    except OSError:  # nobody ever worked on it, or it can only be read
        is_free = None
    return is_alive(folder) if is_free is None else not is_free


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
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known: dict[str, Any] = json.loads((folder / NAME).read_bytes())
        who = f"process {known['pid']} on {known['host']}, since {known['since']}"
    return (
        f"The run in {folder} is going on already ({who}). Stop it where it was started, or wait "
        "for its end."
    )


def _lock(file: IO[bytes]) -> bool | None:
    """Try to lock; None where the file system cannot say."""
    try:
        if sys.platform == "win32":
            file.seek(_PLACE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            # By open file, not by process: two handles of one program exclude each other, too.
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _unlock(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            file.seek(_PLACE)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
