"""Arrays of labels: in memory, in a temporary file, or on disk and mirrored there. No napari."""

from __future__ import annotations

import itertools
import math
import tempfile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_pisam.images.ngff_labels import parts_to_read
from napari_pisam.session.identity import is_in_memory
from napari_pisam.session.rollback import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

IN_MEMORY = 512 << 20
"""Labels that may need more bytes are kept in a file."""

_COPY_BYTES = 64 << 20
_PREFIX = "napari-pisam-"
# napari refreshes labels of 16 bits much faster than those of 32.
_NARROW: np.dtype[Any] = np.dtype(np.uint16)


def needs_disk(shape: Sequence[int], dtype: np.dtype[Any] = _NARROW) -> bool:
    """Whether labels of a shape may become larger than what is kept in memory."""
    return math.prod(shape) * dtype.itemsize > IN_MEMORY


def empty_labels(
    shape: tuple[int, ...], dtype: np.dtype[Any] = _NARROW
) -> NDArray[np.integer[Any]]:
    """Allocate zeros that cost nothing before they are written."""
    if dtype.kind not in "iu":
        raise ValueError(f"The dtype is {dtype}, expected an integer type, for example uint16.")
    if not needs_disk(shape, dtype):
        return np.zeros(shape, dtype)
    import shutil

    size = math.prod(shape) * dtype.itemsize
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ValueError(
            f"The labels of shape {shape} may need {size / 1e9:.1f} GB, and the folder for "
            f"temporary files has {free / 1e9:.1f} GB free. Make room, or set TMPDIR to another."
        )
    # A file without a name is gone with its last user, after a crash too. Windows of it are read
    # and shown without a copy; napari reads all chunks of a chunked array at every refresh.
    with tempfile.TemporaryFile(prefix=_PREFIX) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def copied_labels(data: Any, shape: tuple[int, ...]) -> NDArray[np.integer[Any]]:
    """Copy the labels of a file into an array that can be painted on, piece by piece.

    Raises
    ------
    ValueError
        If they are no labels of an image of that shape, or there is no room.
    """
    given, dtype = tuple(int(size) for size in data.shape), np.dtype(data.dtype)
    if given != shape or dtype.kind not in "biu":
        raise ValueError(f"has shape {given} and dtype {dtype}, expected integers of shape {shape}")
    labels = empty_labels(shape, np.dtype(np.uint16 if dtype.itemsize <= 2 else np.uint32))
    for part, block in _pieces(data, shape):
        if block.size and not 0 <= int(block.min()) <= int(block.max()) < 1 << 32:
            raise ValueError("has numbers below 0 or of more than 32 bits, expected labels")
        if block.any():
            labels[part] = block
    return labels


def wider_labels(data: Any, dtype: np.dtype[Any]) -> NDArray[np.integer[Any]]:
    """Copy labels into a wider type, which those on disk that are mirrored have there already.

    Raises
    ------
    ValueError
        If there is no room.
    """
    if isinstance(data, MirroredLabels) and np.can_cast(dtype, data.on_disk.dtype):
        return MirroredLabels.of(data.on_disk, dtype)
    shape = tuple(int(size) for size in data.shape)
    wider = empty_labels(shape, dtype)
    for part, block in _pieces(data, shape):
        # What is never written takes no memory.
        if block.any():
            wider[part] = block
    return wider


def is_kept(data: Any) -> bool:
    """Whether what is written into an array is there when the process has ended."""
    if isinstance(data, np.memmap):
        return bool(data.filename) and _PREFIX not in str(data.filename)
    if isinstance(data, np.ndarray):
        return not is_in_memory(data)
    return bool(place_of(data)) or not hasattr(data, "store")


class MirroredLabels(np.ndarray[Any, Any]):
    """Labels on disk whose values are in a (temporary) file, too, where napari displays them.

    napari reads the whole plane that it displays. Of an array that is mapped into the memory that
    costs nothing; of one in chunks it would be read and unpacked at every refresh. What is written
    here by an index goes to the disk as well, by the chunks that it touches.

    Attributes
    ----------
    on_disk : zarr.Array
        Only the labels as a whole have one; what is made of them by numpy does not.
    """

    on_disk: Any = None

    @classmethod
    def of(cls, on_disk: Any, dtype: np.dtype[Any] | None = None) -> Self:
        """Mirror an array; only chunks in which something was written are read.

        Parameters
        ----------
        on_disk : zarr.Array
            Of integers, opened to be written.
        dtype : dtype, optional
            By default 16 bits, if all numbers fit.

        Raises
        ------
        ValueError
            If the temporary file has no room.
        """
        own = np.dtype(on_disk.dtype)
        dtype = dtype or (_NARROW if np.can_cast(_NARROW, own) and own.kind == "u" else own)
        values = empty_labels(tuple(on_disk.shape), dtype)
        for part in parts_to_read(on_disk):
            block = np.asarray(on_disk[part])
            if int(block.max(initial=0)) > np.iinfo(dtype).max:
                return cls.of(on_disk, own)
            values[part] = block
        made = values.view(cls)
        made.on_disk = on_disk
        return made

    def __getitem__(self, key: Any) -> Any:
        """Return a part, as a plain array: nobody hears of what is written there."""
        found = super().__getitem__(key)
        return found.view(np.ndarray) if isinstance(found, np.ndarray) else found

    def __setitem__(self, key: Any, values: Any) -> None:
        """Write a part, here and into the chunks on disk that it touches."""
        super().__setitem__(key, values)
        if self.on_disk is None:
            return
        for part in self._touched(key):
            self.on_disk[part] = self[part].astype(self.on_disk.dtype, copy=False)

    def _touched(self, key: Any) -> Iterator[tuple[slice, ...]]:
        """Return the chunks that an index lies in, at least."""
        steps = self.on_disk.chunks
        places = [
            [slice(k * step, min((k + 1) * step, size)) for k in chunks]
            for chunks, step, size in zip(self._chunks(key), steps, self.shape, strict=True)
        ]
        yield from itertools.product(*places)

    def _chunks(self, key: Any) -> Iterator[Sequence[int]]:
        """Return for each axis which chunks an index lies in."""
        parts = key if isinstance(key, tuple) else (key,)
        is_plain = all(isinstance(part, int | np.integer | slice) for part in parts)
        for axis, (size, step) in enumerate(zip(self.shape, self.on_disk.chunks, strict=True)):
            if is_plain:
                part = parts[axis] if axis < len(parts) else slice(None)
                chosen = range(size)[part] if isinstance(part, slice) else [range(size)[part]]
                ends = sorted((chosen[0], chosen[-1])) if len(chosen) else [0, -1]
                yield range(ends[0] // step, ends[1] // step + 1)
            else:
                along = np.arange(size).reshape([-1 if a == axis else 1 for a in range(self.ndim)])
                yield np.unique(np.broadcast_to(along, self.shape)[key] // step).tolist()


def _pieces(data: Any, shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
    """Read an array piece by piece; along its longest axis, for a plane to be cut too."""
    axis, itemsize = int(np.argmax(shape)), np.dtype(data.dtype).itemsize
    step = max(1, _COPY_BYTES * shape[axis] // max(1, math.prod(shape) * itemsize))
    for start in range(0, shape[axis], step):
        part = (slice(None),) * axis + (slice(start, start + step),)
        yield part, np.asarray(data[part])
