"""The Object Embedder: tells the mask feature what the coarse mask knows (Pi-SAM, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.layer_norm import LayerNorm2d


class _DeformableBranch(nn.Module):
    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.atrous_conv = nn.Sequential(
            ModulatedDeformConv2d(width, width, kernel_size), LayerNorm2d(width), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.atrous_conv(x)
        return y


class ObjectEmbedder(nn.Module):
    """Mask feature and coarse logits in, object-aware mask feature out.

    A skip connection beside a 3 x 3 and a 7 x 7 deformable convolution, so that repeated fine
    structure (meshes, spokes) is seen together.

    Parameters
    ----------
    width
        Channels of the mask feature.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask_embedding = nn.Sequential(
            nn.Conv2d(width + 1, width, 1),
            LayerNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            LayerNorm2d(width),
            nn.GELU(),
        )
        self.aspp1 = _DeformableBranch(width, 3)
        self.aspp2 = _DeformableBranch(width, 7)
        self.conv_out = nn.Sequential(
            nn.Conv2d(3 * width, width, 1, bias=False), LayerNorm2d(width), nn.GELU()
        )

    def forward(self, feature: Tensor, coarse_logits: Tensor) -> Tensor:
        """Embed the object.

        Parameters
        ----------
        feature : (B, width, H, W) float
        coarse_logits : (B, 1, H, W) float
            Raw logits, not probabilities.

        Returns
        -------
        (B, width, H, W) float
        """
        x = self.mask_embedding(torch.cat([feature, coarse_logits], dim=1))
        y: Tensor = self.conv_out(torch.cat([x, self.aspp1(x), self.aspp2(x)], dim=1))
        return y
