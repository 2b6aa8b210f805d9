"""The files of a run's folder, and small JSON files that are whole at any moment."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import PurePosixPath
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
PROBE = "probe.json"
LOG = "log.csv"
OUTPUT = "child.log"
BEST, LAST, CHECKPOINT = "best.safetensors", "last.safetensors", "last.pt"
PREVIEW = "preview"
REPORT = "report.html"

FORMAT = 1

FAILED = "Training failed."

_TRIES = 20
_MOST_BYTES = 64 << 20
_LARGEST = 1e15
"""Numbers of a run's files are below this; what is not is no number of ours."""


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none, or not a whole one."""
    # On Windows a file cannot be read in the moment in which it is replaced.
    for _ in range(_TRIES):
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            content = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            time.sleep(0.002)
        except (OSError, ValueError, RecursionError, MemoryError):
            return None
        else:
            return content if isinstance(content, dict) else None
    return None


# What is in a run's folder may come from anywhere: a value of another type counts as absent.


def number(value: Any) -> float | None:
    """Return a finite number of a JSON file; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Compared first: a number of a thousand digits is no float.
    return float(value) if abs(value) < _LARGEST else None


def count(value: Any) -> int:
    """Return a whole number of a JSON file, at least 0; 0 for anything else."""
    known = number(value)
    return 0 if known is None else max(0, int(known))


def text(value: Any) -> str:
    """Return a text of a JSON file; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def dicts(value: Any) -> list[dict[str, Any]]:
    """List the objects in a list of a JSON file; none for anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def picture_inside(folder: Path, name: Any) -> Path | None:
    """Return the path of a picture that a run's file names; None for one outside its previews."""
    parts = PurePosixPath(name).parts if isinstance(name, str) and "\\" not in name else ()
    is_ours = len(parts) == 2 and parts[0] == PREVIEW and parts[1].endswith(".png")
    return folder / PREVIEW / parts[1] if is_ours else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    written = json.dumps(content)
    for attempt in range(_TRIES):
        try:
            with replacing(path) as part:
                part.write_text(written, encoding="utf-8")
        except PermissionError:  # on Windows: somebody reads it
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.01)
        else:
            return


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that there is no room left."""
    full = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        # torch and safetensors lose the number; torch often the text as well.
        signs = (os.strerror(errno.ENOSPC), "unexpected pos", "inline_container", "PytorchStreamW")
        if any(sign in str(error) for sign in signs):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(folder: Path) -> str:
    """Say that there is no room left."""
    return (
        f"The disk of {folder} is full. What was best so far is kept; free some space, then go on "
        "with Resume."
    )
