"""A fine-tuning from its folder to its end, in the test's own process, with the micro model."""

from __future__ import annotations

import csv
import errno
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from finetune_runs import SHORT, discs, make_run, train, use_micro
from micro import MICRO, micro_model, never_deformed_model
from napari_pisam.learn import run_state
from napari_pisam.learn.encoding import INTERACTOR
from napari_pisam.learn.engine import evaluate
from napari_pisam.learn.finetune import scoring, worker
from napari_pisam.learn.finetune.crops import read_objects
from napari_pisam.learn.finetune.layout import CHECKPOINT
from napari_pisam.learn.finetune.process import DISK_FULL
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.runs import list_runs
from napari_pisam.learn.finetune.scoring import ObjectScore, Scorer
from napari_pisam.learn.objective import Objective
from napari_pisam.model import variants
from napari_pisam.weights import loading as weights
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.checkpoint_format import read_checkpoint

BASE = micro_model(residual=True).state_dict()


@pytest.fixture(autouse=True)
def _micro(monkeypatch):
    use_micro(monkeypatch)


def scored(monkeypatch, *values):
    """Let the validations give these values; training objects have none."""
    given = iter(values)

    def score(self, model, check=None, fabric=None):
        value = next(given) if len(self.places) == 1 else 0.5
        return {place: ObjectScore((value,) * 2, (value,) * 2) for place in self.places}

    monkeypatch.setattr(Scorer, "score", score)


def rows(run, name):
    return list(csv.DictReader((run.folder / name).read_text().splitlines()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that came to its end, for tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        use_micro(patch)
        images = [discs("<script>"), discs("b", 2, seed=1)]
        run = make_run(tmp_path_factory.mktemp("trained") / "run", images, epochs=1)
        return run, train(run)


def test_a_run_leaves_all_its_files(trained):
    run, (code, state) = trained
    assert (code, state["status"]) == (0, "finished")
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "config.toml",
        "log.csv",
        "validation.csv",
        "last.pt",
        "last.safetensors",
        "report.html",
        "state.json",
    }
    assert "alive" not in names
    assert [row["step"] for row in rows(run, "log.csv")] == ["1", "2"]


def test_the_base_is_validated_before_the_first_step(trained):
    run, _ = trained
    assert [row["step"] for row in rows(run, "validation.csv")] == ["0", "1", "2"]
    state = run.poll()
    assert state.iou_validation.x[0] == 0
    assert state.base_iou == state.iou_validation.y[0]
    assert len(state.loss.x) == 2


def test_the_best_weights_are_kept_with_where_they_come_from(tmp_path, monkeypatch):
    scored(monkeypatch, 0.5, 0.6, 0.9, 0.7)
    run = make_run(tmp_path / "run")
    train(run)
    state = run.poll()
    assert state.is_better
    assert state.best_step == 2
    assert state.verdict.startswith("Better: IoU 0.500 -> 0.900")
    header = read_checkpoint(state.best_weights).header
    assert header.training["steps"] == 2
    assert header.training["training_objects"] == 3
    assert header.training["validation"]["iou"] == {"base": 0.5, "result": 0.9}
    assert header.training["base"] == "micro"
    assert str(tmp_path) not in str(header.training)


def test_what_is_not_better_is_not_offered(tmp_path, monkeypatch):
    scored(monkeypatch, 0.7, 0.6, 0.65, 0.7)
    run = make_run(tmp_path / "run")
    train(run)
    state = run.poll()
    assert not state.is_better
    assert state.best_weights is None
    assert "use micro" in state.verdict
    assert not (run.folder / "best.safetensors").exists()
    assert [r.weights for r in list_runs(tmp_path)] == [None]


def test_a_gain_within_chance_is_not_offered_either(tmp_path, monkeypatch):
    scored(monkeypatch, 0.7, 0.71, 0.7, 0.7)
    run = make_run(tmp_path / "run")
    train(run)
    state = run.poll()
    assert not state.is_better
    assert state.best_weights is None
    assert "within chance" in state.verdict


def test_a_better_run_is_listed(tmp_path, monkeypatch):
    scored(monkeypatch, 0.5, 0.9, 0.6, 0.6)
    run = make_run(tmp_path / "runs" / "mine")
    train(run)
    (tmp_path / "runs" / "other").mkdir()
    (found,) = list_runs(tmp_path / "runs")
    assert (found.name, found.base, found.finished) == ("mine", "micro", True)
    assert found.weights == run.folder / "best.safetensors"
    assert found.objects == 4
    assert found.boundary == (0.5, 0.9)


def test_pictures_show_validation_objects_before_and_after(trained):
    previews = trained[0].poll().previews
    assert {p.image for p in previews} == {"b"}
    for preview in previews:
        with Image.open(preview.before) as before, Image.open(preview.after) as after:
            assert before.size == after.size


def test_the_report_needs_no_other_file(trained):
    text = (trained[0].folder / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert "http" not in text.replace("http-equiv", "")
    assert "<script>" not in text


@pytest.mark.parametrize("trains", ["modules", "interactor", "both", "decoder", "all"])
def test_only_what_is_to_learn_changes(tmp_path, trains):
    run = make_run(tmp_path / "run", trains=trains, learning_rate=1e-2, **SHORT)
    train(run)
    new = read_checkpoint(run.folder / "last.safetensors").tensors
    changed = {
        name for name, v in BASE.items() if v.is_floating_point() and not torch.equal(new[name], v)
    }
    assert changed
    interactor = {name for name in changed if name.startswith(INTERACTOR)}
    encoder = {name for name in changed if name.startswith("image_encoder.")}
    sam = {n for n in changed if n.startswith(("mask_decoder.transformer.", "prompt_encoder."))}
    assert bool(interactor) == (trains != "modules")
    assert (changed == interactor) == (trains == "interactor")
    assert bool(sam) == (trains in ("decoder", "all"))
    assert bool(encoder) == (trains == "all")
    assert any("offset_conv" in name for name in changed) == (trains != "interactor")


def test_deformable_convolutions_that_were_never_trained_stay_ordinary(tmp_path, monkeypatch):
    model = never_deformed_model(residual=True)
    offsets = [n for n, _ in model.named_parameters() if "offset_conv" in n or "modulator" in n]
    loaded = weights.LoadedModel(model, "ab" * 32, "MIT", "embedded")
    monkeypatch.setattr(weights, "load_model", lambda name, **_: loaded)
    run = make_run(tmp_path / "run", trains="all", learning_rate=1e-2, **SHORT)
    train(run)
    new = read_checkpoint(run.folder / "last.safetensors").tensors
    assert offsets
    assert not any(new[name].any() for name in offsets)


def test_the_checkpoint_leaves_out_what_is_frozen(tmp_path):
    run = make_run(tmp_path / "run", trains="interactor", **SHORT)
    train(run)
    state = torch.load(run.folder / CHECKPOINT, weights_only=True)
    assert all(name.startswith(INTERACTOR) for name in state["model"])
    assert state["model"].keys() == state["ema"].keys()


def test_weights_on_top_of_a_public_sam_leave_it_out(tmp_path, monkeypatch):
    sam = replace(MICRO, name="micro_sam", kind="sam")
    monkeypatch.setitem(variants.VARIANTS, "micro_sam", sam)
    entry = replace(CATALOGUE["sam_vit_b"], variant="micro_sam")
    monkeypatch.setitem(CATALOGUE, "micro_sam", entry)
    loaded = weights.LoadedModel(
        micro_model(kind="sam", name="micro_sam"), "cd" * 32, "MIT", "public"
    )
    monkeypatch.setattr(weights, "load_model", lambda name, **_: loaded)
    scored(monkeypatch, 0.5, 0.9, 0.9, 0.9)
    run = make_run(tmp_path / "run", base="micro_sam", trains="both")
    train(run)
    checkpoint = read_checkpoint(run.poll().best_weights)
    assert checkpoint.variant == "micro"
    assert checkpoint.needs_base
    assert checkpoint.header.base_sha256 == "cd" * 32
    # What no SAM has ever trained stays at its start, where it costs less.
    offsets = [value for name, value in checkpoint.tensors.items() if "offset_conv" in name]
    assert offsets
    assert not any(value.any() for value in offsets)
    assert list((run.folder / "cache").glob("*.safetensors"))


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    run = make_run(tmp_path / "run", **SHORT)
    for name in ("last.pt.part", ".best.safetensors.1234abcd.part"):
        (run.folder / name).write_bytes(b"half")
    train(run)
    assert list(run.folder.glob("*.part")) + list(run.folder.glob(".*.part")) == []


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    whole = Objective.forward

    def interrupted(self, batch, step):
        if step == 1:
            control[0].ask("leave")
        return whole(self, batch, step)

    control = []
    made = worker.Control

    def remember(*arguments, **options):
        control.append(made(*arguments, **options))
        return control[-1]

    monkeypatch.setattr(worker, "Control", remember)
    monkeypatch.setattr(Objective, "forward", interrupted)
    assert train(run)[1]["status"] == "interrupted"
    assert run.poll().can_resume
    assert run.poll().step == 2
    monkeypatch.setattr(Objective, "forward", whole)
    code, state = train(run)
    assert (code, state["status"]) == (0, "finished")
    assert [row["step"] for row in rows(run, "log.csv")] == ["1", "2", "3"]
    assert [row["step"] for row in rows(run, "validation.csv")] == ["0", "1", "3"]


def test_a_run_in_two_parts_gives_the_weights_of_one_in_one_part(tmp_path, monkeypatch):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    train(one)
    whole = Objective.forward

    def cut(self, batch, step):
        if step == 1:
            raise ValueError("cut")
        return whole(self, batch, step)

    monkeypatch.setattr(Objective, "forward", cut)
    assert train(two)[1]["status"] == "failed"
    monkeypatch.setattr(Objective, "forward", whole)
    train(two)
    first, second = (
        torch.load(run.folder / CHECKPOINT, weights_only=True)["ema"] for run in (one, two)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_too_little_memory_halves_the_batch_and_goes_on(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", batch=4, epochs=4)
    whole = Objective.forward

    def hungry(self, batch, step):
        if len(batch["image"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(self, batch, step)

    monkeypatch.setattr(Objective, "forward", hungry)
    code, state = train(run)
    assert (code, state["status"], state["batch"]) == (0, "finished", 2)


def test_too_little_memory_for_one_object_is_said(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")

    def hungry(self, batch, step):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Objective, "forward", hungry)
    code, _ = train(run)
    assert code == 1
    state = run.poll()
    assert state.status == "failed"
    assert "single object a step" in state.error


def test_a_full_disk_keeps_the_best_and_is_said(tmp_path, monkeypatch):
    scored(monkeypatch, 0.5, 0.9, 0.9, 0.9)
    run = make_run(tmp_path / "run")
    whole = torch.save
    saved = []

    def full(content, file):
        saved.append(content)
        if len(saved) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(content, file)

    monkeypatch.setattr(run_state.torch, "save", full)
    code, _ = train(run)
    assert code == DISK_FULL
    state = run.poll()
    assert state.status == "failed"
    assert "is full" in state.error
    assert state.is_better
    assert read_checkpoint(state.best_weights).header.training["steps"] == 1
    assert state.can_resume
    monkeypatch.setattr(run_state.torch, "save", whole)
    scored(monkeypatch, 0.6, 0.6)
    assert train(run)[1]["status"] == "finished"


def test_a_loss_that_is_not_finite_is_said(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    whole = Objective.forward
    monkeypatch.setattr(Objective, "forward", lambda s, b, n: whole(s, b, n) * float("nan"))
    train(run)
    assert "learning rate" in run.poll().error


def test_it_ends_early_when_nothing_gets_better(tmp_path, monkeypatch):
    scored(monkeypatch, 0.7, *[0.6] * 20)
    run = make_run(tmp_path / "run", epochs=8, patience=3)
    _, state = train(run)
    assert state["status"] == "finished"
    assert state["step"] == 3
    assert "Finished early" in state["message"]


def test_a_checkpoint_that_is_damaged_or_odd_is_refused_with_a_sentence(trained, tmp_path):
    shutil.copytree(trained[0].folder, tmp_path / "run")
    run = FineTuneRun.open(tmp_path / "run")
    state = torch.load(run.folder / CHECKPOINT, weights_only=True)
    for changes in ({"step": "three"}, {"model": []}, {"memory": 3}, {"optimizer": None}, None):
        if changes is None:
            (run.folder / CHECKPOINT).write_bytes(b"half a file")
        else:
            torch.save(state | changes, run.folder / CHECKPOINT)
        code, said = train(run)
        assert code == 1
        assert "does not fit this run" in said["error"], changes


def test_objects_that_vanish_are_refused(tmp_path):
    image = discs(count=3)
    image.labels[:] = 0
    image.labels[5:45, 5:45] = 1
    image.labels[10, 60:140] = 2
    run = make_run(tmp_path / "run", [image])
    _, state = train(run)
    assert "so thin or small" in state["error"]


def test_a_scorer_measures_masks_from_the_box_and_after_clicks(tmp_path):
    run = make_run(tmp_path / "run")
    model = micro_model(residual=True)
    scorer = Scorer(read_objects(run.folder), model, 64, None, shown=2)
    scores = scorer.score(model)
    masks = {}

    def keep(index, clicks, logits, mask, valid):
        masks[index, clicks] = (logits > 0) & (valid > 0.5), mask > 0.5
        return (0.0,)

    evaluate(model, scorer.samples, scoring.COUNTS, keep)
    for index, place in enumerate(scorer.places):
        for turn, clicks in enumerate(scoring.COUNTS):
            found, truth = masks[index, clicks]
            iou = float((found & truth).sum() / (found | truth).sum())
            assert scores[place].iou[turn] == pytest.approx(iou)
    assert len(scorer.shown) == 2


def test_opening_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no fine-tuning in"):
        FineTuneRun.open(tmp_path)
