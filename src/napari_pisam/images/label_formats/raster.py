"""Label images as pictures: OME-TIFF with the size of a pixel, 16-bit PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.images.files import LABEL_TILE, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.images.label_formats.annotations import LabelImage

_MICRO = "\N{MICRO SIGN}m"
_OME_UNITS = {"um": _MICRO, "micrometer": _MICRO, "micron": _MICRO, _MICRO: _MICRO}
_OME_UNITS |= {"nm": "nm", "nanometer": "nm", "mm": "mm", "millimeter": "mm"}


def write_ome_tiff(path: Path, image: LabelImage) -> None:
    """Write labels as a tiled OME-TIFF; a known unit of length is written with them."""
    import tifffile

    labels = image.labels
    if labels.dtype.kind == "i" or labels.dtype.itemsize > 4:
        largest = int(labels.max(initial=0))
        labels = labels.astype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
    metadata: dict[str, object] = {"axes": "YX"}
    unit = _OME_UNITS.get(image.unit)
    if unit is not None:
        for axis, size in zip("YX", image.pixel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": unit}
    with replacing(path) as part:
        tifffile.imwrite(
            part,
            labels,
            ome=True,
            tile=(LABEL_TILE, LABEL_TILE),
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
        )


def write_png(path: Path, image: LabelImage) -> None:
    """Write labels as a 16-bit PNG.

    Raises
    ------
    ValueError
        If a label is above 65,535.
    """
    from PIL import Image

    largest = int(image.labels.max(initial=0))
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(
            f"The largest label is {largest}; a PNG holds labels up to 65,535. Write a TIFF."
        )
    with replacing(path) as part, part.open("wb") as file:
        Image.fromarray(image.labels.astype(np.uint16)).save(file, format="PNG")
