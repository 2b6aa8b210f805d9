"""What the numbers of a mask file mean: the one rule, for training and evaluation alike."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy

from napari_pisam.images.image_files import (
    JPEG_COMPRESSIONS,
    ImageFileError,
    is_tiff,
    open_picture,
    open_tiff,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MaskKind = Literal["binary", "instances", "classes"]

_LARGEST = 8 << 30
# Up to so many numbers, none of them larger than that, are classes.
_CLASSES, _LAST_CLASS = 8, 16
# From this share of the largest value on, a pixel of a mask with soft edges is surely the object's.
_SURE = 0.9


@dataclass(frozen=True)
class MaskFile:
    """An open mask file.

    Attributes
    ----------
    path : Path
    is_lossy : bool
        Its format blurs numbers.
    data : array-like
        (H, W), or (H, W, S): as stored.
    alphas : int
        How many of the samples, at the end, are alpha.
    """

    path: Path
    is_lossy: bool
    data: Any
    alphas: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) px."""
        return int(self.data.shape[0]), int(self.data.shape[1])

    def read(self, window: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[Any]:
        """Read the numbers of a window, (h, w) bool, integers or floats.

        Raises
        ------
        ImageFileError
            If they are colours, or the file is damaged.
        """
        rows, cols = window
        size = math.prod(self.data.shape) * np.dtype(self.data.dtype).itemsize
        if (rows, cols) == (slice(None), slice(None)) and size > _LARGEST:
            raise ImageFileError(
                f"{self.path} says that it has {size / 2**30:.0f} GiB of pixels, expected at most "
                f"{_LARGEST >> 30} GiB. Save the mask of a part."
            )
        numbers = _one_number_a_pixel(np.asarray(self.data[rows, cols]), self.alphas)
        if numbers is None:
            raise ImageFileError(
                f"{self.path} has shape {tuple(self.data.shape)} and is a colour picture, expected "
                "one number a pixel, (rows, cols). Save labels, not colours."
            )
        return numbers


@contextlib.contextmanager
def open_mask(path: Path) -> Iterator[MaskFile]:
    """Open a mask; large TIFFs are read by window while the block runs.

    The numbers of a palette are its indices.

    Raises
    ------
    ImageFileError
        If it cannot be read, or holds a stack.
    """
    if not is_tiff(path):
        with open_picture(path) as picture:
            is_lossy = picture.format in ("JPEG", "MPO")
            values, alphas = _picture_numbers(picture)
        yield MaskFile(path, is_lossy, values, alphas)
        return
    with open_tiff(path) as (data, axes, page):
        base = data[0] if isinstance(data, list) else data
        alphas = sum(int(kind) in (1, 2) for kind in page.extrasamples)
        flat = _FlatArray(path, base, axes)
        yield MaskFile(path, int(page.compression) in JPEG_COMPRESSIONS, flat, alphas)


def read_mask(path: Path) -> NDArray[Any]:
    """Read a mask, or a map of probabilities, as it was saved.

    Returns
    -------
    (H, W) array of bool, integers or floats
        The numbers of a palette image are its indices.

    Raises
    ------
    ImageFileError
        If it cannot be read, or is not one number a pixel.
    """
    with open_mask(path) as opened:
        return opened.read()


class _FlatArray:
    """The two long axes of an array in a file, and its samples behind them."""

    def __init__(self, path: Path, array: Any, axes: str) -> None:
        shape = tuple(int(n) for n in array.shape)
        samples = axes.find("S")
        others = [axis for axis in range(len(shape)) if axis != samples]
        long = [axis for axis in others if shape[axis] > 1]
        spatial = long if len(long) == 2 else others[-2:]
        if len(spatial) != 2 or not set(long) <= set(spatial) or 0 in shape:
            raise ImageFileError(
                f"{path} has shape {shape} (axes {axes}), expected one number a pixel, (rows, "
                "cols). Save the planes of a stack as masks of their own."
            )
        self._array, self._spatial, self._samples = array, spatial, samples
        self.dtype = array.dtype
        sizes = tuple(shape[axis] for axis in spatial)
        self.shape = sizes if samples < 0 else (*sizes, shape[samples])

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        index: list[Any] = [0] * len(self._array.shape)
        for axis, part in zip(self._spatial, key, strict=True):
            index[axis] = part
        if self._samples < 0:
            return np.asarray(self._array[tuple(index)])
        index[self._samples] = slice(None)
        block = np.asarray(self._array[tuple(index)])
        return np.moveaxis(block, 0, -1) if self._samples < self._spatial[0] else block


def _picture_numbers(picture: Any) -> tuple[NDArray[Any], int]:
    """Return the numbers of a picture as stored, and how many of the samples are alpha."""
    if picture.mode == "P":
        indices = np.asarray(picture)
        if "transparency" not in picture.info:
            return indices, 0
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        return np.dstack([indices, alpha]), 1
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return np.asarray(picture.convert("RGB")), 0
    if picture.mode in ("La", "RGBa", "PA"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    values = np.asarray(picture)
    return values, int(picture.mode in ("LA", "RGBA"))


def _one_number_a_pixel(values: NDArray[Any], alphas: int) -> NDArray[Any] | None:
    """Return (h, w) numbers of (h, w) or (h, w, S) samples; None where they are colours."""
    if values.ndim == 2:
        return values
    alpha = values[..., -1] if alphas else None
    inks = values[..., : values.shape[2] - alphas] if alphas else values
    top = _full(values.dtype)
    if alpha is None or bool((alpha == top).all()):
        is_grey = bool((inks == inks[..., :1]).all())
        return inks[..., 0] if is_grey else None
    drawn = alpha > 0
    shown = inks[drawn]
    if not shown.size:
        return np.zeros_like(alpha)
    if (shown == shown[:1]).all():
        # One ink on nothing, white or black or any colour: the object is where it was drawn.
        is_hard = bool(np.isin(alpha, (0, top)).all())
        number = shown[0, 0]
        return np.where(drawn, number, 0).astype(values.dtype) if is_hard and number else alpha
    if not (shown == shown[:, :1]).all():
        return None
    return np.where(alpha > top / 2, inks[..., 0], 0).astype(values.dtype)


def _full(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


# -- what the numbers mean --------------------------------------------------------------------


def infer_kind(masks: Iterable[tuple[NDArray[Any], bool]]) -> MaskKind:
    """Tell what the numbers of a source's masks mean.

    One number besides 0, or soft edges of one object: binary. At most 8 numbers, none above 16:
    classes. Otherwise instances.

    Parameters
    ----------
    masks : iterable of ((H, W) array, bool)
        Masks, and whether each is of a format that blurs numbers.
    """
    values: set[int] = set()
    for mask, is_lossy in masks:
        if mask.dtype == np.bool_ or is_soft(mask, is_lossy=is_lossy):
            continue
        found = np.unique(mask[mask > 0])
        if found.size <= 1:
            # 1 in one file and 255 in another mean the same.
            values |= {int(value) for value in found if 1 < value < 255}
        else:
            values |= {int(value) for value in found}
    if len(values) <= 1:
        return "binary"
    is_few = len(values) <= _CLASSES and max(values) <= _LAST_CLASS
    return "classes" if is_few else "instances"


def is_soft(mask: NDArray[Any], *, is_lossy: bool = False) -> bool:
    """Whether the numbers of a mask are shades of one object, not names of several.

    So they are in a format that blurs, among floats that are no whole numbers, and where the edges
    of something nearly white are anti-aliased.

    Parameters
    ----------
    mask : (H, W) array
    is_lossy : bool
        Its format blurs numbers.
    """
    if mask.dtype == np.bool_:
        return False
    if mask.dtype.kind == "f":
        finite = mask[np.isfinite(mask)]
        return bool((finite != np.floor(finite)).any())
    if is_lossy:
        return True
    if mask.dtype not in (np.uint8, np.uint16):
        return False
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    if values.size < 2 or values[-1] < 0.98 * np.iinfo(mask.dtype).max:
        return False
    return bool(2 * counts[values >= _SURE * values[-1]].sum() >= counts.sum())


def foreground(mask: NDArray[Any], *, is_lossy: bool = False) -> NDArray[np.bool_]:
    """Pixels of the object of a binary mask: all that are not 0; of shades, the upper half."""
    if not is_soft(mask, is_lossy=is_lossy):
        return np.asarray(mask > 0)
    top = float(np.nanmax(mask)) if mask.size else 0.0
    top = min(1.0, top) if mask.dtype.kind == "f" else top
    return np.asarray(np.nan_to_num(mask) > top / 2) if top > 0 else np.zeros(mask.shape, np.bool_)


def to_labels(mask: NDArray[Any], kind: MaskKind, *, is_lossy: bool = False) -> NDArray[np.int32]:
    """Turn the numbers of a mask into small ones.

    Parameters
    ----------
    mask : (H, W) array of bool, integers or floats
        0, or less, is background.
    kind : {"binary", "instances", "classes"}
    is_lossy : bool
        The file's format blurs numbers.

    Returns
    -------
    (H, W) array of int32
        0 and 1; classes as they are; instances numbered from 1.

    Raises
    ------
    ValueError
        If a class is larger than 32 bits hold.
    """
    if kind == "binary":
        return foreground(mask, is_lossy=is_lossy).astype(np.int32)
    if mask.dtype.kind == "f":
        mask = np.nan_to_num(mask)
    values = np.unique(mask[mask > 0])
    if kind == "classes":
        if values.size and values[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"the mask has a class {values[-1]}, expected at most 2147483647")
        return np.asarray(np.maximum(mask, 0).astype(np.int32))
    small = np.searchsorted(values, mask) + 1
    return np.where(mask > 0, small, 0).astype(np.int32)


def connected_parts(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Label the connected parts (8 neighbours) of a mask, or of each of its classes, by 1, 2, ...

    Parameters
    ----------
    mask : (H, W) array of bool or integers
        0, or less, is background.
    """
    result = np.zeros(mask.shape, np.int32)
    for value in np.unique(mask[mask > 0]):
        inside = mask == value
        parts, _ = scipy.ndimage.label(inside, np.ones((3, 3)))
        result[inside] = parts[inside] + result.max()
    return result
