"""A mask that costs what the object costs, however large its image is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import tight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pisam.measure.cleaning import Cleaning
    from napari_pisam.predict.areas import Answer
    from napari_pisam.predict.preprocessing import FrameTransform

_BLOCK_PIXELS = 1 << 20
_MAX_LOGITS = 1 << 26
_MAX_ARRAY = 4 << 30


@dataclass(frozen=True, eq=False)
class Mask:
    """One object: its pixels' crop and where that lies in the image.

    Attributes
    ----------
    shape : (int, int)
        (H, W) of the image, px.
    bbox : (int, int, int, int)
        (row0, col0, row1, col1), px, half open, tight around the True pixels; without any,
        an empty box at the window's first pixel.
    crop : (row1 - row0, col1 - col0) bool array
        The mask inside `bbox`; read-only.
    score : float
        What the mask's IoU is likely to be, see `predict.scores.score`.
    window : (int, int, int, int)
        (row0, col0, row1, col1), px, half open: the part of the image that was looked at.
    answer : Answer or None
        Which of two answers it is; None where that is not known, or the network gives one.
    """

    shape: tuple[int, int]
    bbox: tuple[int, int, int, int]
    crop: NDArray[np.bool_]
    score: float
    window: tuple[int, int, int, int]
    answer: Answer | None = None
    _frame_logits: NDArray[np.float32] | None = field(default=None, repr=False)
    _transform: FrameTransform | None = field(default=None, repr=False)

    @classmethod
    def from_frame_logits(
        cls,
        logits: NDArray[np.float32],
        transform: FrameTransform,
        window: tuple[int, int, int, int],
        shape: tuple[int, int],
        score: float,
        answer: Answer | None = None,
    ) -> Mask:
        """Build from what the network prints.

        Parameters
        ----------
        logits : (h, w) float32 array
            Logits of the valid part of the frame; above 0 is the object.
        transform : FrameTransform
            Of the window that the frame shows.
        window : (int, int, int, int)
            That window in level-0 px, half open, inside the image.
        shape : (int, int)
            (H, W) of the image, px.
        score : float
            What its IoU is likely to be.
        answer : Answer, optional
            Which of two it is.

        Raises
        ------
        ValueError
            If the logits are not of the frame's valid size.
        """
        if logits.shape != transform.size:
            raise ValueError(
                f"The logits have shape {logits.shape}, expected {transform.size}: "
                "the valid part of the frame."
            )
        rows, cols = (_Taps(transform, axis, window) for axis in (0, 1))
        # A mean of logits is above 0 only where one of them is: the rest is not looked at.
        positive = logits > 0
        row0, row1 = rows.reach(np.asarray(positive.any(axis=1)))
        col0, col1 = cols.reach(np.asarray(positive.any(axis=0)))
        crop = np.zeros((max(row1 - row0, 0), max(col1 - col0, 0)), dtype=np.bool_)
        for part, values in _blocks(logits, rows, cols, (row0, col0, row1, col1)):
            np.greater(values, 0, out=crop[part])
        origin = window[0] + row0, window[1] + col0
        found = cls.of_crop(crop, origin, shape, score, window, answer)
        return replace(found, _frame_logits=logits, _transform=transform)

    @classmethod
    def of_crop(
        cls,
        crop: NDArray[np.bool_],
        origin: tuple[int, int],
        shape: tuple[int, int],
        score: float,
        window: tuple[int, int, int, int] | None = None,
        answer: Answer | None = None,
    ) -> Mask:
        """Build from pixels, a (h, w) bool array at (row, col) `origin`; without logits.

        Parameters
        ----------
        crop, origin
            The pixels, borders without any included.
        shape, score, window, answer
            See the class; the mask's own bbox serves as the window where there is none.
        """
        pixels, bbox = tight(crop, origin)
        if window is not None and not pixels.size:
            bbox = (*window[:2], *window[:2])
        return cls(shape, bbox, pixels, score, window or bbox, answer)

    def cleaned(self, cleaning: Cleaning) -> Mask:
        """Return it tidied up, without logits; itself where nothing would be left of it."""
        if not self.crop.size:
            return self
        crop, origin = cleaning.apply(self.crop, (self.bbox[0], self.bbox[1]), self.shape)
        if not crop.any():
            return self
        return Mask.of_crop(crop, origin, self.shape, self.score, self.window, self.answer)

    @property
    def area(self) -> int:
        """Number of True pixels."""
        return int(np.count_nonzero(self.crop))

    @property
    def frame_logits(self) -> NDArray[np.float32]:
        """(h, w) float32 logits as the network printed them, the valid part of its frame.

        Raises
        ------
        ValueError
            After `without_logits`.
        """
        if self._frame_logits is None:
            raise ValueError(
                "This mask has no logits: they were left out to save memory, or the object was "
                "predicted in tiles, being larger than the network's frame. Predict it, or a part "
                "of it, again to get them."
            )
        return self._frame_logits

    @property
    def logits(self) -> NDArray[np.float32]:
        """(h, w) float32 logits of `window` at the image's own resolution; made on each call.

        Raises
        ------
        ValueError
            If the window has more than 64 million pixels, or after `without_logits`.
        """
        logits, transform = self.frame_logits, self._transform
        height, width = self.window[2] - self.window[0], self.window[3] - self.window[1]
        if transform is None or height * width > _MAX_LOGITS:
            raise ValueError(
                f"The window is {height} x {width} px, expected at most {_MAX_LOGITS} px for "
                "logits at full resolution. Use frame_logits, or crop and bbox."
            )
        rows, cols = (_Taps(transform, axis, self.window) for axis in (0, 1))
        result = np.empty((height, width), dtype=np.float32)
        for part, values in _blocks(logits, rows, cols, (0, 0, height, width)):
            result[part] = values
        return result

    def without_logits(self) -> Mask:
        """Return the same mask without its logits (up to 4 MB), for keeping many."""
        return replace(self, _frame_logits=None, _transform=None)

    def to_array(self) -> NDArray[np.bool_]:
        """Return the mask as a bool array of the whole image's shape.

        Raises
        ------
        ValueError
            If that array would be larger than 4 GiB.
        """
        if self.shape[0] * self.shape[1] > _MAX_ARRAY:
            raise ValueError(
                f"The image has {self.shape[0]} x {self.shape[1]} px, expected at most 4 GiB for a "
                "whole mask. Use crop and bbox, or paste_into with a lazily stored array."
            )
        result = np.zeros(self.shape, dtype=np.bool_)
        row0, col0, row1, col1 = self.bbox
        result[row0:row1, col0:col1] = self.crop
        return result

    def paste_into(self, labels: Any, value: int) -> None:
        """Write a label where the mask is True; only `bbox` is read and written.

        Parameters
        ----------
        labels : (H, W) integer array
            numpy, zarr or anything that reads and writes slices; changed in place.
        value : int
            The label.

        Raises
        ------
        ValueError
            If the shape is another, or the value does not fit the array's dtype.
        """
        if tuple(labels.shape) != self.shape:
            raise ValueError(
                f"The labels have shape {tuple(labels.shape)}, expected the image's {self.shape}."
            )
        dtype = np.dtype(labels.dtype)
        if dtype.kind not in "iu" or not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            raise ValueError(
                f"The label {value} does not fit labels of dtype {dtype}, expected an integer type "
                "that holds it. Use a wider one, for example uint32."
            )
        if self.crop.size == 0:
            return
        row0, col0, row1, col1 = self.bbox
        block = labels[row0:row1, col0:col1]
        if isinstance(labels, np.ndarray):
            block[self.crop] = value
            return
        block = np.array(block)
        block[self.crop] = value
        labels[row0:row1, col0:col1] = block


class _Taps:
    """For every native px of a window along one axis: two frame px and the second one's weight."""

    def __init__(self, transform: FrameTransform, axis: int, window: tuple[int, ...]) -> None:
        native = np.arange(window[axis], window[axis + 2], dtype=np.float64)
        place = (native + 0.5 - transform.edge[axis]) * transform.scale[axis] - 0.5
        size = transform.size[axis]
        place = np.clip(place, 0, size - 1)
        # Most windows are shown px for px; rounding must not smear those.
        nearest = np.round(place)
        place = np.where(np.abs(place - nearest) < 1e-6, nearest, place)
        self.first = np.floor(place).astype(np.intp)
        self.second = np.minimum(self.first + 1, size - 1)
        self.weight = (place - self.first).astype(np.float32)

    @property
    def is_whole(self) -> bool:
        return not self.weight.any()

    def reach(self, positive: NDArray[np.bool_]) -> tuple[int, int]:
        """First and last + 1 native px that any positive frame px contributes to."""
        used = np.flatnonzero(positive[self.first] | positive[self.second])
        return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)


def _blocks(
    logits: NDArray[np.float32], rows: _Taps, cols: _Taps, region: tuple[int, int, int, int]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Interpolate a region of the window, some rows at a time: (rows of the region, values)."""
    row0, col0, row1, col1 = region
    across = slice(col0, col1)
    height = max(1, _BLOCK_PIXELS // max(1, col1 - col0))
    for top in range(row0, row1, height):
        down = slice(top, min(top + height, row1))
        part = logits[rows.first[down]]
        if not rows.is_whole:
            part = part + rows.weight[down, None] * (logits[rows.second[down]] - part)
        values = part[:, cols.first[across]]
        if not cols.is_whole:
            values = values + cols.weight[across] * (part[:, cols.second[across]] - values)
        yield slice(down.start - row0, down.stop - row0), values
