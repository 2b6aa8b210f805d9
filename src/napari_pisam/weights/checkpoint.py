"""Checkpoints: read, check, convert and write weights, and put them into a model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Literal

import torch

from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import FIRST_FOCUS_FRAME, VARIANTS, get_variant
from napari_pisam.weights.checkpoint_format import (
    RECOMPUTED,
    Checkpoint,
    read_checkpoint,
)
from napari_pisam.weights.files import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Variant
    from napari_pisam.weights.checkpoint_header import CheckpointHeader

_RGB_SEED = 0
_SHOWN = 8


def _prefixes(*parts: str) -> tuple[str, ...]:
    return tuple(f"mask_decoder.{part}." for part in parts)


_HQ_PREFIXES = _prefixes(
    "hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature"
)
_PISAM_PREFIXES = (
    *_prefixes("embedding_act", "mask_aspp", "output_upscaling_2", "out_act", "interact_2"),
    *_prefixes("fine_token", "fine_mlp"),
    "rgb_embedding.",
)


def variant_of(checkpoint: Checkpoint, *, click_order: Literal["xy", "rc"] = "xy") -> Variant:
    """Tell the variant that a checkpoint's weights fit, with the switches they want.

    Parameters
    ----------
    checkpoint
        From `read_checkpoint`.
    click_order
        Only for a published Pi-SAM checkpoint: the order of coordinates in which clicks enter
        its interactor. ``"xy"`` is what its demonstration does, ``"rc"`` what its training did.

    Raises
    ------
    CheckpointError
        If the checkpoint names a variant that does not exist.
    """
    if checkpoint.variant is None or checkpoint.variant not in VARIANTS:
        msg = (
            f"The checkpoint is of the variant {checkpoint.variant!r}, which this version does "
            f"not know; expected one of: {', '.join(VARIANTS)}. Update napari-pisam."
        )
        raise CheckpointError(msg)
    variant = get_variant(checkpoint.variant)
    if checkpoint.header is not None:
        header = checkpoint.header
        return replace(
            _as_trained(variant, header),
            score_curve=header.score_curve,
            fine_score_curve=header.fine_score_curve,
            **header.switches,
        )
    if checkpoint.format == "pisam-published":
        return replace(variant, residual=False, coarse_source="hq", click_order=click_order)
    return variant


def _as_trained(variant: Variant, header: CheckpointHeader) -> Variant:
    """Return a variant with the backbone and the largest frame that weights were trained with."""
    try:
        variant = replace(variant, encoder=variant.encoder.with_backbone(header.backbone))
    except ValueError as error:
        raise CheckpointError(f"The checkpoint has {error}. Update napari-pisam.") from None
    if variant.focus is not None:
        frame = header.focus_frame or FIRST_FOCUS_FRAME
        variant = replace(variant, focus=replace(variant.focus, frame=frame))
    return variant


def build_from_checkpoint(
    checkpoint: Checkpoint,
    *,
    base: Checkpoint | Mapping[str, Tensor] | str | Path | None = None,
    click_order: Literal["xy", "rc"] = "xy",
) -> PiSam:
    """Build the model that a checkpoint is of, with its weights, in eval mode.

    Parameters
    ----------
    checkpoint
        From `read_checkpoint`.
    base
        The SAM weights that a decoder-only checkpoint belongs to.
    click_order
        See `variant_of`.

    Raises
    ------
    CheckpointError
        If the weights do not fit, or need a base that is not given.
    """
    model = build_model(variant_of(checkpoint, click_order=click_order))
    return load_into(model, checkpoint, base=base).eval()


def load_into(
    model: PiSam,
    checkpoint: Checkpoint,
    *,
    base: Checkpoint | Mapping[str, Tensor] | str | Path | None = None,
) -> PiSam:
    """Copy a checkpoint's weights into a model of the same variant.

    The values take the model's own type and device: float16 files give a float32 model. The
    model's variant gets the switches that the weights want. Nothing is copied unless all fits.

    Parameters
    ----------
    model
        Changed in place.
    checkpoint
        From `read_checkpoint`.
    base
        SAM weights (a path, a checkpoint, or tensors) for whatever a decoder-only checkpoint
        leaves out.

    Returns
    -------
    PiSam
        ``model``.

    Raises
    ------
    CheckpointError
        Naming the missing, the unexpected and the misshapen weights.

    Warns
    -----
    UserWarning
        If a published checkpoint lacks its RGB embedding, which then gets a fixed start.
    """
    header = checkpoint.header
    if header is not None and header.variant != model.variant.name:
        msg = (
            f"The checkpoint is of the variant {header.variant!r} and the model is a "
            f"{model.variant.name!r}. Build the model with build_from_checkpoint()."
        )
        raise CheckpointError(msg)
    tensors = dict(checkpoint.tensors)
    state = model.state_dict()
    if base is not None:
        given = _base_tensors(base, None if header is None else header.base_sha256)
        tensors |= {key: given[key] for key in state if key not in tensors and key in given}
    elif checkpoint.needs_base:
        size = "" if checkpoint.variant is None else f" ({checkpoint.variant})"
        msg = (
            f"The checkpoint{size} holds a decoder without the image encoder it belongs to. Give "
            "the file of the SAM weights that it was trained on as base=..."
        )
        raise CheckpointError(msg)
    expected = {key: value for key, value in state.items() if key not in RECOMPUTED}
    tensors = {key: value for key, value in tensors.items() if key not in RECOMPUTED}
    published = checkpoint.format == "pisam-published"
    fresh_rgb = published and not any(key.startswith("rgb_embedding.") for key in tensors)
    if fresh_rgb:
        expected = {k: v for k, v in expected.items() if not k.startswith("rgb_embedding.")}
    _check_fit(expected, tensors)
    _copy(expected, tensors)
    if fresh_rgb:
        _restart_rgb_embedding(model)
    if header is not None:
        model.variant = replace(model.variant, **header.switches)
    elif published:
        model.variant = replace(model.variant, residual=False, coarse_source="hq")
    return model


def initialise_pisam_from(
    model: PiSam, base_checkpoint: Checkpoint | Mapping[str, Tensor] | str | Path
) -> PiSam:
    """Start a Pi-SAM from SAM's or HQ-SAM's weights: it then gives that model's own mask.

    The high-resolution head becomes a correction on top of the enlarged coarse logits, which
    starts at zero; training can only add to it. Modules that the base does not have keep their
    random start.

    Parameters
    ----------
    model
        Of kind ``"pisam"``, with the base's encoder; changed in place.
    base_checkpoint
        Weights of a SAM or an HQ-SAM: a checkpoint, a path, or tensors.

    Returns
    -------
    PiSam
        ``model``, whose variant says where its coarse logits come from.

    Raises
    ------
    ValueError
        If the model is not a Pi-SAM.
    CheckpointError
        If the weights are of another encoder, or of neither SAM nor HQ-SAM.
    """
    if not model.has_interactor:
        msg = f"{model.variant.name!r} is not a Pi-SAM; build a pisam variant first."
        raise ValueError(msg)
    tensors = _base_tensors(base_checkpoint, None)
    if any(key.startswith(_PISAM_PREFIXES) for key in tensors):
        msg = "The weights are those of a Pi-SAM; load_into() takes them whole."
        raise CheckpointError(msg)
    is_hq = any(key.startswith(_HQ_PREFIXES) for key in tensors)
    new = _PISAM_PREFIXES if is_hq else (*_PISAM_PREFIXES, *_HQ_PREFIXES)
    shared = {key: v for key, v in model.state_dict().items() if not key.startswith(new)}
    _check_fit(shared, tensors)
    _copy(shared, tensors)
    last = model.get_submodule("mask_decoder.out_act")[-1]  # type: ignore[index]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.zero_()
    source: Literal["sam", "sam+hq"] = "sam+hq" if is_hq else "sam"
    model.variant = replace(model.variant, residual=True, coarse_source=source)
    return model


def _base_tensors(
    base: Checkpoint | Mapping[str, Tensor] | str | Path, sha256: str | None
) -> Mapping[str, Tensor]:
    if not isinstance(base, Checkpoint):
        if not isinstance(base, (str, PathLike)):
            return base
        base = read_checkpoint(base)
    if sha256 is not None and base.sha256 != sha256:
        msg = (
            f"The base weights have the SHA-256 {base.sha256}, but the checkpoint was trained on "
            f"those with {sha256}. Give that file as base."
        )
        raise CheckpointError(msg)
    return base.tensors


def _check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    problems = _listed("missing", [key for key in expected if key not in tensors])
    problems += _listed("unexpected", [key for key in tensors if key not in expected])
    misfits = [
        f"{key} {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors
        and (
            tensors[key].shape != value.shape
            or tensors[key].is_floating_point() != value.is_floating_point()
        )
    ]
    problems += _listed("of another shape or type", misfits)
    if problems:
        msg = (
            f"The weights do not fit the model. {' '.join(problems)} Choose the model that the "
            "checkpoint was written for, or build it with build_from_checkpoint()."
        )
        raise CheckpointError(msg)


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}."]


def _copy(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(tensors[key])


def _restart_rgb_embedding(model: PiSam) -> None:
    warnings.warn(
        "This published Pi-SAM checkpoint lacks the weights of its RGB embedding (they were "
        "random in every run of the original software). They are set from a fixed seed: results "
        "are reproducible, but not those of the publication.",
        UserWarning,
        stacklevel=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RGB_SEED)
        for module in model.get_submodule("rgb_embedding").modules():
            if isinstance(module, torch.nn.Conv2d):
                module.reset_parameters()
