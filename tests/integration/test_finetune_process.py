"""A fine-tuning in its own process: orders, sudden ends, and what is left after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import napari_pisam
from finetune_runs import discs
from napari_pisam.learn.finetune.layout import CHECKPOINT, STATE, read_json
from napari_pisam.learn.finetune.lock import is_held
from napari_pisam.learn.finetune.preflight import preflight
from napari_pisam.learn.finetune.process import how_it_ended
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.sources import list_objects, split
from napari_pisam.weights.checkpoint_format import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.weights]

PATIENCE = 240.0


def make(folder, **changes):
    values = {
        "frame": 64,
        "batch": 1,
        "epochs": 1000,
        "minutes": None,
        "validate_seconds": 5,
        "checkpoint_seconds": 1,
        "device": "cpu",
    }
    images = [discs()]
    settings = FineTuneSettings.checked(values | changes)
    return FineTuneRun.create(folder, settings, images, split(list_objects(images)))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = make(tmp_path / "run")
    yield made
    made.kill()


def until(run, condition):
    """Poll until a condition holds, and give the state then."""
    end = time.monotonic() + PATIENCE
    while not condition(state := run.poll()):
        assert state.status != "failed", state.error
        assert time.monotonic() < end, state
        time.sleep(0.05)
    return state


def test_a_killed_run_loses_one_interval_and_no_file(run):
    run.start()
    until(run, lambda s: (run.folder / CHECKPOINT).is_file() and s.step > 5)
    # Anywhere: in a step, in a validation, in a save.
    until(run, lambda s: len(s.iou_validation.x) > 1)
    run.kill()
    state = run.poll()
    assert state.status == "interrupted"
    assert state.can_resume
    saved = torch.load(run.folder / CHECKPOINT, weights_only=True)["step"]
    for weights in run.folder.glob("*.safetensors"):
        read_checkpoint(weights)
    again = FineTuneRun.open(run.folder)
    again.resume()
    try:
        # Only what came after the last save was done twice.
        state = until(again, lambda s: s.step > saved and s.status == "running")
        assert list(state.loss.x[: saved + 1]) == list(range(1, saved + 2))
        assert state.iou_validation.x[0] == 0
    finally:
        again.kill()


def test_stop_ends_it_and_keeps_the_best(run):
    run.start()
    until(run, lambda s: s.step > 2)
    run.stop()
    assert run.poll().status in ("stopping", "stopped")
    state = until(run, lambda s: s.status == "stopped")
    assert run.wait(PATIENCE).status == "stopped"
    assert state.base_iou is not None
    assert FineTuneRun.open(run.folder).poll().status == "stopped"


def test_stop_ends_it_while_it_starts(run):
    run.start()
    run.stop()
    assert until(run, lambda s: s.status == "stopped").step == 0


def test_a_pause_saves_and_ends_with_resume(run):
    run.start()
    until(run, lambda s: s.step > 2)
    run.pause()
    paused = until(run, lambda s: s.status == "paused")
    assert torch.load(run.folder / CHECKPOINT, weights_only=True)["step"] == paused.step
    time.sleep(0.5)
    assert run.poll().step == paused.step
    run.resume()
    until(run, lambda s: s.status == "running" and s.step > paused.step)


def test_it_saves_and_ends_when_the_program_that_started_it_does(tmp_path):
    made = make(tmp_path / "run")
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from napari_pisam.learn.finetune.run import FineTuneRun\n"
        "run = FineTuneRun.open(Path(sys.argv[1]))\n"
        "run.start()\n"
        "while run.poll().step < 2: time.sleep(0.05)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    roots = [str(Path(napari_pisam.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(made.folder)]
    ended = subprocess.run(command, env=environment, timeout=PATIENCE, check=False)
    assert ended.returncode == -signal.SIGKILL
    end = time.monotonic() + PATIENCE
    while (read_json(made.folder / STATE) or {}).get("status") != "interrupted":
        assert time.monotonic() < end
        time.sleep(0.05)
    state = made.poll()
    assert state.can_resume
    assert torch.load(made.folder / CHECKPOINT, weights_only=True)["step"] == state.step


def test_a_run_cannot_be_started_twice(run):
    run.start()
    until(run, lambda s: is_held(run.folder))
    with pytest.raises(ValueError, match="going on already"):
        FineTuneRun.open(run.folder).start()


def test_a_base_that_does_not_exist_is_said(tmp_path):
    made = make(tmp_path / "run", base=str(tmp_path / "absent.safetensors"))
    made.start()
    state = made.wait(PATIENCE)
    assert state.status == "failed"
    assert "absent.safetensors" in state.error


def test_the_preflight_measures_a_step(tmp_path):
    images = [discs()]
    rows = split(list_objects(images))
    settings = FineTuneSettings(frame=64, batch=1, device="cpu")
    result = preflight(settings, images, rows, root=tmp_path)
    assert result.ok, result.problems
    assert (result.training_objects, result.validation_objects) == (3, 1)
    assert result.seconds_per_step > 0
    assert result.memory_bytes > 2**27
    assert result.disk_bytes > 10**7
    assert "Only 1 object validates" in result.warnings[0]
    assert list(tmp_path.iterdir()) == []


def test_the_preflight_refuses_what_cannot_work(tmp_path):
    images = [discs()]
    rows = split(list_objects(images))
    settings = FineTuneSettings(base=str(tmp_path / "absent.safetensors"))
    result = preflight(settings, images, rows, root=tmp_path)
    assert not result.ok
    assert "absent.safetensors" in result.problems[0]


def test_an_end_by_the_system_is_explained(tmp_path):
    (tmp_path / "child.log").write_text("loading\nSomething broke\n")
    assert "memory was full" in how_it_ended(-signal.SIGKILL, tmp_path)
    assert "SIGSEGV" in how_it_ended(-signal.SIGSEGV, tmp_path)
    assert "Something broke" in how_it_ended(1, tmp_path)
