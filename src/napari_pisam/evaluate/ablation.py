"""The paper's Table 5: a model with parts of its high-resolution modules switched off.

The switches work on a trained model, without training it anew. The paper trained every row; to
compare rows like that, train them and evaluate their checkpoints side by side.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from napari_pisam.model.high_resolution_head import RGB_WIDTH

if TYPE_CHECKING:
    from napari_pisam.model.pisam import PiSam

_Module = TypeVar("_Module", bound=nn.Module)


class _NoRgb(nn.Module):
    """An RGB embedding that knows nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        return image.new_zeros((image.shape[0], self.channels, *image.shape[2:]))


class _NoEmbedder(nn.Module):
    """Passes the mask feature on as it comes."""

    def forward(self, feature: Tensor, coarse_logits: Tensor) -> Tensor:
        return feature


class _NoHead(nn.Module):
    """A head that adds nothing to the enlarged coarse logits."""

    def forward(self, feature: Tensor) -> Tensor:
        return torch.zeros_like(feature[:, :1])


def ablated(model: PiSam, *, rgb: bool = True, head: bool = True, embedder: bool = True) -> PiSam:
    """Copy a Pi-SAM with parts switched off.

    Parameters
    ----------
    model : PiSam
        A Pi-SAM; it is not changed, and shares its weights with the copy.
    rgb : bool
        The RGB embedding; without it the head sees zeros.
    head : bool
        The high-resolution head; without it the coarse logits are enlarged, and clicks, whose
        corrections pass through the head, change nothing.
    embedder : bool
        The Object Embedder; without it the mask feature stays as it is.

    Raises
    ------
    ValueError
        If the model has no such parts.
    """
    if not model.has_interactor:
        raise ValueError(
            f"{model.variant.name!r} has none of the parts that are switched off. Choose a "
            "pisam variant, or leave the ablation out."
        )
    result = _shallow(model)
    decoder = _shallow(model.mask_decoder)
    if not rgb:
        result._modules["rgb_embedding"] = _NoRgb(RGB_WIDTH)
    if not embedder:
        decoder._modules["mask_aspp"] = _NoEmbedder()
    if not head:
        decoder._modules["out_act"] = _NoHead()
        result.variant = replace(result.variant, residual=True)
    result._modules["mask_decoder"] = decoder
    return result.eval()


def _shallow(module: _Module) -> _Module:
    """Copy a module, not what it holds."""
    result = copy.copy(module)
    result._modules = dict(module._modules)
    return result


def ablations(model: PiSam) -> dict[str, PiSam]:
    """Build the rows of the table by what each leaves out; nothing first."""
    return {
        "all parts": model,
        "no RGB embedding": ablated(model, rgb=False),
        "no Object Embedder": ablated(model, embedder=False),
        "neither": ablated(model, rgb=False, embedder=False),
        "no HR head": ablated(model, head=False),
    }
