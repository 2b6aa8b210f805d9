from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from micro import MICRO, micro_model
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import CompactEncoder
from recipes.tiny.config import RecipeConfig
from recipes.tiny.optimizers import build_optimizer

if TYPE_CHECKING:
    from pathlib import Path

RATE = 1e-3


def config(folder: Path, optimizer: Any) -> RecipeConfig:
    values = {"data": folder, "output": folder, "learning_rate": RATE, "weight_decay": 0.5}
    return RecipeConfig(**values, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_matrices_and_convolutions_are_decayed(optimizer: str, tmp_path: Path) -> None:
    model = micro_model()
    built = build_optimizer(model, config(tmp_path, optimizer))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    built.step()
    for name, parameter in model.named_parameters():
        kept = 1 - 0.5 * RATE if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), kept * before[name])


def test_a_step_of_muon_turns_a_matrix_in_all_directions_alike(tmp_path: Path) -> None:
    model = micro_model()
    weight = model.mask_decoder.hf_mlp.layers[0].weight
    before = weight.detach().clone()
    built = build_optimizer(model, config(tmp_path, "muon"))
    built.param_groups[0]["weight_decay"] = 0.0
    # One direction of the gradient is a hundred times as steep as the others.
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(weight.shape, generator=generator)
    gradient[0] *= 100
    weight.grad = gradient
    built.step()
    change = (weight.detach() - before) / RATE
    values = torch.linalg.svdvals(change)
    # Newton and Schulz's five steps bring all but the smallest singular values near one.
    middle = float(values.median())
    assert float(values.max()) < 1.4 * middle
    assert float(values.quantile(0.1)) > 0.4 * middle
    # As large as a step of AdamW, by its usual root mean square.
    assert float(change.square().mean().sqrt()) == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_pretrained_backbone_learns_slower_and_is_not_decayed(
    optimizer: str, tmp_path: Path
) -> None:
    model = build_model(
        replace(MICRO, encoder=CompactEncoder("mobilenetv4_conv_small_050", 16, 32))
    )
    slow = config(tmp_path, optimizer).model_copy(update={"backbone_rate": 0.1})
    groups = build_optimizer(model, slow).param_groups
    (own,) = [group for group in groups if group.get("share") == 0.1]
    assert own["weight_decay"] == 0
    backbone = {id(p) for n, p in model.named_parameters() if ".backbone." in n}
    assert {id(p) for p in own["params"]} == backbone
    everything = [id(p) for group in groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())
