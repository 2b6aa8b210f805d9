"""Trains from settings files, one after the other, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from recipes.tiny.config import RecipeConfig

_ROOT = Path(__file__).resolve().parents[2]


def write_settings(config: RecipeConfig, path: Path) -> Path:
    """Write a run's settings as TOML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(config.to_toml(), encoding="utf-8")
    return path


def train(settings: Path, processes: int = 1) -> None:
    """Run, or go on with, a training run; a finished one returns at once.

    Parameters
    ----------
    settings : Path
        TOML file.
    processes : int
        Of one thread each, with averaged gradients; each takes its own batch.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = os.environ | {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *(path for path in known if path)]),
    }
    command += ["recipes.tiny", "train", str(settings)]
    subprocess.run(command, check=True, env=environment)
