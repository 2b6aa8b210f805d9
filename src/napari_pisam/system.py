"""What differs between Linux, macOS and Windows: one function for each difference.

Each looks at `sys.platform` when it is called, so that tests simulate the other systems.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Beyond what is written: on Windows, what is locked cannot be read by others.
_LOCKED_BYTE = 1 << 40
# How long a file that is open elsewhere is waited for: a virus scanner or an indexer lets go soon.
_TRIES, _PAUSE = 20, 0.05  # s
_AUTOGROUP = Path("/proc/self/autogroup")
_STATUS = Path("/proc/self/status")


def user_folder(name: str, variable: str) -> Path:
    """Find where something is kept: where the variable says, else below the user's data folder.

    Parameters
    ----------
    name : str
        Of the folder, e.g. ``"runs"``.
    variable : str
        Of the environment; an empty one counts as none.
    """
    if given := os.environ.get(variable):
        path = Path(given)
        with contextlib.suppress(RuntimeError):  # a user who has no home
            path = path.expanduser()
        return path
    from platformdirs import user_data_dir

    return Path(user_data_dir("napari-pisam", appauthor=False)) / name


def open_files_stay() -> bool:
    """Whether a file that is open can be neither renamed nor removed, even by its own process."""
    return sys.platform == "win32"


def move_into_place(part: Path, path: Path) -> None:
    """Give a file its final name, replacing what has it.

    Raises
    ------
    OSError
        If that cannot be: on Windows also where another program goes on having the old file open.
    """
    for left in reversed(range(_TRIES if open_files_stay() else 1)):
        try:
            os.replace(part, path)
        except PermissionError:
            if not left:
                raise
            time.sleep(_PAUSE)
        else:
            return


def lock_file(descriptor: int) -> bool | None:
    """Lock an open file against other holders, until it is closed.

    Parameters
    ----------
    descriptor : int
        Of the open file. The lock is this opening's: two of one process exclude each other, too.

    Returns
    -------
    bool or None
        False where another one has it, None where the file system knows no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, place, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def background_process() -> dict[str, Any]:
    """Return `subprocess.Popen`'s options for a child that lets others go first.

    Ctrl-C in the terminal that started napari is not meant for it. Where the child lowers its
    priority itself, see `lower_priority`.
    """
    if sys.platform == "win32":
        return {
            "creationflags": subprocess.BELOW_NORMAL_PRIORITY_CLASS
            | subprocess.CREATE_NO_WINDOW
            | subprocess.CREATE_NEW_PROCESS_GROUP
        }
    return {"start_new_session": True}


def lower_priority(nice: int) -> None:
    """Let other programs go first; on Windows the parent has seen to it.

    Parameters
    ----------
    nice : int
        By how much.
    """
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(nice)
    # Where Linux shares the processor among sessions first, niceness counts only within one: a
    # process with a session of its own has to lower that.
    if _AUTOGROUP.exists() and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            _AUTOGROUP.write_text(str(nice), encoding="ascii")


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, bytes; None where nothing tells."""
    if _STATUS.is_file():
        # Unlike ru_maxrss, this starts anew when a process starts another program.
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(ImportError):
        if sys.platform == "win32":
            return int(importlib.import_module("psutil").Process().memory_info().peak_wset)
        peak = int(importlib.import_module("resource").getrusage(0).ru_maxrss)
        return peak if sys.platform == "darwin" else peak * 1024
    return None


def has_display() -> bool:
    """Whether a window can be seen; macOS and Windows always have one."""
    if not sys.platform.startswith("linux"):
        return True
    if os.environ.get("QT_QPA_PLATFORM") in {"offscreen", "minimal"}:
        return False
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
