"""The files of a run's folder, and small JSON files that are whole at any moment."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import TYPE_CHECKING, Any

from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

RUN = "run.json"
"""What the run is; written last, so that a folder with it is complete."""
SETTINGS = "config.toml"
OBJECTS = "data/objects.json"
IMAGES, MASKS = "data/images", "data/masks"
STATE = "state.json"
"""What the child says of itself."""
ALIVE = "alive"
"""Touched by the child as long as it lives."""
PROBE = "probe.json"
LOG = "log.csv"
POINTS = "validation.csv"
OUTPUT = "child.log"
BEST, LAST, CHECKPOINT = "best.safetensors", "last.safetensors", "last.pt"
PREVIEW = "preview"
REPORT = "report.html"

FORMAT = 1

DEAD_AFTER = 6.0
"""Seconds without a sign of life after which a child is taken for dead."""

_TRIES = 20


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none, or not a whole one."""
    # On Windows a file cannot be read in the moment in which it is replaced.
    for _ in range(_TRIES):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            time.sleep(0.002)
        except (OSError, ValueError):
            return None
        else:
            return content if isinstance(content, dict) else None
    return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    text = json.dumps(content)
    for attempt in range(_TRIES):
        try:
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8")
        except PermissionError:  # on Windows: somebody reads it
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.01)
        else:
            return


def say_starting(folder: Path) -> None:
    """Write down that a process begins to work on a run; what went wrong before is no news."""
    news = {"status": "starting", "message": "Starting", "error": ""}
    with contextlib.suppress(OSError):
        write_json(folder / STATE, (read_json(folder / STATE) or {}) | news)


def is_alive(folder: Path) -> bool:
    """Whether a child works in a folder."""
    with contextlib.suppress(OSError):
        return time.time() - (folder / ALIVE).stat().st_mtime < DEAD_AFTER
    return False


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that there is no room left."""
    full = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        # torch and safetensors lose the number, not the text.
        if os.strerror(errno.ENOSPC) in str(error) or "unexpected pos" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(folder: Path) -> str:
    """Say that there is no room left."""
    return (
        f"The disk of {folder} is full. What was best so far is kept; free some space, then go on "
        "with Resume."
    )
