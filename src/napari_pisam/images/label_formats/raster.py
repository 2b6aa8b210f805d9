"""Label images as pictures: TIFF and OME-TIFF with the size of a pixel, 16-bit PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from napari_pisam.images.files import LABEL_TILE, replacing
from napari_pisam.images.image_files import open_image
from napari_pisam.images.label_files import label_dtype, write_label_array
from napari_pisam.images.label_formats.annotations import LabelImage, check_size
from napari_pisam.images.mask_files import read_mask
from napari_pisam.images.pixel_size import LENGTHS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LARGEST = 2**32 - 1


def read_picture(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read labels that were saved as a picture: TIFF or PNG.

    Of a mask that only says where there is something, every part is an object: of bool, or of one
    value, the type's largest.

    Parameters
    ----------
    path : Path
    shape : (int, int), optional
        What its (H, W) has to be.

    Raises
    ------
    ValueError
        If it holds no whole numbers, is a stack, or of another size.
    """
    values = read_mask(path)
    check_size(path, values.shape, shape)
    labels = _whole(path, values)
    size = pixel_size_in(path)
    if size is None:
        return LabelImage(labels)
    return LabelImage(labels, pixel_size=size[0], unit=size[1])


def _whole(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Return values of any type as labels."""
    if values.dtype.kind == "f":
        is_label = np.isfinite(values) & (values == np.floor(values))
        if not is_label.all():
            raise ValueError(
                f"{path} holds {values.dtype} values that are no whole numbers (or NaN), expected "
                "labels: 0 for the background, a number for each object."
            )
    elif values.dtype.kind not in "uib":
        raise ValueError(f"{path} holds {values.dtype} values, expected labels: whole numbers.")
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high > _LARGEST:
        raise ValueError(
            f"{path} holds numbers from {low} to {high}, expected labels from 0 to {_LARGEST}."
        )
    is_mask = values.dtype.kind == "b" or (
        values.dtype in (np.uint8, np.uint16)
        and high == np.iinfo(values.dtype).max
        and not ((values != 0) & (values != high)).any()
    )
    if is_mask:
        parts: NDArray[Any] = scipy.ndimage.label(values)[0]
        values, high = parts, int(parts.max(initial=0))
    return values if values.dtype.kind == "u" else values.astype(label_dtype(int(high)))


def pixel_size_in(path: Path) -> tuple[tuple[float, float], str] | None:
    """Read the size of a picture's pixel and its unit; None where it does not say."""
    with open_image(path) as opened:
        size, units = opened.pixel_size
    return ((float(size[-2]), float(size[-1])), str(units[-1])) if len(size) >= 2 else None


def write_tiff(path: Path, image: LabelImage) -> None:
    """Write labels as a compressed TIFF with the size of a pixel, as the dock does."""
    description = {"software": "napari-pisam", "image": image.image_name}
    units = (image.unit,) * 2
    write_label_array(path, image.labels, description, image.pixel_size, units)


def write_ome_tiff(path: Path, image: LabelImage) -> None:
    """Write labels as a tiled OME-TIFF; a known unit of length is written with them."""
    import tifffile

    labels = image.labels
    if labels.dtype.kind == "i" or labels.dtype.itemsize > 4:
        largest = int(labels.max(initial=0))
        labels = labels.astype(label_dtype(largest))
    metadata: dict[str, object] = {"axes": "YX"}
    unit = LENGTHS.get(image.unit)
    if unit is not None:
        for axis, size in zip("YX", image.pixel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": unit.symbol}
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
