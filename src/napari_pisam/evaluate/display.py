"""Images as 8-bit RGB, for baselines and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.image_source import ImageSource

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_source(image: Any) -> ImageSource:
    """Wrap an image for reading windows of it; see `ImageSource` for what it may be."""
    return image if isinstance(image, ImageSource) else ImageSource(image)


def rgb_window(image: Any, rows: slice, cols: slice) -> NDArray[np.uint8]:
    """Read a window as it is shown.

    Parameters
    ----------
    image : array-like or ImageSource
    rows, cols : slice
        With a start and a stop inside the image, px.

    Returns
    -------
    (h, w, 3) uint8 array
        By the image's contrast limits; grey has three equal channels, two channels are red and
        green.
    """
    source = as_source(image)
    values = source.read((rows, cols)).astype(np.float64)
    limits = source.contrast_limits
    width = np.maximum(limits[:, 1] - limits[:, 0], np.finfo(np.float64).tiny)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.nan_to_num((values - limits[:, 0]) * (255 / width), posinf=255, neginf=0)
    result = np.zeros((*values.shape[:2], 3), dtype=np.uint8)
    channels = np.clip(values, 0, 255).round().astype(np.uint8)
    result[..., : channels.shape[2]] = channels
    if channels.shape[2] == 1:
        result[...] = channels
    return result
