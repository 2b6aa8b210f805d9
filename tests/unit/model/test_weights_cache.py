"""What is made of weights is made once, and anew when they change in any way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.weights_cache import WeightsCache


def in_place(layer: ModulatedDeformConv2d) -> None:
    with torch.no_grad():
        layer.offset_conv.weight.add_(0.5)


def optimizer_step(layer: ModulatedDeformConv2d) -> None:
    layer.modulator_conv.bias.grad = torch.ones_like(layer.modulator_conv.bias)
    torch.optim.SGD([layer.modulator_conv.bias], lr=0.1).step()


def load(layer: ModulatedDeformConv2d, *, assign: bool = False) -> None:
    state = {key: torch.ones_like(value) for key, value in layer.state_dict().items()}
    layer.load_state_dict(state, assign=assign)


def replace_parameter(layer: ModulatedDeformConv2d) -> None:
    layer.offset_conv.bias = nn.Parameter(torch.ones(18))


def replace_data(layer: ModulatedDeformConv2d) -> None:
    layer.offset_conv.bias.data = torch.ones(18)


def through_data(layer: ModulatedDeformConv2d) -> None:
    layer.train()
    layer.offset_conv.bias.data.fill_(1.0)
    layer.eval()


CHANGES: list[Any] = [
    in_place,
    optimizer_step,
    load,
    lambda layer: load(layer, assign=True),
    replace_parameter,
    replace_data,
    through_data,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_learns_offsets_is_not_ordinary_any_more(change: Any) -> None:
    layer = ModulatedDeformConv2d(4, 4).eval()
    assert layer.is_ordinary()
    copied = copy.deepcopy(layer)
    change(layer)
    assert not layer.is_ordinary()
    assert copied.is_ordinary()
    change(copied)
    assert not copied.is_ordinary()


def test_weights_are_looked_at_once_for_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ModulatedDeformConv2d(4, 4).eval()
    looks = 0
    any_of = torch.Tensor.any

    def counted(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal looks
        looks += 1
        return any_of(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "any", counted)
    with torch.inference_mode():
        for _ in range(5):
            layer(torch.rand(1, 4, 8, 8))
    assert looks == 4  # one for each weight and bias


def test_a_copy_remembers_nothing() -> None:
    weight = torch.ones(2)
    kept: WeightsCache[object] = WeightsCache()
    value = kept.of([weight], object)
    assert kept.of([weight], object) is value
    assert copy.deepcopy(kept).of([weight], object) is not value
    kept.forget()
    assert kept.of([weight], object) is not value
