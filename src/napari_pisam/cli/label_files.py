"""Masks as one label image, written tile by tile: it takes the masks' memory, not the image's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.files import LABEL_TILE as _TILE
from napari_pisam.images.files import replacing, write_label_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.predict.mask import Mask


def label_dtype(largest: int) -> np.dtype[Any]:
    """Return uint16, or uint32 where the largest label needs it."""
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)


def label_tiles(
    masks: Mapping[int, Mask],
    shape: tuple[int, int],
    overlap: Literal["keep", "overwrite"] = "keep",
) -> Iterator[NDArray[Any]]:
    """Give the label image tile by tile, row after row.

    Parameters
    ----------
    masks : mapping of int to Mask
        By label, in the order in which they are written.
    shape : (int, int)
        (H, W) of the image, px.
    overlap : {"keep", "overwrite"}
        Whose pixel it is where masks overlap: the earlier one's or the later one's.

    Returns
    -------
    iterator of (512, 512) uint16 or uint32 arrays
        Those at the right and the bottom reach beyond the image with zeros.
    """
    dtype = label_dtype(max(masks, default=0))
    # What is painted last stays.
    order = list(masks.items())[:: -1 if overlap == "keep" else 1]
    members: dict[tuple[int, int], list[tuple[int, Mask]]] = {}
    for label, mask in order:
        row0, col0, row1, col1 = mask.bbox
        if mask.crop.size:
            for down in range(row0 // _TILE, -(-row1 // _TILE)):
                for across in range(col0 // _TILE, -(-col1 // _TILE)):
                    members.setdefault((down, across), []).append((label, mask))
    for down in range(-(-shape[0] // _TILE)):
        for across in range(-(-shape[1] // _TILE)):
            tile = np.zeros((_TILE, _TILE), dtype=dtype)
            for label, mask in members.get((down, across), ()):
                _paint(tile, (down * _TILE, across * _TILE), label, mask)
            yield tile


def _paint(tile: NDArray[Any], origin: tuple[int, int], label: int, mask: Mask) -> None:
    row0, col0, row1, col1 = mask.bbox
    top, left = max(row0, origin[0]), max(col0, origin[1])
    bottom, right = min(row1, origin[0] + _TILE), min(col1, origin[1] + _TILE)
    part = mask.crop[top - row0 : bottom - row0, left - col0 : right - col0]
    there = tile[top - origin[0] : bottom - origin[0], left - origin[1] : right - origin[1]]
    there[part] = label


def write_labels(
    path: Path,
    masks: Mapping[int, Mask],
    shape: tuple[int, int],
    description: Mapping[str, Any],
    overlap: Literal["keep", "overwrite"] = "keep",
) -> None:
    """Write masks as a tiled, compressed TIFF; the file is there whole or not at all.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    masks, shape, overlap
        See `label_tiles`.
    description : mapping
        Written as JSON into the TIFF's ImageDescription.
    """
    dtype = label_dtype(max(masks, default=0))
    software = f"napari-pisam {description.get('version', '')}".strip()
    with replacing(path) as part:
        tiles = label_tiles(masks, shape, overlap)
        write_label_tiles(part, tiles, shape, dtype, description, software)
