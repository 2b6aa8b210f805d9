"""What is in a run's folder may come from anywhere, and from any earlier version."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune_runs import make_run, train, use_micro
from napari_pisam.learn.finetune.crops import read_objects
from napari_pisam.learn.finetune.layout import OBJECTS, RUN, STATE, disk_full, is_disk_full
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.runs import list_runs
from napari_pisam.learn.finetune.state import RunState, StateReader

FORMER = Path(__file__).resolve().parents[2] / "fixtures" / "finetune_run_0.1.zip"


@pytest.fixture(autouse=True)
def _micro(monkeypatch):
    use_micro(monkeypatch)


@pytest.fixture
def former(tmp_path):
    """A run that an earlier version saved after two steps; its weights are zeros."""
    with zipfile.ZipFile(FORMER) as archive:
        archive.extractall(tmp_path / "former")
    return tmp_path / "former"


def test_a_run_of_an_earlier_version_is_listed_and_gone_on_with(former):
    run = FineTuneRun.open(former)
    assert run.settings.trains == "interactor"
    state = run.poll()
    assert (state.status, state.step, state.best_step) == ("interrupted", 2, 1)
    assert state.can_resume
    assert list(state.iou_validation.y) == [0.5, 0.9]
    (found,) = list_runs(former.parent)
    assert (found.base, found.objects, found.boundary) == ("micro", 4, (0.5, 0.9))
    code, content = train(run)
    assert (code, content["status"], content["step"]) == (0, "finished", 6)


DEEP = "[" * 100_000 + "]" * 100_000
ODD = {
    "null": {"status": None, "step": None, "points": None, "previews": None},
    "texts": {"status": 7, "step": "seven", "elapsed": "x", "eta": [], "message": {}},
    "endless": {"step": float("inf"), "epoch": float("nan"), "base_iou": float("inf")},
    "large": {"step": 10**400, "batch": -(10**400), "progress": 10**300},
    "lists": {"points": [1, None, {"step": "a", "iou_validation": 1}], "previews": [None, {}]},
    "is better by a word": {"is_better": "yes", "verdict": 3},
}


@pytest.mark.parametrize("name", ODD)
def test_a_state_with_values_of_other_types_is_read_without_them(name, tmp_path):
    content = {"status": "stopped"} | ODD[name]
    (tmp_path / STATE).write_text(json.dumps(content))
    state = StateReader(tmp_path).read()
    plain = RunState()
    assert (state.step, state.batch, state.eta) == (plain.step, plain.batch, plain.eta)
    assert (state.previews, state.is_better, state.verdict) == ((), False, "")
    assert len(state.iou_validation.x) == 0


@pytest.mark.parametrize("text", [DEEP, "", "[]", "null", '{"objects": 1e400', b"\xff\xfe"])
def test_a_file_that_is_no_run_is_left_out_of_the_list(text, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / RUN).write_bytes(text if isinstance(text, bytes) else text.encode())
    make_run(tmp_path / "good")
    assert [run.name for run in list_runs(tmp_path)] == ["good"]


@pytest.mark.parametrize("objects", ["null", "1e400", '"many"', "[]", "-3", "true"])
def test_a_list_of_runs_survives_odd_values(objects, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / RUN).write_text(f'{{"objects": {objects}, "base": null, "created": []}}')
    (run,) = list_runs(tmp_path)
    assert (run.objects, run.base, run.created) == (0, "", "")


def test_a_folder_that_may_not_be_looked_into_is_left_out(tmp_path, monkeypatch):
    make_run(tmp_path / "good")
    (tmp_path / "closed").mkdir()
    is_dir = Path.is_dir

    def refused(path, **options):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return is_dir(path, **options)

    monkeypatch.setattr(Path, "is_dir", refused)
    assert [run.name for run in list_runs(tmp_path)] == ["good"]


@pytest.mark.parametrize(
    "name",
    ["../../secret.png", "/etc/secret.png", "preview/../../x.png", "x.png", "preview\\x.png"],
)
def test_a_picture_outside_of_the_run_is_not_shown(name, tmp_path):
    preview = {"image": "a", "label": 1, "iou_before": 0.5, "iou_after": 0.6, "step": 1}
    one = preview | {"before": "preview/0000_before.png", "after": name}
    good = preview | {"before": "preview/0001_before.png", "after": "preview/0001_after.png"}
    (tmp_path / STATE).write_text(json.dumps({"status": "stopped", "previews": [one, good]}))
    (shown,) = StateReader(tmp_path).read().previews
    assert shown.after == tmp_path / "preview" / "0001_after.png"


def test_a_loss_log_with_rubbish_in_it_is_read_without_that(tmp_path):
    (tmp_path / "log.csv").write_text(
        "step,seconds,loss\n1,0.1,0.5\n²,x,y\n2,0.2,nope\n3,0.3,0.4\n"
    )
    (tmp_path / STATE).write_text('{"status": "stopped"}')
    np.testing.assert_array_equal(StateReader(tmp_path).read().loss.y, [0.5, 0.4])


@pytest.mark.parametrize(
    "change",
    [
        {"objects": None},
        {"pieces": []},
        {"objects": [{"piece": 0}]},
        {"objects": [{"piece": 0, "label": 1, "value": 10**9, "part": "training", "clicks": []}]},
        {"objects": [{"piece": 10**400}]},
        {"pieces": [{"file": "../../secret", "image": "a"}]},
    ],
)
def test_a_damaged_list_of_objects_is_refused_in_a_sentence(change, tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((run.folder / OBJECTS).read_text())
    (run.folder / OBJECTS).write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match="Start a new run"):
        read_objects(run.folder)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_picture_is_refused_in_a_sentence(seed, tmp_path):
    run = make_run(tmp_path / "run")
    rng = np.random.default_rng(seed)
    name = ("images/00000.png", "masks/00000.tif")[seed % 2]
    data = bytearray((run.folder / "data" / name).read_bytes())
    for place in rng.integers(0, min(len(data), 200), 6):
        data[place] = int(rng.integers(256))
    (run.folder / "data" / name).write_bytes(data[: int(rng.integers(10, len(data)))])
    # What was changed may not matter; what it may raise is a sentence.
    with contextlib.suppress(ValueError):
        read_objects(run.folder)


@pytest.mark.parametrize(
    "error",
    [KeyError("points"), RecursionError("too deep"), OSError(5, "Input/output error"), OSError()],
)
def test_whatever_goes_wrong_in_training_is_a_sentence(error, tmp_path, monkeypatch):
    from napari_pisam.learn.objective import Objective

    def broken(self, batch, step):
        raise error

    monkeypatch.setattr(Objective, "forward", broken)
    run = make_run(tmp_path / "run")
    code, state = train(run)
    assert (code, state["status"], state["message"]) == (1, "failed", "Training failed.")
    assert state["error"].endswith((".", "kept."))
    assert "\n" not in state["error"]


def test_a_full_disk_is_told_by_what_torch_says_of_it(tmp_path):
    said = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")
    assert is_disk_full(said)
    assert "is full" in disk_full(tmp_path)


def test_runs_in_a_home_that_a_tilde_names(monkeypatch, tmp_path):
    from napari_pisam.learn.finetune.runs import default_root

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NAPARI_PISAM_RUNS", f"~{os.sep}runs")
    assert default_root() == tmp_path / "runs"


def test_a_verdict_is_given_at_the_end_and_called_so_far_before(tmp_path, monkeypatch):
    from napari_pisam.learn.finetune.scoring import ObjectScore, Scorer

    given = iter([0.5, 0.4, 0.9, 0.9])
    said = []

    def score(self, model, check=None, fabric=None):
        value = next(given) if self._shown else 0.5
        if self._shown:
            said.append(run.poll().verdict)
        return {place: ObjectScore((value,) * 2, (value,) * 2) for place in self.places}

    monkeypatch.setattr(Scorer, "score", score)
    run = make_run(tmp_path / "run")
    train(run)
    assert said[0] == ""
    assert all(text.startswith("So far: ") for text in said[1:])
    assert not any("Not better" in text for text in said)
    assert run.poll().verdict.startswith("Better: ")


def test_too_few_steps_are_said_to_be_too_few(tmp_path, monkeypatch):
    from napari_pisam.learn.finetune.scoring import ObjectScore
    from napari_pisam.learn.finetune.verdict import verdict

    base = {0: ObjectScore((0.7, 0.7), (0.7, 0.7))}
    _, few = verdict(base, None, [[0.6]], "tiny", steps=5)
    _, enough = verdict(base, None, [[0.6]], "tiny", steps=50)
    assert "Only 5 steps were trained, too few to tell" in few
    assert "too few" not in enough
    assert "Go on with tiny" in enough
    one = replace(base[0], iou=(0.9, 0.9))
    better, text = verdict(base, {0: one}, [[0.9]], "tiny", steps=5)
    assert better
    assert "too few" not in text
