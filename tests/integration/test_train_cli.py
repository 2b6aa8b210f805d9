"""``napari-pisam train`` from folders of images and masks to a run folder, with the micro model."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from micro import MICRO, micro_model
from napari_pisam.cli.app import app
from napari_pisam.learn.finetune import resolve
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.scoring import ObjectScore, Scorer
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.sources import from_folders, list_objects, split
from napari_pisam.learn.objective import Objective
from napari_pisam.model import variants
from napari_pisam.weights import loading as weights
from napari_pisam.weights.checkpoint_format import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

SWITCHES: dict[str, Any] = {"residual": True}
FOLDERS = ("--images", "cells/images", "--masks", "cells/masks")
BASE = ("--base", "micro")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **SWITCHES))
    sam = replace(MICRO, name="micro_sam", kind="sam")
    monkeypatch.setitem(variants.VARIANTS, "micro_sam", sam)

    def load(name: str, **_: Any) -> weights.LoadedModel:
        kind: dict[str, Any] = (
            {"kind": "sam", "name": "micro_sam"} if name == "micro_sam" else SWITCHES
        )
        return weights.LoadedModel(micro_model(**kind), "ab" * 32, "MIT", "embedded")

    monkeypatch.setattr(weights, "load_model", load)
    monkeypatch.setattr(resolve, "_VIEWS", 3)
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


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end after two steps, each with a validation."""
    whole = resolve.resolve

    def two_steps(*arguments: Any) -> Any:
        config = whole(*arguments)
        return config.model_copy(
            update={"steps": 2, "minutes": None, "validate_minutes": 1e-9, "batch": 1}
        )

    monkeypatch.setattr("napari_pisam.learn.finetune.trainer.resolve", two_steps)


def scored(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the validations of the objects that validate give these values."""
    given = iter(values)

    def score(self: Scorer, model: Any, check: Any = None, fabric: Any = None) -> Any:
        value = next(given) if self._shown else 0.5
        return {place: ObjectScore((value,) * 2, (value,) * 2) for place in self.places}

    monkeypatch.setattr(Scorer, "score", score)


@pytest.mark.usefixtures("short")
def test_a_base_is_fine_tuned_on_folders(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.5, 0.7, 0.65)
    result = run(*FOLDERS, *BASE, "-o", "out", "--minutes", "30")
    assert result.exit_code == 0, result.stderr
    assert "Better: IoU 0.500 -> 0.700" in result.stdout
    assert "best.safetensors" in result.stderr
    state = json.loads((tmp_path / "out" / "state.json").read_text())
    assert (state["is_better"], state["best_step"]) == (True, 1)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"run.json", "config.toml", "log.csv", "last.pt", "best.safetensors"} <= names
    header = read_checkpoint(tmp_path / "out" / "best.safetensors").header
    assert header is not None
    assert header.licence == "MIT"
    assert str(tmp_path) not in json.dumps(header.training)
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "out"}


@pytest.mark.usefixtures("short")
def test_what_is_not_better_than_the_base_is_not_kept(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, 0.7, 0.6, 0.69)
    result = run(*FOLDERS, *BASE, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "Not better: no weights scored higher than micro" in result.stdout
    assert "Only 2 steps were trained, too few to tell" in result.stdout
    assert not (tmp_path / "out" / "best.safetensors").exists()


@pytest.mark.usefixtures("short")
def test_the_command_and_python_make_the_same_run(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    assert run(*FOLDERS, *BASE, "-o", "out").exit_code == 0
    images, _ = from_folders(tmp_path / "cells" / "images", tmp_path / "cells" / "masks")
    settings = FineTuneSettings(base="micro")
    made = FineTuneRun.create(tmp_path / "mine", settings, images, split(list_objects(images)))
    assert run("--config", "mine/config.toml").exit_code == 0
    objects = [(tmp_path / name / "data" / "objects.json").read_text() for name in ("out", "mine")]
    assert objects[0] == objects[1]
    states = [json.loads((tmp_path / name / "state.json").read_text()) for name in ("out", "mine")]
    assert states[0]["verdict"] == states[1]["verdict"] == made.poll().verdict
    last = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("out", "mine")]
    assert all(torch.equal(last[0]["ema"][name], last[1]["ema"][name]) for name in last[0]["ema"])


@pytest.mark.usefixtures("short")
def test_a_sam_gets_modules_of_its_own_and_a_cache(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    result = run(*FOLDERS, "-o", "out", "--base", "micro_sam")
    assert result.exit_code == 0, result.stderr
    new = read_checkpoint(tmp_path / "out" / "last.safetensors").tensors
    base = micro_model(kind="sam", name="micro_sam").state_dict()
    for name, value in base.items():
        assert torch.equal(new[name], value), name
    assert list((tmp_path / "out" / "cache").glob("*.safetensors"))


@pytest.mark.usefixtures("short")
def test_ctrl_c_saves_and_the_run_goes_on_by_resume(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Objective.forward

    def interrupted(self: Objective, batch: dict[str, Any], step: int) -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return whole(self, batch, step)

    monkeypatch.setattr(Objective, "forward", interrupted)
    result = run(*FOLDERS, *BASE, "-o", "out")
    assert result.exit_code == 130
    assert "all is saved" in result.stderr
    monkeypatch.setattr(Objective, "forward", whole)
    result = run("-o", "out", "--resume")
    assert result.exit_code == 0, result.stderr
    assert torch.load(tmp_path / "out" / "last.pt", weights_only=True)["step"] == 2


@pytest.mark.usefixtures("short")
def test_a_run_that_diverges_ends_in_one_line(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Objective, batch: dict[str, Any], step: int) -> torch.Tensor:
        return next(self.model.mask_decoder.parameters()).sum() * float("nan")

    monkeypatch.setattr(Objective, "forward", broken)
    result = run(*FOLDERS, *BASE, "-o", "out")
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
        ((*FOLDERS, "-o", "out", "--resume"), "leave out --resume"),
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


@pytest.mark.parametrize("name", ["last.pt", "notes.txt", "best.safetensors"])
def test_a_folder_that_is_not_empty_and_not_ours_is_left_alone(
    name: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"precious")
    result = run(*FOLDERS, "-o", "out")
    assert result.exit_code == 2
    assert "is in use already" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_bytes() == b"precious"


@pytest.mark.usefixtures("short")
def test_a_run_that_began_is_not_begun_again(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run(*FOLDERS, *BASE, "-o", "out").exit_code == 0
    before = (tmp_path / "out" / "last.pt").read_bytes()
    result = run(*FOLDERS, *BASE, "-o", "out")
    assert result.exit_code == 2
    assert "holds a run already" in result.stderr
    assert (tmp_path / "out" / "last.pt").read_bytes() == before


def test_a_run_of_the_former_loop_says_what_its_weights_are_good_for(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    for name in ("last.pt", "best.safetensors"):
        (tmp_path / "out" / name).write_bytes(b"")
    result = run("-o", "out", "--resume")
    assert result.exit_code == 2
    assert "earlier version" in result.stderr
    assert "--base out/best.safetensors" in result.stderr


# What `train --images` wrote before runs were those of the dock.
FORMER = """
images = "cells/images"
masks = "cells/masks"
mask_kind = "instances"
validation_fraction = 0.2
output = "former"
variant = "micro"
frame = 64
base = "micro"
initial_part = "ema"
frozen = "nothing"
frozen_norms = true
batch = 1
minutes = 20.0
learning_rate = 0.0001
mixture = [0.85, 0.15, 0.0]
save_minutes = 1.0
validate_minutes = 2.5
accelerator = "auto"
licence = "MIT"
"""


@pytest.mark.usefixtures("short")
def test_settings_of_the_former_loop_are_understood(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(FORMER)
    result = run("--config", "run.toml", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert "mean nothing any more: frozen_norms, initial_part, mixture, variant" in result.stderr
    settings = FineTuneSettings.from_toml(tmp_path / "out" / "config.toml")
    assert (settings.trains, settings.minutes, settings.validate_seconds) == ("all", 20.0, 150.0)
    assert settings.mask_kind == "instances"


def test_settings_of_the_recipe_are_sent_there(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('data = "d"\noutput = "o"\n')
    result = run("--config", "run.toml")
    assert result.exit_code == 2
    assert "python -m recipes.tiny train" in result.stderr


def test_a_wrong_setting_in_a_file_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('kind = "finetune"\nbatch = -1\n')
    result = run("--config", "run.toml")
    assert result.exit_code == 2
    assert "run.toml: batch: " in result.stderr


def test_a_folder_that_is_missing_leaves_nothing_behind(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "cells" / "masks")
    result = run(*FOLDERS, *BASE, "-o", "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()
