"""What a run starts from: fresh weights, an earlier run's, or a model to fine-tune."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_pisam.learn.encoding import freeze
from napari_pisam.model import variants
from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.weights import loading as weights
from napari_pisam.weights.catalogue import is_public
from napari_pisam.weights.checkpoint import initialise_pisam_from, load_into, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_pisam.learn.config import Decoder, TrainConfig
    from napari_pisam.model.pisam import PiSam


def pisam_variant(base: variants.Variant) -> variants.Variant:
    """Give the Pi-SAM of a base's encoder: the base itself where it is one.

    Raises
    ------
    ValueError
        If there is none.
    """
    if base.kind == "pisam":
        return base
    for variant in variants.VARIANTS.values():
        if variant.kind == "pisam" and variant.encoder == base.encoder:
            return variant
    raise ValueError(f"There is no Pi-SAM with the encoder of {base.name!r}. Choose another base.")


SHARED_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.transformer.")
"""Beginnings of the names of the weights that compared decoders may start from."""


def compared_variant(variant: variants.Variant, decoder: Decoder) -> variants.Variant:
    """Give a variant with another decoder, to compare decoders on one footing.

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
        click_maps=False,
        local_clicks=False,
    )


def variant_of_run(config: TrainConfig) -> variants.Variant:
    """Give the variant that a run without a base trains, at its own frame."""
    variant = variants.get_variant(config.variant)
    return variant if config.decoder is None else compared_variant(variant, config.decoder)


def starting_model(config: TrainConfig) -> tuple[PiSam, str | None]:
    """Build the network that a run starts with.

    Parameters
    ----------
    config
        Its ``base``, ``initial``, ``variant``, ``frame``, ``rigid`` and ``frozen`` count.

    Returns
    -------
    PiSam
        In eval mode; what stays frozen takes no gradient.
    str or None
        SHA-256 of the public weights that a decoder can be kept apart from.

    Raises
    ------
    ValueError
        If the settings do not fit together, or the weights do not fit the network.
    """
    detached = None
    if config.base is not None:
        loaded = weights.load_model(config.base)
        model = _on_top_of(loaded.model, config)
        if config.frozen == "base" and is_public(config.base):
            detached = loaded.sha256
    else:
        model = _fresh(config)
    load_initial(model, config)
    _stiffen(model, config.rigid)
    freeze(model, config.frozen)
    return model, detached


def is_never_deformed(model: PiSam) -> bool:
    """Whether no deformable convolution of a network has learnt offsets; also if it has none.

    Minutes of training would hardly move them, and they cost a third of a step: such a network is
    better trained ``rigid``.
    """
    return all(layer.is_ordinary() for layer in _deformable(model))


def keep_ordinary(model: PiSam) -> None:
    """Let training leave the deformable convolutions alone if none has ever learnt offsets."""
    if is_never_deformed(model):
        _stiffen(model, True)


def _stiffen(model: PiSam, is_rigid: bool) -> None:
    for layer in _deformable(model):
        layer.rigid = is_rigid
        layer.offset_conv.requires_grad_(not is_rigid)
        layer.modulator_conv.requires_grad_(not is_rigid)


def _deformable(model: PiSam) -> list[ModulatedDeformConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, ModulatedDeformConv2d)]


def _fresh(config: TrainConfig) -> PiSam:
    variant = _at_frame(variant_of_run(config), config)
    model = build_model(variant, seed=config.seed)
    if variant.kind == "pisam" and config.decoder is not None:
        model.prior_gain.requires_grad_(False).zero_()
    return model


def _at_frame(variant: variants.Variant, config: TrainConfig) -> variants.Variant:
    encoder = variant.encoder
    if not encoder.takes_any_frame and variant.frame != config.frame:
        raise ValueError(
            f"frame is {config.frame}, but {variant.name!r} has position codes for "
            f"{variant.frame} px only. Set frame = {variant.frame}."
        )
    if config.frame % encoder.frame_step:
        raise ValueError(
            f"frame is {config.frame}, expected a multiple of {encoder.frame_step} px."
        )
    return replace(variant, frame=config.frame)


def _on_top_of(base: PiSam, config: TrainConfig) -> PiSam:
    model = build_model(_at_frame(pisam_variant(base.variant), config), seed=config.seed)
    if base.variant.kind == "pisam":
        model.load_state_dict(base.state_dict())
        return model
    return initialise_pisam_from(model, base.state_dict())


def load_initial(model: PiSam, config: TrainConfig) -> None:
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
            load_into(model, checkpoint)
            # The weights may be of an earlier version of the variant; what is trained is this one.
            model.variant = wanted
        else:
            _load_shared(model, checkpoint.tensors, config)
        return
    try:
        state = torch.load(config.initial, weights_only=True, map_location="cpu")
        if config.decoder is None:
            model.load_state_dict(state[config.initial_part])
        else:
            _load_shared(model, state[config.initial_part], config)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{config.initial} does not fit the network ({error}).") from error


def _load_shared(model: PiSam, tensors: Mapping[str, Tensor], config: TrainConfig) -> None:
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
