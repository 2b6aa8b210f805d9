"""A fused GELU gives what the layer and `gelu` give, and steps aside where it cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.evaluate.efficiency import count_flops
from napari_pisam.model.fused_gelu import conv_gelu, linear_gelu

LAYERS: dict[str, tuple[nn.Module, Any, tuple[int, ...]]] = {
    "convolution": (nn.Conv2d(16, 32, 3, 2, 1), conv_gelu, (2, 16, 12, 10)),
    "depthwise": (nn.Conv2d(16, 16, 3, padding=1, groups=16), conv_gelu, (1, 16, 9, 8)),
    "linear": (nn.Linear(16, 64), linear_gelu, (2, 7, 5, 16)),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> tuple[nn.Module, Any, Tensor]:
    module, fused, shape = LAYERS[request.param]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return module, fused, x.to(memory_format=torch.channels_last)


@torch.inference_mode()
def test_it_is_the_layer_and_a_gelu(layer: tuple[nn.Module, Any, Tensor]) -> None:
    module, fused, x = layer
    torch.testing.assert_close(fused(module, x), F.gelu(module(x)), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_under_autocast_the_result_is_what_autocast_gives(
    layer: tuple[nn.Module, Any, Tensor],
) -> None:
    module, fused, x = layer
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = F.gelu(module(x)), fused(module, x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_gradients_are_those_of_the_layer_and_a_gelu(
    layer: tuple[nn.Module, Any, Tensor],
) -> None:
    module, fused, x = layer
    weight: Any = module.weight
    (expected,) = torch.autograd.grad(F.gelu(module(x)).square().sum(), weight)
    (found,) = torch.autograd.grad(fused(module, x).square().sum(), weight)
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_its_operations_are_counted(layer: tuple[nn.Module, Any, Tensor]) -> None:
    module, fused, x = layer
    weight: Any = module.weight
    expected = 2 * module(x).numel() * weight[0].numel()
    assert count_flops(lambda: fused(module, x)) == expected
