from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from micro import MICRO, micro_model
from napari_pisam.learn import engine
from napari_pisam.learn.batches import to_batch
from napari_pisam.learn.dataset import TrainingSamples
from napari_pisam.learn.objective import Draws, Objective
from napari_pisam.model import variants
from napari_pisam.model.variants import CompactEncoder
from napari_pisam.weights.checkpoint_format import read_checkpoint, save_checkpoint
from recipes.tiny import training
from recipes.tiny.config import RecipeConfig
from recipes.tiny.samples import validation_samples
from recipes.tiny.sets import load_images
from recipes.tiny.starting import starting_model
from training_sets import write_set

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SWITCHES: dict[str, Any] = {
    "residual": True,
    "click_maps": True,
    "local_clicks": True,
    "box_maps": True,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data", "discs", [f"a{i}" for i in range(5)])
    return tmp_path / "data"


@pytest.fixture
def config(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecipeConfig:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **SWITCHES))
    return RecipeConfig(
        data=data,
        output=tmp_path / "run",
        variant="micro",
        frame=64,
        batch=2,
        steps=3,
        workers=0,
        warmup=0,
        validation_objects=1,
        accelerator="cpu",
    )


def batch(data: Path, count: int = 2) -> dict[str, Any]:
    samples = TrainingSamples(load_images(data), size=64)
    return to_batch([{**samples.sample(i), "position": i} for i in range(count)])


def last(config: RecipeConfig) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(config.output / "last.pt", weights_only=True)
    return state


def after(steps: int) -> Callable[[], bool]:
    """A question that is answered by yes in the course of the step of this number."""
    asked = iter(range(steps - 1))
    return lambda: next(asked, None) is None


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def test_a_step_trains_every_module_the_interactor_among_them(
    data: Path, config: RecipeConfig
) -> None:
    config = config.model_copy(update={"clicks_only": 0.0, "mask_prompt": 0.0})
    objective = Objective(micro_model(**SWITCHES), config, None).train()
    objective(batch(data), 0).backward()
    model = objective.model
    modules = {
        "interactor": model.mask_decoder.interact_2,
        "object embedder": model.mask_decoder.mask_aspp,
        "head": model.mask_decoder.out_act,
        "rgb embedding": model.rgb_embedding,
        "decoder": model.mask_decoder.transformer,
        "encoder": model.image_encoder,
    }
    for name, module in modules.items():
        assert module is not None
        assert any(p.grad is not None and p.grad.any() for p in module.parameters()), name


@pytest.mark.parametrize("share", [{"clicks_only": 1.0}, {"clicks_only": 0, "mask_prompt": 1.0}])
def test_clicks_alone_and_masks_are_prompts_too(
    share: dict[str, float], data: Path, config: RecipeConfig
) -> None:
    config = config.model_copy(update=share)
    objective = Objective(micro_model(residual=True, box_maps=True), config, None)
    assert torch.isfinite(objective(batch(data), 0))


def test_repeated_steps_on_one_batch_lower_the_loss(data: Path, config: RecipeConfig) -> None:
    objective = Objective(micro_model(**SWITCHES), config, None).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    one = batch(data)
    losses = []
    for _ in range(12):
        loss = objective(one, 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_draws_of_an_object_do_not_depend_on_the_others_in_its_batch() -> None:
    together, alone = Draws.of(0, 5, [10, 11]), Draws.of(0, 5, [11])
    assert together.step.random() == alone.step.random()
    assert together.objects[1].random() == alone.objects[0].random()
    assert together.objects[0].random() != Draws.of(0, 6, [11]).objects[0].random()


def test_evaluation_reports_every_source_and_number_of_clicks(data: Path) -> None:
    samples = validation_samples(load_images(data, part="all"), size=64, objects=2)
    scores = training.evaluate(micro_model(), samples, counts=(0, 2))
    assert list(scores) == ["discs"]
    assert list(scores["discs"]) == [0, 2]
    assert all(0 <= value <= 1 for value in scores["discs"].values())


def test_the_rate_warms_up_and_falls_to_zero_by_steps_or_by_time(config: RecipeConfig) -> None:
    config = config.model_copy(update={"steps": 100, "warmup": 10, "learning_rate": 1.0})
    assert engine.learning_rate(config, 0, 0) == pytest.approx(0.1)
    assert engine.learning_rate(config, 50, 1e9) == pytest.approx(0.5)
    assert engine.learning_rate(config, 100, 0) == pytest.approx(0)
    timed = config.model_copy(update={"minutes": 2.0})
    assert engine.learning_rate(timed, 20, 60) == pytest.approx(0.5)
    assert engine.progress(timed, 20, 120) == 1


def test_a_run_stops_resumes_and_keeps_its_averaged_weights(config: RecipeConfig) -> None:
    training.fit(config)
    first = last(config)
    assert first["step"] == 3
    assert RecipeConfig.from_toml(config.output / "config.toml") == config
    rows = (config.output / "validation.csv").read_text().splitlines()
    assert rows[-1].startswith("3,")
    result = training.fit(config.model_copy(update={"steps": 5}))
    second = last(config)
    assert second["step"] == result.step == 5
    changed = [not torch.equal(first["ema"][k], second["ema"][k]) for k in first["ema"]]
    assert any(changed)
    lines = (config.output / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_ends_as_one_that_never_stopped(optimizer: str, config: RecipeConfig) -> None:
    config = config.model_copy(update={"steps": 6, "optimizer": optimizer})
    straight = config.model_copy(update={"output": config.output.with_name("straight")})
    assert not training.fit(straight).stopped
    result = training.fit(config, stop=after(3))
    assert (result.step, result.stopped) == (3, True)
    # Another number of loader processes changes nothing.
    training.fit(config.model_copy(update={"workers": 2}))
    one, two = last(straight), last(config)
    assert one.pop("elapsed") > 0
    assert two.pop("elapsed") > 0
    assert one["position"] == 12
    assert equal(one, two)
    losses = [
        [row.split(",")[2] for row in (run.output / "log.csv").read_text().splitlines()]
        for run in (straight, config)
    ]
    assert len(losses[0]) == 7
    assert losses[0] == losses[1]


def test_another_seed_trains_otherwise(config: RecipeConfig) -> None:
    config = config.model_copy(update={"steps": 1})
    other = config.model_copy(update={"seed": 1, "output": config.output.with_name("other")})
    training.fit(config)
    training.fit(other)
    assert not equal(last(config)["model"], last(other)["model"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(number: signal.Signals, config: RecipeConfig) -> None:
    before = signal.getsignal(number)

    def send_once() -> bool:
        if not (config.output / "log.csv").read_text().count("\n") > 1:
            os.kill(os.getpid(), number)
        return False

    result = training.fit(config, stop=send_once)
    assert result.stopped
    assert last(config)["step"] == result.step < 3
    assert signal.getsignal(number) is before


def test_nothing_is_written_outside_of_the_output(config: RecipeConfig, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    training.fit(config)
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(config.output) for path in new)
    names = {path.name for path in new if path.is_file()}
    assert names == {"config.toml", "log.csv", "validation.csv", "last.pt", "best.safetensors"}


def test_the_best_weights_stay_when_later_ones_are_worse(
    config: RecipeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([0.4, 0.6, 0.5])
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: {"discs": {0: next(given)}})
    result = training.fit(config.model_copy(update={"validate_minutes": 1e-9}))
    assert result.best_step == 2
    assert result.best == {"discs": {0: 0.6}}
    assert result.last == {"discs": {0: 0.5}}
    header = read_checkpoint(config.output / "best.safetensors").header
    assert header is not None
    assert header.training["steps"] == 2


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_batch(
    what: str, config: RecipeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Objective, batch: dict[str, Any], step: int) -> torch.Tensor:
        weight = next(self.model.mask_decoder.parameters()).sum()
        # The root of zero is fine, its slope is not.
        return weight * float("nan") if what == "loss" else (weight * 0).sqrt()

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(FloatingPointError, match=f"{what}.* at step 0"):
        training.fit(config)
    kept = torch.load(config.output / "bad_batch.pt", weights_only=True)
    assert kept["image"].shape == (2, 3, 64, 64)
    assert not (config.output / "last.pt").exists()


def test_a_rigid_run_leaves_the_offsets_at_zero(
    config: RecipeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact = replace(
        MICRO, encoder=CompactEncoder("mobilenetv4_conv_small_050", 16, 32), residual=True
    )
    monkeypatch.setitem(variants.VARIANTS, "micro", compact)
    training.fit(config.model_copy(update={"rigid": True, "steps": 2}))
    offsets = [value for key, value in last(config)["model"].items() if "offset_conv" in key]
    assert offsets
    assert not any(value.any() for value in offsets)


def test_a_checkpoint_of_another_network_is_refused(config: RecipeConfig) -> None:
    training.fit(config.model_copy(update={"steps": 1}))
    state = last(config)
    state["model"] = {"weight": torch.zeros(1)}
    torch.save(state, config.output / "last.pt")
    with pytest.raises(ValueError, match="does not fit this run"):
        training.fit(config)


def test_a_frame_that_the_encoder_does_not_know_is_refused(config: RecipeConfig) -> None:
    with pytest.raises(ValueError, match="Set frame = 64"):
        training.fit(config.model_copy(update={"frame": 96}))


def test_an_unknown_setting_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "a"\noutput = "b"\nlearningrate = 1.0\n')
    with pytest.raises(ValueError, match="learningrate"):
        RecipeConfig.from_toml(file)


def test_clicks_of_a_batch_are_padded_alike() -> None:
    clicks = engine.Clicks(2)
    clicks.add(0, (3, 5, True))
    clicks.add(1, None)
    points, labels = clicks.tensors()
    np.testing.assert_allclose(points[0, 0], [5.5, 3.5])
    assert labels.tolist() == [[1], [-1]]


def test_a_run_leaves_the_arithmetic_of_its_thread_as_it_was(config: RecipeConfig) -> None:
    training.fit(config)
    assert float(torch.tensor([1e-310], dtype=torch.float64) * 1.0) > 0
    assert np.float64(1e-310) * 0.5 > 0


def test_mixed_precision_leaves_the_inputs_in_float32(config: RecipeConfig) -> None:
    class Echo(torch.nn.Linear):
        def forward(self, box: torch.Tensor) -> torch.Tensor:
            assert box.dtype == torch.float32
            out = super().forward(box)
            assert out.dtype == torch.bfloat16
            return out

    fabric = engine.build_fabric("cpu", training.arithmetic_of("bf16-mixed", "cpu"))
    echo = fabric.setup(Echo(1, 1))
    echo(torch.tensor([[257.5]]))


def test_a_run_in_mixed_precision_trains(config: RecipeConfig) -> None:
    result = training.fit(config.model_copy(update={"precision": "bf16-mixed"}))
    assert result.step == 3
    assert (config.output / "last.pt").exists()


def test_initial_weights_of_another_version_train_as_this_one(
    config: RecipeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.safetensors"
    old = {**SWITCHES, "click_order": "rc"}
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **old))
    save_checkpoint(path, micro_model(**old), licence="MIT")
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **SWITCHES))
    model = starting_model(config.model_copy(update={"initial": path}))
    assert model.variant.click_order == "xy"


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_without_a_second_answer_give_it_what_they_know(
    suffix: str, config: RecipeConfig, tmp_path: Path
) -> None:
    path, old = tmp_path / f"old.{suffix}", micro_model(**SWITCHES, fine_answer=False)
    if suffix == "pt":
        torch.save({"ema": old.state_dict()}, path)
    else:
        save_checkpoint(path, old, licence="MIT")
    config = config.model_copy(update={"initial": path, "fine_answer": True})
    model = starting_model(config)
    with torch.no_grad():
        image = model.encode(torch.rand(1, 3, 64, 64) * 255)
        found = model.decode(image, boxes=torch.tensor([[8.0, 10.0, 40.0, 50.0]]))
    torch.testing.assert_close(found.low_res[:, 0], found.low_res[:, 1])
    torch.testing.assert_close(found.iou[:, 0], found.iou[:, 1])


@pytest.mark.parametrize("lines", [False, True])
def test_an_object_is_learnt_by_the_answer_of_its_kind(
    lines: bool, data: Path, config: RecipeConfig
) -> None:
    config = config.model_copy(update={"clicks_only": 0.0, "mask_prompt": 0.0})
    objective = Objective(micro_model(**SWITCHES, fine_answer=True), config, None).train()
    one = batch(data)
    one["mask"].zero_()
    one["mask"][:, :, 20:40, 20 : 40 : 10 if lines else 1] = 1
    objective(one, 0).backward()
    decoder = objective.model.mask_decoder
    learnt, left = (decoder.fine_mlp, decoder.hf_mlp)[:: 1 if lines else -1]
    assert all(p.grad is not None and p.grad.any() for p in learnt.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in left.parameters())
