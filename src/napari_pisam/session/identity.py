"""Which image a session belongs to, told without reading more of it than was looked at.

What is in memory is hashed whole. Of what is not, its file's path, size and time are kept, and a
hash of each window that an object was found in: an image larger than the memory stays unread.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.images.image_source import ImageSource

WHOLE_BYTES = 64 << 20
"""Images of at most so many bytes are hashed whole where they are in memory."""

_BAND_PIXELS = 1 << 20
_WINDOW_SIDE = 4096
_BLOCK = 64
_BLOCKS = 4
_LEAST_ROW = 64


@dataclass(frozen=True)
class FileStamp:
    """What tells a file from another, and from itself after a change.

    Attributes
    ----------
    path : str
        Absolute.
    size, modified : int
        Bytes; nanoseconds.
    """

    path: str
    size: int
    modified: int

    @classmethod
    def read(cls, path: str | None) -> FileStamp | None:
        """Look at a file; None where there is none, or it may not be looked at."""
        if not path:
            return None
        try:
            absolute = Path(path).absolute()
            status = absolute.stat()
        except (OSError, ValueError):
            return None
        return cls(str(absolute), status.st_size, status.st_mtime_ns)


def is_in_memory(array: Any) -> bool:
    """Whether an array's values are in memory, and not in a file that is mapped into it."""
    if type(array) is not np.ndarray:
        return False
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return False
        base = base.base
    return not isinstance(base, mmap.mmap)


def image_key(level: Any, name: str, stamp: FileStamp | None) -> str:
    """Name an image, all its planes together, by 32 hex digits.

    Parameters
    ----------
    level : array
        Its largest level; read only where it is in memory: where it is larger than `WHOLE_BYTES`
        and comes from no file, so many of it.
    name : str
        Tells images apart that are larger and come from no file.
    stamp : FileStamp or None
        Of the file that it comes from.
    """
    shape, dtype = tuple(int(size) for size in level.shape), np.dtype(level.dtype)
    hasher = hashlib.sha256(f"pisam-image-2 {shape} {dtype.name} ".encode())
    if is_in_memory(level) and level.nbytes <= WHOLE_BYTES:
        rows = max(1, _BAND_PIXELS * shape[0] // max(1, level.size))
        for start in range(0, shape[0], rows):
            hasher.update(_bytes(level[start : start + rows], dtype))
    else:
        hasher.update(repr(name if stamp is None else stamp).encode())
        if is_in_memory(level) and stamp is None:
            for row in _some_rows(level):
                hasher.update(_bytes(row, dtype))
    return hasher.hexdigest()[:32]


def _some_rows(level: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Return every n-th row of a large array, of `WHOLE_BYTES` together: no slice is left out."""
    axes = level.ndim - 1
    while axes > 1 and math.prod(level.shape[axes:]) < _LEAST_ROW:
        axes -= 1  # colours, or the last axis of a rotated stack
    starts = level.shape[:axes]
    for place in range(0, math.prod(starts), -(-level.nbytes // WHOLE_BYTES)):
        yield level[np.unravel_index(place, starts)]


class PlaneIdentity:
    """What a plane of an image is known by; made at once, worked out when it is asked for.

    Its methods may be called in any thread, and remember their answers.

    Parameters
    ----------
    source : ImageSource
        The plane, as it is predicted on.
    index : tuple of int
        Which plane it is.
    stamp : FileStamp or None
        Of the image's file.
    in_memory : bool
        Whether its values are in memory.
    """

    def __init__(
        self,
        source: ImageSource,
        index: tuple[int, ...] = (),
        stamp: FileStamp | None = None,
        *,
        in_memory: bool = True,
    ) -> None:
        self._source, self._index, self._stamp = source, index, stamp
        height, width = source.shape
        size = height * width * source.n_channels * source.dtype.itemsize
        self._is_whole = in_memory and size <= WHOLE_BYTES
        self._lock = Lock()
        self._signature = ""
        self._windows: dict[Bbox, str] = {}

    def signature(self) -> str:
        """Return rows, columns, channels, dtype, and a hash of the values or of where they are."""
        with self._lock:
            if not self._signature and self._is_whole:
                self._signature = whole_signature(self._source)
            elif not self._signature:
                where = hashlib.sha256(repr((self._stamp, self._index)).encode()).hexdigest()
                self._signature = f"{_head(self._source)}-source-{where}"
            return self._signature

    def windows(self, boxes: Iterable[Bbox]) -> dict[Bbox, str]:
        """Hash the windows that were used; none where all of the image is hashed anyway."""
        if self._is_whole:
            return {}
        with self._lock:
            result = {}
            for box in boxes:
                if box[2] > box[0] and box[3] > box[1]:
                    if box not in self._windows:
                        self._windows[box] = window_digest(self._source, box)
                    result[box] = self._windows[box]
            return result


def is_same_image(signature: str, windows: Mapping[Bbox, str], source: ImageSource) -> bool:
    """Whether an image is the one that a signature and windows were taken of.

    Reads the windows only; all of the image where its signature is of all values.

    Parameters
    ----------
    signature : str
        From `PlaneIdentity`, or from session files of version 1.
    windows : mapping of (row0, col0, row1, col1) to str
        What `PlaneIdentity.windows` gave.
    source : ImageSource
        The image.
    """
    head = _head(source)
    if not signature.startswith(f"{head}-"):
        return False
    kind = signature.removeprefix(f"{head}-").partition("-")[0]
    if kind == "whole":
        return whole_signature(source) == signature
    if kind == "source":
        return all(window_digest(source, box) == digest for box, digest in windows.items())
    return sampled_signature(source) == signature


def whole_signature(source: ImageSource) -> str:
    """Hash all values of a plane: the same however they are stored."""
    height, width = source.shape
    hasher = hashlib.sha256(b"pisam-image-2")
    hasher.update(repr([tuple(level) for level in source.levels]).encode())
    rows = max(1, _BAND_PIXELS // max(1, width))
    for start in range(0, height, rows):
        band = source.read((slice(start, min(start + rows, height)), slice(0, width)))
        hasher.update(_bytes(band, source.dtype))
    return f"{_head(source)}-whole-{hasher.hexdigest()}"


def window_digest(source: ImageSource, box: Bbox) -> str:
    """Hash a window's values, (row0, col0, row1, col1) px; its middle 4,096 px where larger."""
    hasher = hashlib.sha256(repr(box).encode())
    (row0, row1), (col0, col1) = _middle(box[0], box[2]), _middle(box[1], box[3])
    rows = max(1, _BAND_PIXELS // (col1 - col0))
    for start in range(row0, row1, rows):
        band = source.read((slice(start, min(start + rows, row1)), slice(col0, col1)))
        hasher.update(_bytes(band, source.dtype))
    return hasher.hexdigest()


def sampled_signature(source: ImageSource) -> str:
    """Hash 16 blocks of 64 x 64 px: what files of version 1 know an image by."""
    (height, width), dtype = source.shape, source.dtype
    hasher = hashlib.sha256(b"pisam-image-1")
    hasher.update(repr([tuple(level) for level in source.levels]).encode())
    for row in _starts(height):
        for col in _starts(width):
            window = (slice(row, min(row + _BLOCK, height)), slice(col, min(col + _BLOCK, width)))
            hasher.update(_bytes(source.read(window), dtype))
    return f"{_head(source)}-{hasher.hexdigest()}"


def stamp_of_layer(path: str | os.PathLike[str] | None) -> FileStamp | None:
    """Look at the file that a layer says it comes from; several readers give other things."""
    return FileStamp.read(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else None


def _head(source: ImageSource) -> str:
    height, width = source.shape
    return f"{height}x{width}x{source.n_channels}-{source.dtype.name}"


def _bytes(block: Any, dtype: np.dtype[Any]) -> bytes:
    values = np.ascontiguousarray(block)
    return values.astype(dtype.newbyteorder("<"), copy=False).tobytes()


def _middle(low: int, high: int) -> tuple[int, int]:
    spare = max(0, high - low - _WINDOW_SIDE)
    return low + spare // 2, high - (spare - spare // 2)


def _starts(size: int) -> list[int]:
    count = min(_BLOCKS, -(-size // _BLOCK))
    return [int(start) for start in np.linspace(0, max(size - _BLOCK, 0), count)]
