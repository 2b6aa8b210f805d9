"""``napari-pisam train`` from arguments to a run folder, with the micro model."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from micro import MICRO, micro_model, never_deformed_model
from napari_pisam.cli import train as command
from napari_pisam.cli.app import app
from napari_pisam.learn import engine
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.objective import Objective
from napari_pisam.model import variants
from napari_pisam.weights import loading as weights
from napari_pisam.weights.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

SWITCHES: dict[str, Any] = {"residual": True}
FOLDERS = ("--images", "cells/images", "--masks", "cells/masks")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **SWITCHES))
    monkeypatch.setitem(
        variants.VARIANTS, "micro_sam", replace(MICRO, name="micro_sam", kind="sam")
    )

    def load(name: str, **_: Any) -> weights.LoadedModel:
        kind: dict[str, Any] = (
            {"kind": "sam", "name": "micro_sam"} if name == "micro_sam" else SWITCHES
        )
        build = never_deformed_model if name == "micro_never_deformed" else micro_model
        return weights.LoadedModel(build(**kind), "ab" * 32, "MIT", "embedded")

    monkeypatch.setattr(weights, "load_model", load)
    monkeypatch.setattr(
        command,
        "_TUNING",
        command._TUNING
        | {"steps": 2, "workers": 0, "validation_objects": 1, "validate_steps": 1, "batch": 1},
    )
    monkeypatch.setattr(command, "_LARGE", command._LARGE | {"views": 3})
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        labels = np.zeros((60, 80), np.uint16)
        labels[4:26, 5:30] = 3
        labels[30:56, 42 : 70 + number] = 300
        picture = (labels > 0).astype(np.uint8) * 150 + 40
        for folder, array in (("images", picture), ("masks", labels)):
            path = tmp_path / "cells" / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["train", *arguments])

    return invoke


def scored(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    given = iter(values)
    monkeypatch.setattr(
        engine, "evaluate", lambda *_, **__: {"cells": {0: (v := next(given)), 1: v}}
    )


def test_a_base_is_fine_tuned_on_folders(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.5, 0.6, 0.55)
    result = run(*FOLDERS, "-o", "out", "--minutes", "30")
    assert result.exit_code == 0, result.stderr
    assert "base     0 clicks 0.500" in result.stdout
    assert "result   0 clicks 0.600" in result.stdout
    assert "best.safetensors" in result.stderr
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["improved"]
    assert content["best_step"] == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.toml", "log.csv", "last.pt", "best.safetensors", "report.json"} <= names
    header = read_checkpoint(tmp_path / "out" / "best.safetensors").header
    assert header is not None
    assert header.licence == "MIT"
    assert str(tmp_path) not in json.dumps(header.training)
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "out"}


def test_what_is_not_better_than_the_base_is_not_kept(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.7, 0.6, 0.69)
    result = run(*FOLDERS, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "not better than tiny (0.690 against 0.700): keep tiny" in result.stderr
    assert not (tmp_path / "out" / "best.safetensors").exists()
    assert not json.loads((tmp_path / "out" / "report.json").read_text())["improved"]


def test_a_sam_gets_modules_of_its_own_and_a_cache(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(*FOLDERS, "-o", "out", "--base", "micro_sam")
    assert result.exit_code == 0, result.stderr
    state = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    base = micro_model(kind="sam", name="micro_sam").state_dict()
    for name, value in base.items():
        assert torch.equal(state["model"][name], value), name
    assert list((tmp_path / "out" / "cache").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("base", "rigid"), [("micro_sam", True), ("micro", False), ("micro_never_deformed", True)]
)
def test_only_deformable_convolutions_that_were_never_trained_stay_rigid(
    base: str, rigid: bool, run: Callable[..., Result], tmp_path: Path
) -> None:
    assert run(*FOLDERS, "-o", "out", "--base", base).exit_code == 0
    assert TrainConfig.from_toml(tmp_path / "out" / "config.toml").rigid is rigid


def test_ctrl_c_saves_and_the_run_goes_on_by_resume(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Objective.forward

    def interrupted(self: Objective, batch: dict[str, Any], step: int) -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return whole(self, batch, step)

    monkeypatch.setattr(Objective, "forward", interrupted)
    result = run(*FOLDERS, "-o", "out")
    assert result.exit_code == 130
    assert "Stopped after step 1" in result.stderr
    monkeypatch.setattr(Objective, "forward", whole)
    result = run("-o", "out", "--resume")
    assert result.exit_code == 0, result.stderr
    assert torch.load(tmp_path / "out" / "last.pt", weights_only=True)["step"] == 2


def test_a_run_that_diverges_ends_in_one_line(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Objective, batch: dict[str, Any], step: int) -> torch.Tensor:
        return next(self.model.mask_decoder.parameters()).sum() * float("nan")

    monkeypatch.setattr(Objective, "forward", broken)
    result = run(*FOLDERS, "-o", "out")
    assert result.exit_code == 1
    assert "The loss is nan at step 0" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to train on"),
        (("-o", "out", "--resume"), "no run in out"),
        (("--images", "cells/images", "-o", "out"), "go together"),
        ((*FOLDERS, "--config", "run.toml"), "--config names the data itself"),
        (FOLDERS, "no folder for the run"),
        (("--images", "gone", "--masks", "cells/masks", "-o", "out"), "no folder gone"),
        (("--config", "gone.toml"), "gone.toml cannot be read"),
        ((*FOLDERS, "-o", "cells/images/0.png"), "is a file"),
        ((*FOLDERS, "-o", "out", "--resume"), "Leave out --resume"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: tuple[str, ...], message: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_is_never_overwritten(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.pt").write_bytes(b"precious")
    result = run(*FOLDERS, "-o", "out")
    assert result.exit_code == 2
    assert "holds a run already" in result.stderr
    assert (tmp_path / "out" / "last.pt").read_bytes() == b"precious"


def test_a_wrong_setting_in_a_file_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('data = "d"\noutput = "o"\nbatch = 0\n')
    result = run("--config", "run.toml")
    assert result.exit_code == 2
    assert "run.toml: batch: " in result.stderr
