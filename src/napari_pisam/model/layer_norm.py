"""SAM's channels-first layer norm, computed by the fused kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from napari_pisam.model.sam_modules import LayerNorm2d as _SamLayerNorm2d

if TYPE_CHECKING:
    from torch import Tensor, nn


class LayerNorm2d(_SamLayerNorm2d):  # type: ignore[misc]
    """Layer norm over the channels of a (B, C, H, W) tensor; SAM's keys and values.

    On channels-last memory the permutation is free and the fused kernel reads the tensor once,
    where SAM's own formula makes five passes over it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, H, W) over C; same shape and dtype."""
        channels_last = x.permute(0, 2, 3, 1)
        y = F.layer_norm(channels_last, (x.shape[1],), self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def use_fused_layer_norms(module: nn.Module) -> None:
    """Replace SAM's layer norms inside ``module`` by fused ones that share their parameters."""
    child: Any
    for name, child in module.named_children():
        if type(child) is _SamLayerNorm2d:
            fused = LayerNorm2d(child.bias.numel(), child.eps)
            fused.weight, fused.bias = child.weight, child.bias
            setattr(module, name, fused)
        else:
            use_fused_layer_norms(child)
