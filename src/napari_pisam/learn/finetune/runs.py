"""Where runs are kept, and which there are."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from napari_pisam.learn.finetune.layout import BEST, RUN, STATE, read_json

_VARIABLE = "NAPARI_PISAM_RUNS"
_FINISHED = frozenset({"finished", "stopped"})


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
    is_better : bool
        Whether validation says that it beats its base.
    verdict : str
        A sentence on that.
    weights : Path or None
        What to load; only where it is better.
    objects : int
        How many it learnt from and validated on.
    iou, boundary : (float, float) or None
        Of the base and of the best weights, on the objects that validate.
    """

    folder: Path
    name: str
    base: str
    finished: bool
    created: str
    is_better: bool
    verdict: str
    weights: Path | None
    objects: int
    iou: tuple[float, float] | None
    boundary: tuple[float, float] | None


def default_root() -> Path:
    """Folder of all runs: ``NAPARI_PISAM_RUNS``, else below the user's data folder."""
    given = os.environ.get(_VARIABLE)
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("napari-pisam", appauthor=False)) / "runs"


def new_folder(root: Path | None = None, title: str = "") -> Path:
    """Give a folder for a new run, named by date, time and title; it is not made yet."""
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
    if not parent.is_dir():
        return []
    found = [summarise(folder) for folder in parent.iterdir() if folder.is_dir()]
    runs = [run for run in found if run is not None]
    return sorted(runs, key=lambda run: (run.created, run.name), reverse=True)


def summarise(folder: Path) -> RunSummary | None:
    """Say in a line what became of a run; None where a folder is none."""
    about = read_json(folder / RUN)
    if about is None:
        return None
    state = read_json(folder / STATE) or {}
    weights = folder / BEST
    is_better = bool(state.get("is_better")) and weights.is_file()
    pairs = []
    for key in ("iou", "boundary"):
        pair = (state.get(f"base_{key}"), state.get(f"best_{key}"))
        both = all(isinstance(value, (int, float)) for value in pair)
        pairs.append((float(pair[0]), float(pair[1])) if both else None)  # type: ignore[arg-type]
    return RunSummary(
        folder,
        folder.name,
        str(about.get("base", "")),
        state.get("status") in _FINISHED,
        str(about.get("created", "")),
        is_better,
        str(state.get("verdict", "")),
        weights if is_better else None,
        int(about.get("objects", 0)),
        pairs[0],
        pairs[1],
    )
