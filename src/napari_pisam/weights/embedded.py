"""The model inside the package: its file, and the hash that lies beside it."""

from __future__ import annotations

import contextlib
from importlib import resources
from typing import TYPE_CHECKING

from napari_pisam.weights.catalogue import CATALOGUE, EMBEDDED
from napari_pisam.weights.files import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path


def embedded_folder() -> Traversable:
    """Folder of the package in which the weights lie."""
    return resources.files("napari_pisam").joinpath("weights")


def embedded_hash() -> str | None:
    """Hash of the embedded model's file as ``SHA256SUMS`` lists it, e.g. ``"sha256:0123..."``."""
    try:
        lines = embedded_folder().joinpath("SHA256SUMS").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    pairs = (line.split() for line in lines)
    listed = {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}
    digits = listed.get(CATALOGUE[EMBEDDED].file_name)
    return None if digits is None else f"sha256:{digits}"


@contextlib.contextmanager
def embedded_file() -> Iterator[tuple[Path, str]]:
    """Yield the embedded model's file and the hash that it must have.

    Raises
    ------
    CheckpointError
        If one of the two is not in this installation.
    """
    file = embedded_folder().joinpath(CATALOGUE[EMBEDDED].file_name)
    pinned = embedded_hash()
    if not file.is_file() or pinned is None:
        what = file.name if pinned is not None else "its line in SHA256SUMS"
        msg = (
            f"This installation lacks the weights of the embedded model {EMBEDDED!r} ({what} is "
            "missing). Reinstall napari-pisam."
        )
        raise CheckpointError(msg)
    with resources.as_file(file) as path:
        yield path, pinned
