"""A fine-tuning on two processes does what one does with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import napari_pisam
from finetune_runs import make_run, use_micro

if TYPE_CHECKING:
    from napari_pisam.learn.finetune.run import FineTuneRun

TESTS = Path(__file__).resolve().parents[2]


def train(run: FineTuneRun, processes: int) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "micro_training"]
    roots = [str(TESTS), str(Path(napari_pisam.__file__).parents[1])]
    result = subprocess.run(
        [*command, str(run.folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_does(tmp_path, monkeypatch):
    use_micro(monkeypatch)
    # Every step a validation would divide the time differently, so there is one at the end only.
    values = {"epochs": 4, "validate_seconds": 3000}
    runs = [make_run(tmp_path / str(n), batch=4 // n, **values) for n in (1, 2)]
    for run, processes in zip(runs, (1, 2), strict=True):
        train(run, processes)
    tables = [np.loadtxt(run.folder / "log.csv", delimiter=",", skiprows=1) for run in runs]
    assert tables[0].shape == tables[1].shape == (3, 5)
    np.testing.assert_allclose(tables[0][:, 2], tables[1][:, 2], rtol=2e-3)
    states = [torch.load(run.folder / "last.pt", weights_only=True) for run in runs]
    assert states[0]["position"] == states[1]["position"] == 12
    said = [json.loads((run.folder / "state.json").read_text()) for run in runs]
    for content in said:
        assert content["status"] == "finished"
        assert len(content["points"]) == 2
    scores = [[point["iou_validation"] for point in content["points"]] for content in said]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.01)
