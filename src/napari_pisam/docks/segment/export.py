"""A Labels layer as a compressed TIFF, written tile by tile; there whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import LABEL_TILE as _TILE
from napari_pisam.images.files import replacing, write_label_tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def write_label_tiff(path: Path, labels: Any, description: Mapping[str, Any]) -> None:
    """Write labels as a tiled TIFF that every TIFF library reads.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    labels : (..., H, W) integer array
        numpy, zarr or anything that is read by windows; 32 bits at most.
    description : mapping
        Written as JSON into the TIFF's ImageDescription.

    Raises
    ------
    ValueError
        If TIFF has no such type of labels.
    OSError
        If it cannot be written; what was there before stays.
    """
    dtype, shape = np.dtype(labels.dtype), tuple(int(size) for size in labels.shape)
    if dtype.itemsize > 4:
        dtype = np.dtype(np.uint32)
    with replacing(path) as part:
        tiles = _tiles(labels, shape, dtype)
        write_label_tiles(part, tiles, shape, dtype, description, "napari-pisam")


def _tiles(
    labels: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Iterator[NDArray[np.integer[Any]]]:
    *leading, height, width = shape
    for index in np.ndindex(*leading):
        for row in range(0, height, _TILE):
            for col in range(0, width, _TILE):
                window = slice(row, min(row + _TILE, height)), slice(col, min(col + _TILE, width))
                block = np.asarray(labels[(*index, *window)])
                if block.dtype.itemsize > 4 and block.size and int(block.max()) >= 1 << 32:
                    raise ValueError(
                        f"The labels go up to {int(block.max())}, expected less than {1 << 32}, "
                        "the most that a TIFF of integers holds. Number them anew."
                    )
                tile = np.zeros((_TILE, _TILE), dtype=dtype)
                tile[: block.shape[0], : block.shape[1]] = block
                yield tile
