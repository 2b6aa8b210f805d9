"""From a name or a path to a model: embedded weights, public or added ones, or a given file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.added import added_models
from napari_pisam.weights.cache import cache_folder, cached_path, download
from napari_pisam.weights.catalogue import CATALOGUE, EMBEDDED, is_public
from napari_pisam.weights.checkpoint import build_from_checkpoint
from napari_pisam.weights.checkpoint_format import Checkpoint, read_checkpoint
from napari_pisam.weights.embedded import embedded_file
from napari_pisam.weights.files import CheckpointError, file_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_pisam.model.pisam import PiSam


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, and what it was made from."""

    model: PiSam
    sha256: str
    licence: str | None
    source: str


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
        A model of the catalogue (``"tiny"`` is inside the package, ``"sam_vit_b"`` and the like
        are downloaded on first use), one that was added, or the path of a checkpoint file.
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
    if is_public(name):
        return _load_public(name, progress, cancel)
    if name in CATALOGUE:
        return _loaded(_read_embedded(), None, "embedded")
    added = added_models().get(name)
    if added is not None:
        checkpoint = read_checkpoint(added.path, expected=added.hash)
        loaded = _loaded(checkpoint, _base_of(checkpoint), added.source)
        return replace(loaded, licence=added.licence)
    if name in VARIANTS:
        msg = (
            f"{name!r} has no public weights: give the path of its checkpoint file instead of its "
            f"name. To go without one, choose {_instead_of(name)}."
        )
        raise CheckpointError(msg)
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        msg = (
            f"There is neither a model nor a file {name!r}. Give the path of a checkpoint file, or "
            f"one of: {', '.join((*CATALOGUE, *added_models()))}."
        )
        raise CheckpointError(msg)
    checkpoint = read_checkpoint(path)
    return _loaded(checkpoint, _base_of(checkpoint), str(path))


def _instead_of(name: str) -> str:
    """Name models that need no file and have the encoder of one that does."""
    encoder = VARIANTS[name].encoder
    alike = [
        entry.name
        for entry in CATALOGUE.values()
        if entry.name == entry.variant and VARIANTS[entry.variant].encoder == encoder
    ]
    return " or ".join(repr(other) for other in dict.fromkeys([EMBEDDED, *alike]))


def _loaded(checkpoint: Checkpoint, base: Checkpoint | None, source: str) -> LoadedModel:
    licence = None if checkpoint.header is None else checkpoint.header.licence
    model = build_from_checkpoint(checkpoint, base=base)
    return LoadedModel(model, checkpoint.sha256, licence, source)


def _load_public(
    name: str,
    progress: Callable[[int, int | None], None] | None,
    cancel: Callable[[], bool] | None,
) -> LoadedModel:
    path, entry = cached_path(name), CATALOGUE[name]
    if not path.is_file():
        download(name, progress=progress, cancel=cancel)
    checkpoint = _read_cached(name)
    if checkpoint.variant != entry.variant:
        msg = f"{path} holds a {checkpoint.variant}, expected a {entry.variant}."
        raise CheckpointError(msg)
    return replace(_loaded(checkpoint, None, entry.address), licence=entry.licence)


def _read_cached(name: str) -> Checkpoint:
    try:
        return read_checkpoint(cached_path(name), expected=CATALOGUE[name].hash)
    except CheckpointError as error:
        msg = f"{error} To fetch it anew: napari-pisam models download {name}"
        raise CheckpointError(msg) from error


def _read_embedded() -> Checkpoint:
    with embedded_file() as (path, pinned):
        return read_checkpoint(path, expected=pinned)


def _base_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """Find the frozen base of a decoder-only checkpoint, in the package or the cache."""
    if not checkpoint.needs_base:
        return None
    if checkpoint.variant == CATALOGUE[EMBEDDED].variant:
        return _read_embedded()
    wanted = None if checkpoint.header is None else checkpoint.header.base_sha256
    if wanted is not None:
        for name in _cached():
            if wanted == _cached_sha256(name):
                return _read_cached(name)
        msg = (
            f"The checkpoint belongs to base weights with the SHA-256 {wanted}, which are not "
            "in the cache. Load it in Python with build_from_checkpoint(base=PATH), or "
            "download them: napari-pisam models download NAME"
        )
        raise CheckpointError(msg)
    name = "sam_" + str(checkpoint.variant).partition("_")[2]
    if name in _cached():
        return _read_cached(name)
    msg = (
        f"The checkpoint is a decoder for the image encoder of {name}, whose weights are not "
        f"in {cache_folder()}. Run: napari-pisam models download {name}"
    )
    raise CheckpointError(msg)


def _cached() -> Iterator[str]:
    for name in CATALOGUE:
        if is_public(name) and cached_path(name).is_file():
            yield name


def _cached_sha256(name: str) -> str:
    """SHA-256 of a cached file: what it must be where that is known, else what it is."""
    pinned = CATALOGUE[name].hash
    if not pinned.startswith("sha256:"):
        pinned = file_hash(cached_path(name))
    return pinned.removeprefix("sha256:")
