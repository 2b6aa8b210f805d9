"""Label images as TIFF, written tile by tile: they take the memory of masks, not of the image."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.crops import shared_slices
from napari_pisam.images.files import LABEL_TILE as _TILE
from napari_pisam.images.files import replacing
from napari_pisam.images.pixel_size import resolution_tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox, CroppedMask

    Overlap = Literal["keep", "overwrite"]

TIFF_SUFFIXES = (".tif", ".tiff")

_CLASSIC_BYTES = 2 << 30


def label_path(path: Path) -> Path:
    """Complete the name that labels are written under.

    Returns
    -------
    Path
        Ends in .tif or .tiff: what is behind the last point of "dose 0.5uM" is no ending.

    Raises
    ------
    ValueError
        If the ending is that of another kind of image, which would say something untrue.
    """
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return path
    if suffix in {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".npy", ".zarr", ".csv"}:
        raise ValueError(
            f"The output is {path}, expected a name that ends in .tif: labels are written as TIFF."
        )
    return path.with_name(f"{path.name}.tif")


def label_dtype(largest: int) -> np.dtype[Any]:
    """Return uint16, or uint32 where the largest label needs it."""
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)


def label_tiles(
    masks: Mapping[int, CroppedMask],
    shape: tuple[int, int],
    overlap: Overlap = "keep",
    dtype: np.dtype[Any] | None = None,
) -> Iterator[NDArray[Any]]:
    """Draw the label image of one plane tile by tile, row after row.

    Parameters
    ----------
    masks : mapping of int to CroppedMask
        By label, in the order in which they are written.
    shape : (int, int)
        (H, W) of the image, px.
    overlap : {"keep", "overwrite"}
        Whose pixel it is where masks overlap: the earlier one's or the later one's.
    dtype : numpy.dtype, optional
        By default what the largest label needs.

    Returns
    -------
    iterator of (512, 512) uint16 or uint32 arrays
        Those at the right and the bottom reach beyond the image with zeros.
    """
    dtype = label_dtype(max(masks, default=0)) if dtype is None else dtype
    # What is painted last stays.
    order = list(masks.items())[:: -1 if overlap == "keep" else 1]
    members: dict[tuple[int, int], list[tuple[int, CroppedMask]]] = {}
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
                here, there = shared_slices(_window(down, across), mask.bbox)
                tile[here][mask.crop[there]] = label
            yield tile


def _window(down: int, across: int) -> Bbox:
    return down * _TILE, across * _TILE, (down + 1) * _TILE, (across + 1) * _TILE


def write_label_stack(
    path: Path,
    planes: Mapping[tuple[int, ...], Mapping[int, CroppedMask]],
    shape: tuple[int, ...],
    description: Mapping[str, Any],
    overlap: Overlap = "keep",
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
) -> None:
    """Write masks as a tiled, compressed TIFF; the file is there whole or not at all.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    planes : mapping of tuple of int to mapping of int to CroppedMask
        Masks by label, by the index of their plane; the others are empty.
    shape : tuple of int
        (..., H, W) of the image, px.
    description : mapping
        Written as JSON into the TIFF's ImageDescription; a ``version`` also into its Software.
    overlap
        See `label_tiles`.
    scale, units : sequence, optional
        Size of a pixel along each axis, and the unit's name: where it is a length, the rows' and
        the columns' are written into the TIFF's resolution.
    """
    dtype = label_dtype(max((label for masks in planes.values() for label in masks), default=0))
    *leading, height, width = shape
    tiles = (
        tile
        for index in np.ndindex(*leading)
        for tile in label_tiles(planes.get(index, {}), (height, width), overlap, dtype)
    )
    _write_tiles(path, tiles, shape, dtype, description, scale, units)


def write_label_array(
    path: Path,
    labels: Any,
    description: Mapping[str, Any],
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
) -> None:
    """Write labels as a tiled, compressed TIFF; the file is there whole or not at all.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    labels : (..., H, W) integer array
        numpy, zarr or anything that is read by windows; 32 bits at most.
    description
        See `write_label_stack`.
    scale, units : sequence, optional
        See `write_label_stack`.

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
    _write_tiles(path, _array_tiles(labels, shape, dtype), shape, dtype, description, scale, units)


def _array_tiles(
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


def _write_tiles(
    path: Path,
    tiles: Iterator[NDArray[np.integer[Any]]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    description: Mapping[str, Any],
    scale: Sequence[float],
    units: Sequence[str],
) -> None:
    """Write (512, 512) tiles, row after row, plane after plane; beyond the image zeros."""
    import tifffile

    if len(shape) > 2:
        # Without it the leading axes come back as one; first, or tifffile does not look at it.
        description = {"shape": list(shape), **description}
    with replacing(path) as part:
        tifffile.imwrite(
            part,
            tiles,
            shape=shape,
            dtype=dtype,
            tile=(_TILE, _TILE),
            # Read by every TIFF library, unlike zstd.
            compression="zlib",
            photometric="minisblack",
            bigtiff=math.prod(shape) * dtype.itemsize > _CLASSIC_BYTES,
            description=json.dumps(dict(description)),
            software=f"napari-pisam {description.get('version', '')}".strip(),
            metadata=None,
            **resolution_tags(scale[-2:], units[-2:]),
        )
