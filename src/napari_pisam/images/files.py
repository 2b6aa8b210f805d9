"""Files that several parts read and write: whole or not at all, by name, label images as TIFF."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp"})
LABEL_TILE = 512
"""Side of the tiles of a label image, px."""

_CLASSIC_BYTES = 2 << 30


@contextlib.contextmanager
def replacing(path: Path, *, is_shared: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to, which gets the final name only if all goes well.

    Whatever ends the block early, Ctrl-C included, removes what was written so far.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    is_shared : bool
        Several processes may write this file: each writes beside it under a name of its own.
        Otherwise what a killed process left is written over.
    """
    name = f".{path.name}.{os.getpid()}.part" if is_shared else f"{path.name}.part"
    part = path.with_name(name)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Find the image files of a folder and of the folders in it.

    Returns
    -------
    dict of str to list of Path
        By the path inside the folder without its suffix, with "/" between the parts; hidden files
        are left out. A good folder has one file of each name.

    Raises
    ------
    ValueError
        If the folder is missing or empty.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Check the path.")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        stem = relative.with_suffix("")
        if stem.suffix.lower() == ".ome":
            stem = stem.with_suffix("")
        found.setdefault(stem.as_posix(), []).append(path)
    if not found:
        raise ValueError(f"{folder} holds no TIFF, PNG or JPEG. Check the path.")
    return found


def write_label_tiles(
    part: Path,
    tiles: Iterator[NDArray[np.integer[Any]]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    description: Mapping[str, Any],
    software: str,
) -> None:
    """Write labels as a tiled, compressed TIFF that every TIFF library reads.

    Parameters
    ----------
    part : Path
        The file, from `replacing`.
    tiles : iterator of (512, 512) arrays
        Row after row, plane after plane; beyond the image zeros.
    shape : tuple of int
        (..., H, W) px.
    dtype : numpy.dtype
        Of the tiles.
    description : mapping
        Written as JSON into the TIFF's ImageDescription.
    software : str
        Written into its Software.
    """
    import tifffile

    tifffile.imwrite(
        part,
        tiles,
        shape=shape,
        dtype=dtype,
        tile=(LABEL_TILE, LABEL_TILE),
        # Read by every TIFF library, unlike zstd.
        compression="zlib",
        photometric="minisblack",
        bigtiff=math.prod(shape) * dtype.itemsize > _CLASSIC_BYTES,
        description=json.dumps(dict(description)),
        software=software,
        metadata=None,
    )
