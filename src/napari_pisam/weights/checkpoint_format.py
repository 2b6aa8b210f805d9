"""Which files hold weights, what they are called in them, and how this package writes its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from napari_pisam.model.variants import variant_of_weights
from napari_pisam.weights.checkpoint_header import FORMAT, SWITCHES, CheckpointHeader
from napari_pisam.weights.files import CheckpointError, file_sha256, mismatch, regular_file
from napari_pisam.weights.safetensors_file import read_safetensors, write_safetensors
from napari_pisam.weights.untrusted import checked_tensors, read_pickle, sniff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Variant

Format = Literal["napari-pisam", "sam", "hqsam", "micro-sam", "pisam-published"]

_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.", "rgb_embedding.")
# Buffers of the published interactor: the first follows from another one, the second is unused.
_IMAGE_PE = "mask_decoder.interact_2.img_pe"
RECOMPUTED = (
    _IMAGE_PE,
    "mask_decoder.interact_2.bnd_op.laplacian_kernel",
    # The classifier that MobileSAM's encoder was trained with, which no mask needs.
    *(
        f"image_encoder.{part}.{kind}"
        for part in ("norm_head", "head")
        for kind in ("weight", "bias")
    ),
)
# Half precision would shift every position code, or lose a small variance, to save nothing.
_ALWAYS_FLOAT32 = ("gaussian", "running_mean", "running_var")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Checked tensors of one file, under `PiSam`'s state-dict names.

    Attributes
    ----------
    tensors
        CPU tensors, finite, in memory of their own.
    variant
        Name of the variant: from the header, else inferred from names and shapes.
    header
        Only in this package's own files.
    format
        Which kind of file it was.
    sha256
        Of the file, lower-case hexadecimal.
    """

    tensors: dict[str, Tensor]
    variant: str | None
    header: CheckpointHeader | None
    format: Format
    sha256: str

    @property
    def needs_base(self) -> bool:
        """Whether the frozen image encoder is left out and has to come from another file."""
        return not any(key.startswith("image_encoder.") for key in self.tensors)


def save_checkpoint(
    path: str | Path,
    model: PiSam | Mapping[str, Tensor],
    *,
    licence: str,
    training_summary: Mapping[str, Any] | None = None,
    base_sha256: str | None = None,
    variant: Variant | None = None,
    dtype: torch.dtype | None = None,
    only: Sequence[str] = (),
) -> str:
    """Write weights as safetensors, beside the final name first, then renamed.

    Parameters
    ----------
    path
        Ends with ``.safetensors``; an existing file is replaced.
    model
        A model, or its state dict together with ``variant``.
    licence
        Licence of the weights, e.g. ``"MIT"``.
    training_summary
        Anything that JSON can hold.
    base_sha256
        SHA-256 of the file that the frozen base came from.
    variant
        Only with a state dict.
    dtype
        Store floating-point weights in this type, e.g. ``torch.float16``. Tensors that would
        overflow, position codes and batch statistics stay float32.
    only
        Keep keys with these prefixes only, e.g. ``("mask_decoder.", "rgb_embedding.")`` for a
        fine-tuned decoder without its frozen base.

    Returns
    -------
    str
        SHA-256 of the written file.

    Raises
    ------
    ValueError
        If the name, the licence, the variant or a prefix is wrong, or a weight is not finite.
    OSError
        If the file cannot be written; nothing is left under either name.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        msg = f"The name {path.name!r} must end with '.safetensors'."
        raise ValueError(msg)
    if not licence:
        msg = "The licence is empty; name the licence of the weights, e.g. 'MIT'."
        raise ValueError(msg)
    if isinstance(model, torch.nn.Module):
        variant, state = model.variant, model.state_dict()
    elif variant is None:
        msg = "A state dict was given without its variant; pass variant=..., or pass the model."
        raise ValueError(msg)
    else:
        state = dict(model)
    unused = [prefix for prefix in only if not any(key.startswith(prefix) for key in state)]
    if unused:
        msg = f"No weight starts with {unused[0]!r}; top-level prefixes are {', '.join(_PARTS)}."
        raise ValueError(msg)
    kept = {key: v for key, v in state.items() if not only or key.startswith(tuple(only))}
    tensors = {key: _as_stored(key, value, dtype) for key, value in kept.items()}
    bad = [key for key, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        msg = f"{len(bad)} tensors hold NaN or infinity (first: {bad[0]!r}); nothing was written."
        raise ValueError(msg)
    header = CheckpointHeader(
        variant=variant.name,
        licence=licence,
        training=dict(training_summary or {}),
        base_sha256=base_sha256,
        only=tuple(only),
        switches={key: getattr(variant, key) for key in SWITCHES},
        software_version=_software_version(),
        backbone=variant.encoder.backbone,
        focus_frame=None if variant.focus is None else variant.focus.frame,
        score_curve=variant.score_curve,
        fine_score_curve=variant.fine_score_curve,
    )
    write_safetensors(path, tensors, header.to_metadata())
    return file_sha256(path)


def _as_stored(key: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    # A copy in plain memory order, whatever the network keeps them in.
    plain = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dtype is None or not plain.is_floating_point() or any(k in key for k in _ALWAYS_FLOAT32):
        return plain
    smaller = plain.to(dtype)
    return smaller if bool(smaller.isfinite().all()) else plain


def _software_version() -> str:
    try:
        return metadata.version("napari-pisam")
    except metadata.PackageNotFoundError:
        return "unknown"


def read_checkpoint(path: str | Path, *, expected: str | None = None) -> Checkpoint:
    """Read weights from a file without running anything that is in it.

    Parameters
    ----------
    path
        This package's safetensors; a ``.pth`` of SAM, HQ-SAM or micro-sam; or the published
        Pi-SAM decoder. What the file is decides, not its name.
    expected
        The hash that the file must have, e.g. ``"sha256:0123..."``; see `split_hash`.

    Raises
    ------
    CheckpointError
        If there is no such file, it is not what was expected, or it holds anything but weights.
    """
    path = regular_file(path)
    try:
        problem = mismatch(path, expected)
        if problem is not None:
            msg = f"{path} {problem}: it is damaged or was changed. Replace it with the right file."
            raise CheckpointError(msg)
        return _read(path, file_sha256(path))
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror or error}). Check the disk or the network."
        raise CheckpointError(msg) from error


def _read(path: Path, sha256: str) -> Checkpoint:
    kind = sniff(path)
    source: Format = "sam"
    if kind == "safetensors":
        values, metadata = read_safetensors(path)
        if metadata.get("format") == FORMAT:
            try:
                header = CheckpointHeader.from_metadata(metadata)
            except (ValueError, RecursionError) as error:
                msg = f"{path} cannot be used: {error}."
                raise CheckpointError(msg) from error
            tensors = checked_tensors(path, values)
            return Checkpoint(tensors, header.variant, header, "napari-pisam", sha256)
    else:
        values, source = _unwrap(path, read_pickle(path, zipped=kind == "zip"))
    return _foreign(path, checked_tensors(path, _without_prefix(values)), source, sha256)


def _foreign(path: Path, tensors: dict[str, Tensor], source: Format, sha256: str) -> Checkpoint:
    """Bring other people's weights under this package's names."""
    if any(key.startswith("transformer.") for key in tensors):
        tensors = {f"mask_decoder.{key}": value for key, value in tensors.items()}
    foreign = [key for key in tensors if not key.startswith(_PARTS)]
    if foreign:
        msg = (
            f"{path} holds weights of another network ({len(foreign)} of {len(tensors)} names are "
            f"unknown, e.g. {foreign[0]!r}); expected those of SAM, HQ-SAM or Pi-SAM."
        )
        raise CheckpointError(msg)
    if "mask_decoder.mask_aspp.conv_out.0.weight" in tensors:
        tensors = _without_recomputed(path, tensors)
        source = "pisam-published"
    elif source != "micro-sam" and "mask_decoder.hf_token.weight" in tensors:
        source = "hqsam"
    try:
        variant = infer_variant(tensors)
    except CheckpointError as error:
        msg = f"{path} cannot be used: {error}"
        raise CheckpointError(msg) from error
    return Checkpoint(tensors, variant, None, source, sha256)


def _unwrap(path: Path, content: object) -> tuple[dict[str, Any], Format]:
    if not isinstance(content, dict):
        msg = (
            f"{path} holds a {type(content).__name__}; expected a table of named tensors "
            "(a state dict)."
        )
        raise CheckpointError(msg)
    content = dict(content)
    source: Format = "sam"
    if content.pop("decoder_state", None) is not None:
        source = "micro-sam"
        _logger.info("%s: its instance-segmentation decoder is ignored.", path)
    for wrapper in ("model_state", "model_state_dict"):
        if isinstance(inner := content.get(wrapper), dict):
            return dict(inner), "micro-sam" if wrapper == "model_state" else source
    return content, source


def _without_prefix(values: Mapping[str, Any]) -> dict[str, Any]:
    """Strip what distributed training and micro-sam's trainer put before every name."""
    stripped = {str(key): value for key, value in values.items()}
    for prefix in ("module.", "sam."):
        if stripped and all(key.startswith(prefix) for key in stripped):
            stripped = {key.removeprefix(prefix): value for key, value in stripped.items()}
    return stripped


def _without_recomputed(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    image_pe = tensors.get(_IMAGE_PE)
    if image_pe is not None and tuple(image_pe.shape) != (32, 256, 256):
        msg = f"{path}: {_IMAGE_PE} has shape {tuple(image_pe.shape)}; expected (32, 256, 256)."
        raise CheckpointError(msg)
    return {key: value for key, value in tensors.items() if key not in RECOMPUTED}


def infer_variant(tensors: Mapping[str, Tensor]) -> str:
    """Tell from names and shapes which variant the weights are of.

    Parameters
    ----------
    tensors
        Under `PiSam`'s state-dict names.

    Raises
    ------
    CheckpointError
        If they fit none.
    """
    if "mask_decoder.mask_tokens.weight" not in tensors:
        msg = "There is no mask decoder among the weights; expected a SAM, HQ-SAM or Pi-SAM."
        raise CheckpointError(msg)
    found = variant_of_weights({name: tuple(value.shape) for name, value in tensors.items()})
    if found is None:
        position = tensors.get("image_encoder.pos_embed")
        given = "none of SAM's" if position is None else f"{position.shape[-1]} channels wide"
        msg = (
            f"The image encoder is {given}; expected one of SAM's, 768, 1024, 1280 channels wide, "
            "or MobileSAM's. Other derivatives of SAM are not supported."
        )
        raise CheckpointError(msg)
    return found.name
