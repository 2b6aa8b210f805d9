"""Depth-wise convolutions with gradients in float32 compute what ordinary ones do."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from recipes.tiny.depthwise import quicken_depthwise


def _gradients(model: nn.Module, image: Tensor, *, cast: bool) -> tuple[Tensor, list[Tensor]]:
    """Outputs in one row, and the gradients of the image and of all weights."""
    model.zero_grad()
    image = image.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        outputs = torch.cat([feature.float().flatten() for feature in model(image)])
    outputs.square().mean().backward()
    assert image.grad is not None
    weights = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return outputs.detach(), [image.grad, *weights]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", features_only=True).eval()


def test_quick_convolutions_give_the_same_numbers(network: nn.Module) -> None:
    image = torch.randn(2, 3, 64, 96)
    wanted, wanted_gradients = _gradients(network, image, cast=False)
    rounded, rounded_gradients = _gradients(network, image, cast=True)
    names = list(network.state_dict())
    before = [type(module) for module in network.modules()]

    quicken_depthwise(network)

    # 16 blocks of EfficientNet-Lite0 and its stem's separable one: all depth-wise layers.
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    changed = [a is not type(m) for a, m in zip(before, network.modules(), strict=True)]
    assert len(depthwise) == sum(changed) > 10
    assert list(network.state_dict()) == names
    found, gradients = _gradients(network, image, cast=False)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    # In bfloat16 they are no further from the truth than the ordinary ones.
    found, gradients = _gradients(network, image, cast=True)
    torch.testing.assert_close(found, rounded)
    for plain, quick, truth in zip(rounded_gradients, gradients, wanted_gradients, strict=True):
        assert (quick - truth).norm() <= 1.1 * (plain - truth).norm() + 1e-6
