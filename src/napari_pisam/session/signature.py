"""A short fingerprint of an image, to find out whether a session belongs to it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_pisam.images.image_source import ImageSource

_BLOCK = 64
_BLOCKS = 4


def image_signature(source: ImageSource) -> str:
    """Give a fingerprint of the plane and channels that an image source shows.

    At most 16 blocks of 64 x 64 px of the largest level are read, whatever the image's size: an
    image that differs between them only has the same fingerprint.

    Parameters
    ----------
    source : ImageSource
        The image as it is predicted on.

    Returns
    -------
    str
        Rows, columns, channels, dtype and 64 hex digits of a SHA-256, the same in every process
        and for every way of storing the same values.
    """
    (height, width), dtype = source.shape, source.dtype
    hasher = hashlib.sha256(b"pisam-image-1")
    hasher.update(repr([tuple(level) for level in source.levels]).encode())
    for row in _starts(height):
        for col in _starts(width):
            window = (slice(row, min(row + _BLOCK, height)), slice(col, min(col + _BLOCK, width)))
            block = np.ascontiguousarray(source.read(window))
            hasher.update(block.astype(dtype.newbyteorder("<"), copy=False).tobytes())
    return f"{height}x{width}x{source.n_channels}-{dtype.name}-{hasher.hexdigest()}"


def _starts(size: int) -> list[int]:
    count = min(_BLOCKS, -(-size // _BLOCK))
    return [int(start) for start in np.linspace(0, max(size - _BLOCK, 0), count)]
