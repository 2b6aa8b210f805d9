"""How long one image takes on this machine: measured once, and kept until the machine changes."""

from __future__ import annotations

import json
import math
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.images.files import write_text
from napari_pisam.weights.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_BYTES = 64 * 1024


def describe_machine() -> dict[str, Any]:
    """Describe the processor and the system, as far as that is known without loading torch."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = named[0] if named else name
    return {
        "cpu": name or platform.machine(),
        "logical_cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def kept_seconds() -> dict[str, float]:
    """Seconds from an image to the mask of its first box, by variant, as measured here before.

    Empty after a change of processor or torch: what was measured then says nothing of now.
    """
    path = _file()
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict) or values.get("machine") != _machine():
        return {}
    seconds = values.get("seconds")
    if not isinstance(seconds, dict):
        return {}
    return {
        name: float(number)
        for name, number in seconds.items()
        if isinstance(number, (int, float)) and math.isfinite(number) and number > 0
    }


def keep_seconds(measured: Mapping[str, float]) -> None:
    """Keep what was measured, by variant.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"machine": _machine(), "seconds": kept_seconds() | dict(measured)}
    write_text(path, json.dumps(values, indent=1) + "\n")


def _file() -> Path:
    return cache_folder() / "timings.json"


def _machine() -> dict[str, Any]:
    known = describe_machine()
    about = {key: known[key] for key in ("cpu", "logical_cpus", "system")}
    return about | {"torch": metadata.version("torch")}
