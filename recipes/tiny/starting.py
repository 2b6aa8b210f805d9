"""What a stage starts from: fresh weights, or those of an earlier stage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_pisam.learn.encoding import freeze
from napari_pisam.learn.starting import at_frame, stiffen
from napari_pisam.model import variants
from napari_pisam.model.pisam import build_model
from napari_pisam.weights.checkpoint import load_into
from napari_pisam.weights.checkpoint_format import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_pisam.model.pisam import PiSam
    from recipes.tiny.config import Decoder, RecipeConfig


SHARED_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.transformer.")
"""Beginnings of the names of the weights that compared decoders may start from."""


def compared_variant(variant: variants.Variant, decoder: Decoder) -> variants.Variant:
    """Return a variant with another decoder, to compare decoders on one footing.

    All get the box as corners and as a filled mask prompt, and nothing else: the appearance prior,
    the drawn clicks, and the coarse logits' start from the box are left out, which only a Pi-SAM
    would profit from. A Pi-SAM corrects its enlarged coarse logits, as in all runs here.
    """
    return replace(
        variant,
        name=f"{variant.name}_{decoder}",
        kind=decoder,
        residual=decoder == "pisam",
        coarse_source="hq",
        box_maps=True,
        appearance_prior=False,
        fine_answer=False,
        click_maps=False,
        local_clicks=False,
    )


def variant_of_run(config: RecipeConfig) -> variants.Variant:
    """Return the variant that a stage trains, at its own frame."""
    variant = variants.get_variant(config.variant)
    if config.backbone is not None:
        if not isinstance(variant.encoder, variants.CompactEncoder):
            raise ValueError(f"backbone is set, but {variant.name!r} has no compact encoder.")
        variant = replace(variant, encoder=replace(variant.encoder, backbone=config.backbone))
    if config.focus_frame is not None and variant.focus is not None:
        variant = replace(variant, focus=replace(variant.focus, frame=config.focus_frame))
    if config.fine_answer is not None:
        variant = replace(variant, fine_answer=config.fine_answer)
    return variant if config.decoder is None else compared_variant(variant, config.decoder)


def starting_model(config: RecipeConfig) -> PiSam:
    """Build the network that a stage starts with, in eval mode; what is frozen takes no gradient.

    Raises
    ------
    ValueError
        If the settings do not fit together, or the weights do not fit the network.
    """
    variant = at_frame(variant_of_run(config), config.frame)
    model = build_model(variant, seed=config.seed)
    if variant.has_interactor and config.decoder is not None:
        model.prior_gain.requires_grad_(False).zero_()
    load_initial(model, config)
    stiffen(model, config.rigid)
    freeze(model, config.trains)
    return model


def load_initial(model: PiSam, config: RecipeConfig) -> None:
    """Copy the weights that ``config.initial`` names into a model.

    Raises
    ------
    ValueError
        If they are missing or do not fit.
    """
    if config.initial is None:
        return
    if not config.initial.is_file():
        raise ValueError(f"initial is {config.initial}, which is not a file. Check the path.")
    if config.initial.suffix == ".safetensors":
        checkpoint = read_checkpoint(config.initial)
        if config.decoder is None:
            wanted = model.variant
            tensors = _with_second_answer(checkpoint.tensors, model)
            load_into(model, replace(checkpoint, tensors=tensors))
            # The weights may be of an earlier version of the variant; what is trained is this one.
            model.variant = wanted
        else:
            _load_shared(model, checkpoint.tensors, config)
        return
    try:
        state = torch.load(config.initial, weights_only=True, map_location="cpu")
        if config.decoder is None:
            model.load_state_dict(_with_second_answer(state[config.initial_part], model))
        else:
            _load_shared(model, state[config.initial_part], config)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{config.initial} does not fit the network ({error}).") from error


def _with_second_answer(state: dict[str, Tensor], model: PiSam) -> dict[str, Tensor]:
    """Add what a second answer takes, as the first one has it, where weights lack it."""
    new = [key for key in model.state_dict() if key.startswith("mask_decoder.fine_")]
    copied = {key: key.replace("fine_", "hf_") for key in new if key not in state}
    if not copied or not all(key in state for key in copied.values()):
        return state
    state = dict(state) | {key: state[first] for key, first in copied.items()}
    # The estimate of its IoU, which SAM makes of the first of three masks.
    for kind in ("weight", "bias"):
        key = f"mask_decoder.iou_prediction_head.layers.2.{kind}"
        state[key] = state[key].clone()
        state[key][1] = state[key][0]
    return state


def _load_shared(model: PiSam, tensors: Mapping[str, Tensor], config: RecipeConfig) -> None:
    """Copy what all decoders have alike."""
    wanted = {k: v for k, v in model.state_dict().items() if k.startswith(SHARED_PARTS)}
    lacking = [k for k, v in wanted.items() if k not in tensors or tensors[k].shape != v.shape]
    if lacking:
        raise ValueError(
            f"{config.initial} lacks {len(lacking)} weight(s) of the image encoder, the prompt "
            f"encoder or the transformer, or has them in another shape: {lacking[0]}. Give weights "
            f"of the variant {config.variant!r}."
        )
    with torch.no_grad():
        for key, value in wanted.items():
            value.copy_(tensors[key])
