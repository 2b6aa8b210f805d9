"""The optimizers a run can choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from timm.optim.muon import Muon

if TYPE_CHECKING:
    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.model.pisam import PiSam


def build_optimizer(model: PiSam, config: TrainConfig) -> torch.optim.Optimizer:
    """Give the optimizer of a run; norms, biases and scalars are not decayed.

    Parameters
    ----------
    model
        Whose parameters to train.
    config
        Which optimizer, learning rate and weight decay.

    Returns
    -------
    torch.optim.Optimizer
        AdamW; or timm's Muon, whose steps are scaled to the size that AdamW's have, so that the
        same learning rates serve, and which gives AdamW what is no matrix (depth-wise
        convolutions, norms, biases).
    """
    groups = [
        {
            "params": [p for p in model.parameters() if p.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "muon":
        return Muon(groups, lr=config.learning_rate, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate)
