"""Several processes, and starting from weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from micro import micro_model
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny.config import RecipeConfig
from recipes.tiny.starting import load_initial
from training_sets import write_set

TESTS = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from micro import MICRO
from napari_pisam.model import variants
from recipes.tiny.config import RecipeConfig
from recipes.tiny.training import fit
variants.VARIANTS["micro"] = replace(
    MICRO, residual=True, click_maps=True, local_clicks=True, box_maps=True
)
fit(RecipeConfig.from_toml(Path(sys.argv[1])))
"""


def run(folder: Path, name: str, processes: int, data: Path) -> Path:
    config = RecipeConfig(
        data=data,
        output=folder / name,
        variant="micro",
        frame=64,
        batch=4 // processes,
        steps=2,
        workers=0,
        warmup=0,
        validation_objects=2,
        accelerator="cpu",
        clicks_only=0.5,
    )
    file = folder / f"{name}.toml"
    file.write_text(config.to_toml())
    script = folder / "train.py"
    script.write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    result = subprocess.run(
        [sys.executable, *(torchrun if processes > 1 else []), str(script), str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env={
            **os.environ,
            # What this process imports is what the other ones have to.
            "PYTHONPATH": os.pathsep.join(
                [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
            ),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return config.output


@pytest.mark.slow
def test_two_processes_train_as_one_does_with_the_same_global_batch(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "discs", [f"a{i}" for i in range(5)])
    one, two = (run(tmp_path, f"run{n}", n, tmp_path / "data") for n in (1, 2))
    rows = [np.loadtxt(out / "log.csv", delimiter=",", skiprows=1) for out in (one, two)]
    assert rows[0].shape == (2, 5)
    # Loss and norm of the gradient: the second step's depend on the first one's update.
    np.testing.assert_allclose(rows[0][:, [2, 4]], rows[1][:, [2, 4]], rtol=1e-3)
    states = [torch.load(out / "last.pt", weights_only=True) for out in (one, two)]
    assert states[0]["position"] == states[1]["position"] == 8
    moved, apart = 0, 0
    for name, value in states[0]["model"].items():
        # Adam divides by the gradient's size: where it is rounding, so is the update.
        apart += int((value - states[1]["model"][name]).abs().gt(2e-5).sum())
        moved += value.numel()
    assert apart < 1e-4 * moved
    scores = [(out / "validation.csv").read_text().split(",")[2:6] for out in (one, two)]
    np.testing.assert_allclose(np.array(scores[0], float), np.array(scores[1], float), atol=0.005)


def test_a_run_starts_from_shipped_weights(tmp_path: Path) -> None:
    trained, fresh = micro_model(seed=3), micro_model(seed=0)
    save_checkpoint(tmp_path / "w.safetensors", trained, licence="MIT")
    config = RecipeConfig(
        data=tmp_path, output=tmp_path / "run", initial=tmp_path / "w.safetensors"
    )
    load_initial(fresh, config)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    config = RecipeConfig(data=tmp_path, output=tmp_path, initial=tmp_path / "gone.pt")
    with pytest.raises(ValueError, match=r"gone\.pt, which is not a file"):
        load_initial(micro_model(), config)
