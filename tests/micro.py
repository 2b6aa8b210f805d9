"""A model small enough for unit tests: every module of Pi-SAM, a 64-px frame, random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import Variant, VitEncoder

if TYPE_CHECKING:
    from napari_pisam.model.pisam import PiSam

MICRO = Variant("micro", "pisam", VitEncoder(32, 2, 2, (1,), window_size=3), frame=64)


def never_deformed_model(**changes: Any) -> PiSam:
    """The micro Pi-SAM whose deformable convolutions have learnt no offsets."""
    model = micro_model(**changes)
    for layer in model.modules():
        if isinstance(layer, ModulatedDeformConv2d):
            for parameter in (*layer.offset_conv.parameters(), *layer.modulator_conv.parameters()):
                nn.init.zeros_(parameter)
    return model


def micro_model(seed: int = 0, **changes: Any) -> PiSam:
    """The micro Pi-SAM, e.g. ``micro_model(kind="sam")``; zero-initialised layers get values."""
    model = build_model(replace(MICRO, **changes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
    return model
