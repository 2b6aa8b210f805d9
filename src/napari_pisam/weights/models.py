"""Every model that has a name: what it is good for, whether it is here and whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.added import AddedModel, added_models
from napari_pisam.weights.cache import cached_path
from napari_pisam.weights.catalogue import CATALOGUE, CatalogueEntry, is_public
from napari_pisam.weights.download import part_of
from napari_pisam.weights.embedded import embedded_file, embedded_hash
from napari_pisam.weights.files import CheckpointError, mismatch
from napari_pisam.weights.timings import kept_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.images.kinds import ImageKind

Status = Literal[
    "embedded", "missing", "downloaded", "incomplete", "available", "added", "needs a file"
]


@dataclass(frozen=True)
class ModelRow:
    """One line of the list of models.

    Attributes
    ----------
    name, variant
        What users type, and the network that it is.
    status
        ``"missing"`` where the package or the folder lacks what should be there.
    good_for, suits, citation, licence, hash, address
        See `CatalogueEntry`; empty or None where unknown.
    size
        Of the weights, bytes.
    seconds
        From an image to its first mask on this machine, where that was measured.
    """

    name: str
    variant: str
    status: Status
    good_for: str = ""
    size: int | None = None
    licence: str = ""
    citation: str = ""
    hash: str = ""
    address: str = ""
    seconds: float | None = None
    suits: ImageKind | None = None

    @property
    def is_here(self) -> bool:
        """Whether it can be used without a download."""
        return self.status in ("embedded", "downloaded", "added")

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the weights, where that is what is known of them."""
        return self.hash.removeprefix("sha256:") if self.hash.startswith("sha256:") else None


def network_of(name: str) -> str | None:
    """Name the network that stands behind a model's name; None for what has no name, as a file."""
    if name in CATALOGUE:
        return CATALOGUE[name].variant
    added = added_models().get(name)
    if added is not None:
        return added.variant
    return name if name in VARIANTS else None


def list_models() -> list[ModelRow]:
    """List the catalogue, what was added, and the networks that need a file; nothing is fetched."""
    seconds = kept_seconds()
    rows = [_catalogue_row(entry, seconds) for entry in CATALOGUE.values()]
    rows += [_added_row(model, seconds) for model in added_models().values()]
    offered = {row.variant for row in rows}
    return rows + [
        ModelRow(name, name, "needs a file", seconds=seconds.get(name))
        for name in VARIANTS
        if name not in offered
    ]


def _catalogue_row(entry: CatalogueEntry, seconds: dict[str, float]) -> ModelRow:
    status: Status
    size, pinned = entry.size, entry.hash
    if entry.is_embedded:
        try:
            with embedded_file() as (path, pinned):
                size, status = path.stat().st_size, "embedded"
        except CheckpointError:
            status, pinned = "missing", embedded_hash() or ""
    else:
        path = cached_path(entry.name)
        if path.is_file():
            size, status = path.stat().st_size, "downloaded"
        else:
            status = "incomplete" if part_of(path).is_file() else "available"
    return ModelRow(
        name=entry.name,
        variant=entry.variant,
        status=status,
        good_for=entry.good_for,
        size=size,
        licence=entry.licence,
        citation=entry.citation,
        hash=pinned,
        address=entry.address,
        seconds=seconds.get(entry.variant),
        suits=entry.suits,
    )


def _added_row(model: AddedModel, seconds: dict[str, float]) -> ModelRow:
    return ModelRow(
        name=model.name,
        variant=model.variant,
        status="added" if model.path.is_file() else "missing",
        good_for="yours",
        size=model.size,
        licence=model.licence,
        hash=model.hash,
        address=model.source,
        seconds=seconds.get(model.variant),
    )


@dataclass(frozen=True)
class Verification:
    """Weights whose hash was just computed and found right; ``hash`` is e.g. ``"md5:0123..."``."""

    name: str
    path: Path
    hash: str

    @property
    def tells_malice(self) -> bool:
        """Whether the hash would show a file that was changed on purpose, and not only damage."""
        return not self.hash.startswith("xxh128:")


def verify(name: str) -> Verification:
    """Compute the hash of a model's weights and compare it.

    Raises
    ------
    ValueError
        If there is no such model.
    CheckpointError
        If the file is not there, or is not what it should be.
    """
    added = added_models().get(name)
    if name in CATALOGUE and not is_public(name):
        with embedded_file() as (path, pinned):
            return _verified(name, path, pinned, "Reinstall napari-pisam.")
    if added is not None:
        todo = f"Run: napari-pisam models remove {name}, then add it again"
        return _verified(name, added.path, added.hash, todo)
    path = cached_path(name)
    todo = f"Run: napari-pisam models download {name}"
    return _verified(name, path, CATALOGUE[name].hash, todo)


def _verified(name: str, path: Path, pinned: str, todo: str) -> Verification:
    if not path.is_file():
        msg = f"{path} is not there. {todo}"
        raise CheckpointError(msg)
    problem = mismatch(path, pinned)
    if problem is not None:
        msg = f"{path} {problem}: it is damaged or was changed. {todo}"
        raise CheckpointError(msg)
    return Verification(name, path, pinned)


def remove(name: str) -> list[Path]:
    """Delete a model's weights from this machine.

    Returns
    -------
    list of Path
        What was deleted; empty where nothing was there.

    Raises
    ------
    ValueError
        If it is not a model that was downloaded or added.
    OSError
        If a file cannot be deleted.
    """
    added = added_models().get(name)
    if name in CATALOGUE and not is_public(name):
        msg = f"{name!r} is part of the package and cannot be removed."
        raise ValueError(msg)
    path = cached_path(name) if added is None else added.path
    part = part_of(path)
    # The record of an added model first: without it, what is left counts for nothing.
    files = [path.with_suffix(".json"), path, part, part.with_name(f"{part.name}.json")]
    there = [file for file in files if file.is_file()]
    for file in there:
        file.unlink()
    return there
