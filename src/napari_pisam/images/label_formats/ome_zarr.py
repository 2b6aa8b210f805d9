"""Label images as OME-Zarr, in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.images.image_files import open_plane
from napari_pisam.images.label_formats.annotations import LabelImage, check_size
from napari_pisam.images.label_formats.raster import pixel_size_in
from napari_pisam.images.ngff_labels import (
    is_label_group,
    read_label_classes,
    write_label_array_zarr,
)
from napari_pisam.images.pixel_size import unit_written

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 8 << 30


def write_ome_zarr(path: Path, image: LabelImage) -> None:
    """Write labels with a pyramid, classes and colours.

    Raises
    ------
    ValueError
        If labels cannot be there.
    """
    units = (image.unit,) * 2
    write_label_array_zarr(path, image.labels, image.pixel_size, units, image.classes, image.colors)


def read_ome_zarr(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read labels of one plane.

    Raises
    ------
    ValueError
        If there are none, they are too large for the memory, or of another size.
    """
    with open_plane(path) as source:
        size = source.shape
        check_size(path, size, shape)
        if source.dtype.kind not in "iu" or source.n_channels > 1:
            raise ValueError(
                f"{path} holds {source.dtype} in {source.n_channels} channel(s), expected labels: "
                "whole numbers."
            )
        if size[0] * size[1] * source.dtype.itemsize > _LARGEST:
            raise ValueError(
                f"{path} has {size[0]} x {size[1]} px, expected labels of at most "
                f"{_LARGEST >> 30} GiB. Cut out a part."
            )
        values = source.read((slice(0, size[0]), slice(0, size[1])))[..., 0]
    classes = read_label_classes(path) if is_label_group(path) else {}
    labels = LabelImage(np.ascontiguousarray(values), classes)
    known = pixel_size_in(path)
    if known is None:
        return labels
    return replace(labels, pixel_size=known[0], unit=unit_written(known[1], "short"))
