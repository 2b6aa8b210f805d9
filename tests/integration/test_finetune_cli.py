"""Fine-tuning from the command line: by the settings that the dock wrote, and what was made."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from finetune_runs import discs, make_run, settings, train, use_micro
from napari_pisam.cli.app import app
from napari_pisam.learn.finetune.scoring import ObjectScore, Scorer
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.objective import Objective


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    use_micro(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_config_of_a_run_runs_it(invoke, tmp_path):
    run = make_run(tmp_path / "mine")
    result = invoke("train", "--config", str(run.folder / "config.toml"))
    assert result.exit_code == 0, result.stderr
    assert "etter" in result.stdout
    assert run.poll().status == "finished"


def test_a_run_is_repeated_elsewhere(invoke, tmp_path):
    run = make_run(tmp_path / "mine")
    train(run)
    config = str(run.folder / "config.toml")
    assert "--resume" in invoke("train", "--config", config).stderr
    result = invoke("train", "--config", config, "-o", "again", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    first, second = (
        (folder / "validation.csv").read_text().splitlines()[-1].split(",")[2:]
        for folder in (run.folder, tmp_path / "again")
    )
    assert first == second


def test_folders_are_fine_tuned_on_by_a_config(invoke, tmp_path):
    for number in range(2):
        image = discs(seed=number)
        for folder, array in (("images", image.image >> 4), ("masks", image.labels)):
            (tmp_path / "cells" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(
                tmp_path / "cells" / folder / f"{number}.png"
            )
    text = settings(images="images", masks="masks", mask_kind="instances").to_toml()
    (tmp_path / "cells" / "config.toml").write_text(text)
    result = invoke("train", "--config", "cells/config.toml")
    assert result.exit_code == 0, result.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "validation.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"cells", "runs"}


def test_a_stopped_run_goes_on_by_resume(invoke, tmp_path):
    run = make_run(tmp_path / "mine")
    train(run)
    state = run.poll()
    result = invoke("train", "-o", "mine", "--resume")
    assert result.exit_code == 0, result.stderr
    assert run.poll().step == state.step


def test_a_config_without_anything_to_learn_from_is_refused(invoke, tmp_path):
    (tmp_path / "config.toml").write_text(FineTuneSettings().to_toml())
    result = invoke("train", "--config", "config.toml", "-o", "out")
    assert result.exit_code == 2
    assert "names no images and masks" in result.stderr


def test_models_list_shows_what_was_fine_tuned(invoke, tmp_path, monkeypatch):
    values = iter((0.5, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9))

    def score(self, model, check=None, fabric=None):
        value = next(values)
        return {place: ObjectScore((value,) * 2, (value,) * 2) for place in self.places}

    monkeypatch.setattr(Scorer, "score", score)
    run = make_run(tmp_path / "runs" / "mine")
    train(run)
    result = invoke("models", "list")
    assert result.exit_code == 0, result.stderr
    assert str(run.folder / "best.safetensors") in result.stdout
    assert "from micro, 4 objects  boundary IoU 0.500 -> 0.900" in result.stdout


def test_models_list_without_runs_is_as_before(invoke):
    assert "FINE-TUNED" not in invoke("models", "list").stdout


def test_ctrl_c_saves_and_the_run_goes_on_by_resume(invoke, tmp_path, monkeypatch):
    run = make_run(tmp_path / "mine", epochs=10_000, validate_seconds=60)
    whole = Objective.forward

    def interrupted(self, batch, step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return whole(self, batch, step)

    monkeypatch.setattr(Objective, "forward", interrupted)
    result = invoke("train", "--config", str(run.folder / "config.toml"))
    assert result.exit_code == 130, result.stderr
    assert "--resume" in result.stderr
    stopped = run.poll()
    assert stopped.status == "interrupted"
    monkeypatch.setattr(Objective, "forward", whole)
    result = invoke("train", "-o", "mine", "--resume", "--minutes", "0.01")
    assert result.exit_code == 0, result.stderr
    assert run.poll().status == "finished"
    assert run.poll().step >= stopped.step
