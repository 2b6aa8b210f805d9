"""Where runs are kept, and which there are."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_pisam.learn.finetune.layout import BEST, RUN, STATE, count, number, read_json, text
from napari_pisam.system import user_folder

if TYPE_CHECKING:
    from pathlib import Path

_VARIABLE = "NAPARI_PISAM_RUNS"


@dataclass(frozen=True)
class RunSummary:
    """One run, as a line of a list.

    Attributes
    ----------
    folder : Path
    name : str
        Of the folder.
    base : str
        Model that it started from.
    finished : bool
        Whether it came to its end, or was stopped by its user.
    created : str
        ISO 8601, local time.
    verdict : str
        A sentence on that.
    weights : Path or None
        What to load; only where it is better.
    objects : int
        How many it learnt from and validated on.
    boundary : (float, float) or None
        Boundary IoU of the base and of the best weights, on the objects that validate.
    """

    folder: Path
    name: str
    base: str
    finished: bool
    created: str
    verdict: str
    weights: Path | None
    objects: int
    boundary: tuple[float, float] | None


def default_root() -> Path:
    """Folder of all runs: ``NAPARI_PISAM_RUNS``, else below the user's data folder."""
    return user_folder("runs", _VARIABLE)


def new_folder(root: Path | None = None, title: str = "") -> Path:
    """Choose a folder for a new run, named by date, time and title; it is not made yet."""
    parent = default_root() if root is None else root
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", title).strip("-")[:40]
    name = time.strftime("%Y-%m-%d_%H%M%S") + (f"_{words}" if words else "")
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}_{number}", number + 1
    return path


def list_runs(root: Path | None = None) -> list[RunSummary]:
    """List the runs below a folder, the newest first; what is no run is left out.

    Parameters
    ----------
    root : Path, optional
        `default_root` unless given.
    """
    parent = default_root() if root is None else root
    runs = []
    # Optional folders: what may not be looked into is left out.
    with contextlib.suppress(OSError):
        for folder in parent.iterdir():
            with contextlib.suppress(OSError):
                run = summarise(folder) if folder.is_dir() else None
                runs += [run] if run is not None else []
    return sorted(runs, key=lambda run: (run.created, run.name), reverse=True)


def summarise(folder: Path) -> RunSummary | None:
    """Say in a line what became of a run; None where a folder is none."""
    about = read_json(folder / RUN)
    if about is None:
        return None
    state = read_json(folder / STATE) or {}
    weights = folder / BEST
    is_better = state.get("is_better") is True and weights.is_file()
    base, best = number(state.get("base_boundary")), number(state.get("best_boundary"))
    return RunSummary(
        folder,
        folder.name,
        text(about.get("base")),
        state.get("status") in ("finished", "stopped"),
        text(about.get("created")),
        text(state.get("verdict")),
        weights if is_better else None,
        count(about.get("objects")),
        None if base is None or best is None else (base, best),
    )
