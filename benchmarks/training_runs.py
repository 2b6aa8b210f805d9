"""Trains from settings files, one after the other, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.learn.config import TrainConfig


def write_settings(config: TrainConfig, path: Path) -> Path:
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
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    subprocess.run([*command, "napari_pisam.learn", str(settings)], check=True, env=environment)
