"""The optimizers that a stage can choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.model.native_libraries import import_apart

if TYPE_CHECKING:
    from napari_pisam.model.pisam import PiSam
    from recipes.tiny.config import RecipeConfig


_BACKBONE = "image_encoder.backbone."


def build_optimizer(model: PiSam, config: RecipeConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a run; norms, biases and scalars are not decayed.

    Parameters
    ----------
    model
        Whose parameters to train, but for those that take no gradient.
    config
        Which optimizer, learning rates and weight decay.

    Returns
    -------
    torch.optim.Optimizer
        AdamW; or timm's Muon, whose steps are scaled to the size that AdamW's have, so that the
        same learning rates serve, and which gives AdamW what is no matrix (depth-wise
        convolutions, norms, biases). A group's ``share`` is that of the learning rate.
    """
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    apart = config.backbone_rate < 1
    slow = [p for n, p in trained if apart and n.startswith(_BACKBONE)]
    rest = [p for n, p in trained if not (apart and n.startswith(_BACKBONE))]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": 0.0}]
    if config.weight_decay:
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
    is_muon = config.optimizer == "muon"
    if slow:
        group = {"params": slow, "weight_decay": 0.0, "share": config.backbone_rate}
        groups.append(group | ({"use_fallback": True} if is_muon else {}))
    groups = [group for group in groups if group["params"]]
    if is_muon:
        muon = import_apart("timm.optim.muon").Muon
        built: torch.optim.Optimizer = muon(groups, lr=config.learning_rate, nesterov=True)
        return built
    return torch.optim.AdamW(groups, lr=config.learning_rate)
