"""What fine-tuning starts from: a model with Pi-SAM's modules, the same as ever or on top of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_pisam.learn.encoding import freeze
from napari_pisam.model import variants
from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.weights import loading as weights
from napari_pisam.weights.catalogue import is_public
from napari_pisam.weights.checkpoint import initialise_pisam_from

if TYPE_CHECKING:
    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.model.pisam import PiSam


def pisam_variant(base: variants.Variant) -> variants.Variant:
    """Find the Pi-SAM of a base's encoder: the base itself where it is one.

    Raises
    ------
    ValueError
        If there is none.
    """
    if base.has_interactor:
        return base
    for variant in variants.VARIANTS.values():
        if variant.has_interactor and variant.encoder == base.encoder:
            return variant
    raise ValueError(f"There is no Pi-SAM with the encoder of {base.name!r}. Choose another base.")


def starting_model(base: str, config: TrainConfig) -> tuple[PiSam, str | None, str | None]:
    """Build the network that a fine-tuning starts with.

    Deformable convolutions that have never learnt offsets stay ordinary ones: minutes of training
    would hardly move them, and they cost a third of a step.

    Parameters
    ----------
    base
        A model's name or a checkpoint file. Weights of a SAM or an HQ-SAM get Pi-SAM's modules on
        top.
    config
        Its ``frame``, ``seed`` and ``trains`` count.

    Returns
    -------
    PiSam
        In eval mode; what stays frozen takes no gradient.
    str or None
        SHA-256 of the public weights that a decoder can be kept apart from.
    str or None
        Licence of the base.

    Raises
    ------
    ValueError
        If the settings do not fit together, or the weights do not fit the network.
    """
    loaded = weights.load_model(base)
    model = _on_top_of(loaded.model, config)
    stiffen(model, all(layer.is_ordinary() for layer in _deformable(model)))
    freeze(model, config.trains)
    is_apart = is_public(base) and config.trains in ("modules", "interactor", "both")
    return model, loaded.sha256 if is_apart else None, loaded.licence


def stiffen(model: PiSam, is_rigid: bool) -> None:
    """Keep the offsets and modulators of deformable convolutions at 0 and 1, or let them learn."""
    for layer in _deformable(model):
        layer.rigid = is_rigid
        layer.offset_conv.requires_grad_(not is_rigid)
        layer.modulator_conv.requires_grad_(not is_rigid)


def _deformable(model: PiSam) -> list[ModulatedDeformConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, ModulatedDeformConv2d)]


def at_frame(variant: variants.Variant, frame: int) -> variants.Variant:
    """Return a variant at another frame.

    Raises
    ------
    ValueError
        If it does not run at that.
    """
    encoder = variant.encoder
    if not encoder.takes_any_frame and variant.frame != frame:
        raise ValueError(
            f"frame is {frame}, but {variant.name!r} has position codes for "
            f"{variant.frame} px only. Set frame = {variant.frame}."
        )
    if frame % encoder.frame_step:
        raise ValueError(f"frame is {frame}, expected a multiple of {encoder.frame_step} px.")
    return replace(variant, frame=frame)


def _on_top_of(base: PiSam, config: TrainConfig) -> PiSam:
    model = build_model(at_frame(pisam_variant(base.variant), config.frame), seed=config.seed)
    if base.has_interactor:
        model.load_state_dict(base.state_dict())
        return model
    return initialise_pisam_from(model, base.state_dict())
