"""An encoder for inference: batch norms and scales folded into the convolutions.

On a CPU every layer between two convolutions reads and writes a whole feature map for a few
operations a value; folded, they cost nothing.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from napari_pisam.model.pisam import PiSam


class _FoldedRgbEmbedding(nn.Module):
    """The RGB embedding's 1 x 1 and 3 x 3 convolutions as a single one.

    The 3 x 3 convolution pads with zeros what the 1 x 1 gave, its bias too; so the pixels at the
    frame's edges get another constant than the others.
    """

    def __init__(self, embedding: nn.Sequential) -> None:
        super().__init__()
        layers: Any = copy.deepcopy(embedding).requires_grad_(False)
        first, second = layers
        weight = torch.einsum("omij,mc->ocij", second.weight, first.weight[:, :, 0, 0])
        conv: Any = nn.Conv2d(first.in_channels, second.out_channels, 3, padding=1)
        conv.requires_grad_(False)
        bias = first.bias.view(1, -1, 1, 1).expand(-1, -1, 3, 3)
        constants = second(bias)
        conv.weight.copy_(weight)
        conv.bias.copy_(constants[0, :, 1, 1])
        self.conv = conv.to(memory_format=torch.channels_last)
        # (1, C, 3, 3): what the first, the inner and the last rows and columns get on top.
        self.register_buffer("edges", constants - constants[:, :, 1:2, 1:2], persistent=False)

    edges: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        for row in (0, -1):
            y[:, :, row, 1:-1] += self.edges[:, :, row, 1:2]
            for col in (0, -1):
                y[:, :, row, col] += self.edges[:, :, row, col]
        for col in (0, -1):
            y[:, :, 1:-1, col] += self.edges[:, :, 1:2, col]
        return y


class _AddScalar(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(self.value) if self.value else x


@torch.no_grad()
def folded(model: PiSam, dtype: torch.dtype = torch.float32) -> PiSam:
    """Return the network for inference on the CPU; the given one is left as it is.

    Parameters
    ----------
    model
        In eval mode. An encoder without batch norms has nothing to fold.
    dtype
        What autocast will compute in: the encoder's convolutions and linear layers get their
        weights in it, which autocast would cast at every call. Norms stay float32.

    Returns
    -------
    PiSam
        A shallow copy with an encoder of its own; the same numbers up to rounding. Everything
        else is shared.
    """
    given: nn.Module | None = getattr(model, "image_encoder", None)
    if given is None or not any(isinstance(m, nn.BatchNorm2d) for m in given.modules()):
        return model
    encoder = copy.deepcopy(given).requires_grad_(False)
    for module in list(encoder.modules()):
        # Modules list their layers in the order in which they run.
        for (name, conv), (other, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                # Some of timm's norms hold the activation after them.
                setattr(module, other, getattr(norm, "act", nn.Identity()))
        _fold_affine(module)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    # Folding gives new weights, which oneDNN would otherwise reorder at every call.
    view = copy.copy(model)
    changed: dict[str, nn.Module] = {"image_encoder": encoder.to(memory_format=torch.channels_last)}
    if isinstance(model.rgb_embedding, nn.Sequential):
        changed["rgb_embedding"] = _FoldedRgbEmbedding(model.rgb_embedding)
    view._modules = {**model._modules, **changed}
    return view


def _fold_affine(block: Any) -> None:
    """Fold the affine of timm's convolution, norm, ReLU and affine (HGNetV2's ``ConvBNAct``)."""
    affine = getattr(block, "lab", None)
    if affine is None or not hasattr(affine, "scale") or not isinstance(block.act, nn.ReLU):
        return
    scale, bias = float(affine.scale), float(affine.bias)
    # scale * relu(x) + bias is relu(scale * x) + bias for a positive scale.
    if scale > 0:
        block.conv.weight.data.mul_(scale)
        block.conv.bias.data.mul_(scale)
        block.lab = _AddScalar(bias)
