"""From a name or a path to a model: embedded weights, public ones, or a given file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    build_from_checkpoint,
    read_checkpoint,
)
from napari_pisam.weights.download import DownloadCancelled, DownloadError
from napari_pisam.weights.public_weights import (
    REGISTRY,
    PublicFile,
    Verification,
    cache_folder,
    cached_path,
    download,
    expected_sha256,
    record_sha256,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.resources.abc import Traversable

    from napari_pisam.model.pisam import PiSam

__all__ = [
    "REGISTRY",
    "DownloadCancelled",
    "DownloadError",
    "LoadedModel",
    "ModelRow",
    "PublicFile",
    "Verification",
    "cache_folder",
    "cached_path",
    "download",
    "list_models",
    "load_model",
    "resolve_model",
    "verify",
]


@dataclass(frozen=True)
class ModelRow:
    """One line of the list of models; ``size`` in bytes."""

    name: str
    kind: str
    status: Literal["embedded", "missing", "downloaded", "incomplete", "available", "needs a file"]
    size: int | None
    licence: str | None
    sha256: str | None


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, and what it was made from."""

    model: PiSam
    sha256: str
    licence: str | None
    source: str


def list_models() -> list[ModelRow]:
    """List all variants with what is known of their weights; nothing is computed or fetched."""
    rows = []
    for name, variant in VARIANTS.items():
        if name in REGISTRY:
            public, path = REGISTRY[name], cached_path(name)
            part = path.with_name(f"{path.name}.part")
            status: Literal["downloaded", "incomplete", "available"] = "available"
            if path.is_file():
                status = "downloaded"
            elif part.is_file():
                status = "incomplete"
            size = path.stat().st_size if status == "downloaded" else public.size
            sha256 = _known_sha256(name)
            rows.append(ModelRow(name, variant.kind, status, size, public.licence, sha256))
        elif name == "tiny":
            rows.append(_embedded_row())
        else:
            rows.append(ModelRow(name, variant.kind, "needs a file", None, None, None))
    return rows


def _embedded_row() -> ModelRow:
    files, listed = _embedded_files(), _listed_hashes(_embedded_folder())
    size = 0
    for file in files:
        with resources.as_file(file) as path:
            size += path.stat().st_size
    sha256 = listed.get(files[0].name) if len(files) == 1 else None
    status: Literal["embedded", "missing"] = "embedded" if files else "missing"
    return ModelRow("tiny", VARIANTS["tiny"].kind, status, size or None, "MIT", sha256)


def resolve_model(
    name_or_path: str | Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> PiSam:
    """Give the model that a name or a path stands for; see `load_model`."""
    return load_model(name_or_path, progress=progress, cancel=cancel).model


def load_model(
    name_or_path: str | Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> LoadedModel:
    """Build a model with its weights, whose hash is checked on every call.

    Parameters
    ----------
    name_or_path
        ``"tiny"`` (inside the package), ``"sam_vit_b"`` and the like (downloaded on first use),
        or the path of a checkpoint file.
    progress
        Called with (bytes so far, bytes in all or None) while downloading.
    cancel
        Asked while downloading; true stops it.

    Raises
    ------
    CheckpointError
        If there is no such model or file, or its weights are not what they should be.
    DownloadError
        If the weights cannot be downloaded.
    """
    name = str(name_or_path)
    if name == "tiny":
        checkpoint = _read_embedded()
        return _loaded(checkpoint, None, "embedded")
    if name in REGISTRY:
        return _load_public(name, progress, cancel)
    if name in VARIANTS:
        size = name[-5:]
        msg = (
            f"{name!r} has no public weights: give the path of its checkpoint file instead of its "
            f"name. To go without one, choose 'tiny', 'sam_{size}' or 'hqsam_{size}'."
        )
        raise CheckpointError(msg)
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        msg = (
            f"There is neither a model nor a file {name!r}. Give the path of a checkpoint file, or "
            f"one of: {', '.join(VARIANTS)}."
        )
        raise CheckpointError(msg)
    checkpoint = read_checkpoint(path)
    base = _find_base(checkpoint) if checkpoint.needs_base else None
    return _loaded(checkpoint, base, str(path))


def _loaded(checkpoint: Checkpoint, base: Checkpoint | None, source: str) -> LoadedModel:
    licence = None if checkpoint.header is None else checkpoint.header.licence
    model = build_from_checkpoint(checkpoint, base=base)
    return LoadedModel(model, checkpoint.sha256, licence, source)


def _load_public(
    name: str,
    progress: Callable[[int, int | None], None] | None,
    cancel: Callable[[], bool] | None,
) -> LoadedModel:
    path = cached_path(name)
    if not path.is_file():
        download(name, progress=progress, cancel=cancel)
    checkpoint = _read_cached(name)
    if checkpoint.variant != name:
        msg = f"{path} holds a {checkpoint.variant}, expected a {name}. Delete it, and repeat."
        raise CheckpointError(msg)
    return replace(_loaded(checkpoint, None, REGISTRY[name].url), licence=REGISTRY[name].licence)


def _read_cached(name: str) -> Checkpoint:
    path = cached_path(name)
    expected, _ = expected_sha256(REGISTRY[name])
    checkpoint = read_checkpoint(path, sha256=expected)
    if expected is None:  # put there by hand
        record_sha256(REGISTRY[name], path, checkpoint.sha256, None)
    return checkpoint


def _find_base(checkpoint: Checkpoint) -> Checkpoint:
    """Find the frozen base of a decoder-only checkpoint, in the package or the cache."""
    wanted = None if checkpoint.header is None else checkpoint.header.base_sha256
    if checkpoint.variant == "tiny":
        return _read_embedded()
    names = [f"sam_{str(checkpoint.variant)[-5:]}"]
    if wanted is not None:
        names = [name for name in REGISTRY if _known_sha256(name) == wanted]
        if not names:
            msg = (
                f"The checkpoint belongs to base weights with the SHA-256 {wanted}, which are not "
                "in the cache. Load it in Python with build_from_checkpoint(base=PATH), or "
                "download them: napari-pisam models download NAME"
            )
            raise CheckpointError(msg)
    for name in names:
        if name in REGISTRY and cached_path(name).is_file():
            return _read_cached(name)
    msg = (
        f"The checkpoint is a decoder for the image encoder of {names[0]}, whose weights are not "
        f"in {cache_folder()}. Run: napari-pisam models download {names[0]}"
    )
    raise CheckpointError(msg)


def _known_sha256(name: str) -> str | None:
    try:
        return expected_sha256(REGISTRY[name])[0]
    except CheckpointError:  # a damaged record of a file that is not needed here
        return None


def _embedded_folder() -> Traversable:
    return resources.files("napari_pisam").joinpath("weights")


def _embedded_files() -> list[Traversable]:
    """Files of the embedded model, in order; it may be split to keep each one small."""
    folder = _embedded_folder()
    if not folder.is_dir():
        return []
    pattern = re.compile(r"tiny(-\d+-of-\d+)?\.safetensors")
    files = [file for file in folder.iterdir() if pattern.fullmatch(file.name)]
    return sorted(files, key=lambda file: file.name)


def _read_embedded() -> Checkpoint:
    files, folder = _embedded_files(), _embedded_folder()
    listed = _listed_hashes(folder)
    names = {file.name for file in files}
    absent = [name for name in listed if name.startswith("tiny") and name not in names]
    if not files or absent or not names <= set(listed):
        msg = (
            "This installation lacks the weights of the embedded model 'tiny' "
            f"({', '.join(absent) or 'none found or not listed in SHA256SUMS'}). "
            "Reinstall napari-pisam."
        )
        raise CheckpointError(msg)
    parts = []
    for file in files:
        with resources.as_file(file) as path:
            parts.append(read_checkpoint(path, sha256=listed[file.name]))
    if len(parts) == 1:
        return parts[0]
    header = parts[0].header
    if header is None or any(part.variant != "tiny" for part in parts):
        msg = "The embedded model's files do not belong together. Reinstall napari-pisam."
        raise CheckpointError(msg)
    tensors = {key: value for part in parts for key, value in part.tensors.items()}
    digest = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    return replace(parts[0], tensors=tensors, header=replace(header, only=()), sha256=digest)


def _listed_hashes(folder: Traversable) -> dict[str, str]:
    """Read SHA256SUMS: a hash, blanks, a file name in each line."""
    try:
        lines = folder.joinpath("SHA256SUMS").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split() for line in lines)
    return {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}
