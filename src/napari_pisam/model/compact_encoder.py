"""A small convolutional image encoder with the same outputs as SAM's."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.layer_norm import LayerNorm2d
from napari_pisam.model.native_libraries import import_apart

timm = import_apart("timm")


def _conv(inputs: int, outputs: int, kernel_size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class CompactImageEncoder(nn.Module):
    """A timm backbone with a feature pyramid.

    The embedding (S/16, 256 channels) is what SAM's decoder reads; the early feature (S/4) keeps
    fine detail and, from the pyramid's top-down path, some context.

    Parameters
    ----------
    backbone : str
        timm's name of it.
    early_channels : int
        Channels of the early feature.
    neck_channels : int
        Channels of the pyramid's coarse levels.
    """

    def __init__(self, *, backbone: str, early_channels: int, neck_channels: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            backbone, pretrained=False, features_only=True, out_indices=(-4, -3, -2, -1)
        )
        info: Any = self.backbone.feature_info
        reductions = tuple(info.reduction())
        if reductions != (4, 8, 16, 32):
            msg = (
                f"The backbone {backbone!r} has strides {reductions}; "
                "a compact encoder needs one with features at strides 4, 8, 16 and 32."
            )
            raise ValueError(msg)
        c4, c8, c16, c32 = info.channels()
        wide, narrow = neck_channels, early_channels
        self.lateral32 = _conv(c32, wide, 1)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, wide, 1), nn.ReLU())
        self.smooth32 = _conv(wide, wide)
        self.lateral16 = _conv(c16, wide, 1)
        self.smooth16 = _conv(wide, wide)
        self.embed = nn.Sequential(nn.Conv2d(wide, 256, 1), LayerNorm2d(256))
        self.reduce16 = _conv(wide, narrow, 1)
        self.lateral8 = _conv(c8, narrow, 1)
        self.smooth8 = _conv(narrow, narrow)
        self.lateral4 = _conv(c4, narrow, 1)
        self.smooth4 = _conv(narrow, narrow)

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode normalised, padded images.

        Parameters
        ----------
        x : (N, 3, S, S) float
            S a multiple of 32.

        Returns
        -------
        embedding : (N, 256, S/16, S/16) float
        early : (N, early_channels, S/4, S/4) float
        """
        f4, f8, f16, f32 = self.backbone(x)
        p32 = self.lateral32(f32)
        p32 = self.smooth32(p32 + self.context(p32))
        p16 = self.smooth16(self.lateral16(f16) + _upsample(p32))
        p8 = self.smooth8(self.lateral8(f8) + _upsample(self.reduce16(p16)))
        p4 = self.smooth4(self.lateral4(f4) + _upsample(p8))
        return self.embed(p16), p4
