from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from micro import MICRO, micro_model
from napari_pisam.model.variants import CompactEncoder
from napari_pisam.train import engine
from napari_pisam.train.config import TrainConfig
from napari_pisam.train.dataset import TrainingSamples, ValidationSamples
from napari_pisam.train.store import load_images
from training_sets import write_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data", "discs", [f"a{i}" for i in range(5)])
    return tmp_path / "data"


@pytest.fixture
def config(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    variant = replace(MICRO, residual=True, click_maps=True, box_maps=True)
    monkeypatch.setattr(engine, "get_variant", lambda _: variant)
    return TrainConfig(
        data=data, output=tmp_path / "run", frame=64, batch=2, steps=3, workers=0, warmup=0
    )


def batch(data: Path, count: int = 2) -> engine.Batch:
    samples = TrainingSamples(load_images(data), size=64, weights=(1, 0, 0))
    return engine._to_batch([samples.sample(i) for i in range(count)])


def test_a_step_trains_every_module_the_interactor_among_them(
    data: Path, config: TrainConfig
) -> None:
    model = micro_model(residual=True, click_maps=True, box_maps=True).train()
    loss = engine.train_step(model, batch(data), config, np.random.default_rng(0))
    loss.backward()  # type: ignore[no-untyped-call]
    modules = {
        "interactor": model.mask_decoder.interact_2,
        "object embedder": model.mask_decoder.mask_aspp,
        "head": model.mask_decoder.out_act,
        "rgb embedding": model.rgb_embedding,
        "decoder": model.mask_decoder.transformer,
        "encoder": model.image_encoder,
    }
    for name, module in modules.items():
        assert any(p.grad is not None and p.grad.any() for p in module.parameters()), name


@pytest.mark.parametrize("share", [{"clicks_only": 1.0}, {"clicks_only": 0, "mask_prompt": 1.0}])
def test_clicks_alone_and_masks_are_prompts_too(
    share: dict[str, float], data: Path, config: TrainConfig
) -> None:
    model = micro_model(residual=True, box_maps=True).train()
    config = config.model_copy(update=share)
    loss = engine.train_step(model, batch(data), config, np.random.default_rng(0))
    assert torch.isfinite(loss)


def test_repeated_steps_on_one_batch_lower_the_loss(data: Path, config: TrainConfig) -> None:
    model = micro_model(residual=True, click_maps=True, box_maps=True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    one = batch(data)
    losses = []
    for _ in range(12):
        loss = engine.train_step(model, one, config, np.random.default_rng(1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_evaluation_reports_every_source_and_number_of_clicks(data: Path) -> None:
    samples = ValidationSamples(load_images(data, part="all"), size=64, objects=2)
    scores = engine.evaluate(micro_model(), samples, counts=(0, 2))
    assert list(scores) == ["discs"]
    assert list(scores["discs"]) == [0, 2]
    assert all(0 <= value <= 1 for value in scores["discs"].values())


def test_a_run_stops_resumes_and_keeps_its_averaged_weights(config: TrainConfig) -> None:
    engine.fit(config)
    first = torch.load(config.output / "last.pt", weights_only=True)
    assert first["step"] == 3
    assert TrainConfig.from_toml(config.output / "config.toml") == config
    rows = (config.output / "validation.csv").read_text().splitlines()
    assert rows[-1].startswith("3,")
    engine.fit(config.model_copy(update={"steps": 5}))
    second = torch.load(config.output / "last.pt", weights_only=True)
    assert second["step"] == 5
    changed = [not torch.equal(first["ema"][k], second["ema"][k]) for k in first["ema"]]
    assert any(changed)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        engine, "train_step", lambda *_: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(FloatingPointError, match="step 0"):
        engine.fit(config)
    assert (config.output / "bad_batch.pt").is_file()


def test_a_rigid_run_leaves_the_offsets_at_zero(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact = replace(
        MICRO, encoder=CompactEncoder("mobilenetv4_conv_small_050", 16, 32), residual=True
    )
    monkeypatch.setattr(engine, "get_variant", lambda _: compact)
    engine.fit(config.model_copy(update={"rigid": True}))
    state = torch.load(config.output / "last.pt", weights_only=True)["model"]
    offsets = [value for key, value in state.items() if "offset_conv" in key]
    assert offsets
    assert not any(value.any() for value in offsets)


def test_an_unknown_setting_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "a"\noutput = "b"\nlearningrate = 1.0\n')
    with pytest.raises(ValueError, match="learningrate"):
        TrainConfig.from_toml(file)
