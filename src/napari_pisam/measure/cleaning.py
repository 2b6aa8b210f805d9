"""Tidying objects up: holes, specks, rough edges, size, and one object made of two or two of one.

All of it works on an object's own window, (h, w) bool with True where the object is, and returns
another one; nothing is changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Crop = NDArray[np.bool_]

# A part of an object is what hangs together by corners, too, and a hole what does not.
_CORNERS = np.ones((3, 3), dtype=bool)
MOST = 1000
"""The largest distance that is allowed, px: windows grow by it."""


def fill_holes(crop: Crop) -> Crop:
    """Fill what is enclosed by the object."""
    filled: Crop = scipy.ndimage.binary_fill_holes(crop)
    return filled


def keep_largest(crop: Crop) -> Crop:
    """Keep the largest part alone; of equal ones the first."""
    return _parts_where(crop, lambda sizes: np.arange(len(sizes)) == sizes.argmax())


def remove_specks(crop: Crop, size: int) -> Crop:
    """Remove parts of fewer px than `size`, but never the largest one."""
    return _parts_where(
        crop, lambda sizes: (sizes >= size) | (np.arange(len(sizes)) == sizes.argmax())
    )


def smooth(crop: Crop, distance: float) -> Crop:
    """Round off what sticks out or in by less than a distance, px; the window grows by it.

    The edge is where a Gaussian of that standard deviation says that half of the surroundings
    belong to the object, so that straight edges stay where they are.
    """
    pad = _padding(distance)
    soft = scipy.ndimage.gaussian_filter(np.pad(crop, pad).astype(np.float32), distance, truncate=3)
    smoothed: Crop = soft > 0.5
    return smoothed


def grow(crop: Crop, distance: float) -> Crop:
    """Add what is at most a distance away, px, or with one below 0 take as much off the edge.

    The window grows by it.
    """
    pad = _padding(distance)
    padded = np.pad(crop, pad)
    if distance > 0:
        near: Crop = scipy.ndimage.distance_transform_edt(~padded) <= distance
        return near
    left: Crop = scipy.ndimage.distance_transform_edt(padded) > -distance
    return left


def split(crop: Crop, line: NDArray[np.floating]) -> list[Crop]:
    """Cut an object along a line.

    Parameters
    ----------
    crop : (h, w) bool array
    line : (n, 2) float array
        (row, col) px of the window, joined by straight lines.

    Returns
    -------
    list of (h, w) bool array
        Its parts, the largest first; together they are the object, for the pixels of the line
        go to the part that they are nearest to. One where the line does not cut it.
    """
    cut = crop & ~_drawn(crop.shape, line)
    # By edges alone: a line of pixels may hang together by corners.
    numbers, count = scipy.ndimage.label(cut)
    before = scipy.ndimage.label(crop, _CORNERS)[1]
    if count <= before:
        return [crop]
    nearest = scipy.ndimage.distance_transform_edt(numbers == 0, return_indices=True)[1]
    owners = numbers[tuple(nearest)] * crop
    sizes = np.bincount(owners.ravel(), minlength=count + 1)[1:]
    return [owners == number + 1 for number in np.argsort(-sizes, kind="stable")]


def _drawn(shape: tuple[int, ...], line: NDArray[np.floating]) -> Crop:
    """Pixels of a window that a line passes, without a gap at corners."""
    drawn = np.zeros(shape, dtype=np.bool_)
    for (r0, c0), (r1, c1) in pairwise(line):
        count = max(2, int(np.ceil(4 * max(abs(r1 - r0), abs(c1 - c0)))) + 1)
        rows = np.rint(np.linspace(r0, r1, count)).astype(int)
        cols = np.rint(np.linspace(c0, c1, count)).astype(int)
        for row_step, col_step in ((0, 0), (0, 1)):
            at = rows + row_step, cols + col_step
            inside = (at[0] >= 0) & (at[1] >= 0) & (at[0] < shape[0]) & (at[1] < shape[1])
            drawn[at[0][inside], at[1][inside]] = True
    return drawn


def _padding(distance: float) -> int:
    if not 0 < abs(distance) <= MOST:
        raise ValueError(
            f"The distance is {distance:g} px, expected one of up to {MOST} px, and not 0."
        )
    return int(np.ceil(abs(distance))) + 1 if distance > 0 else 1


def _parts_where(crop: Crop, is_kept: Any) -> Crop:
    numbers, count = scipy.ndimage.label(crop, _CORNERS)
    if count < 2:
        return crop
    kept = is_kept(np.bincount(numbers.ravel())[1:])
    chosen: Crop = np.concatenate([[False], kept])[numbers]
    return chosen


@dataclass(frozen=True)
class Cleaning:
    """What is done to every object, in this order.

    Attributes
    ----------
    grow : float
        Px to grow by; below 0 to shrink by.
    smooth : float
        Px to smooth by.
    fill_holes : bool
    specks : int
        Parts of fewer px are removed.
    largest : bool
        Whether only the largest part is kept.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    fill_holes: bool = False
    specks: int = 0
    largest: bool = False
    smooth: float = 0.0
    grow: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.smooth <= MOST and -MOST <= self.grow <= MOST and self.specks >= 0):
            raise ValueError(
                f"Asked to smooth by {self.smooth:g} px, to grow by {self.grow:g} px and to remove "
                f"specks below {self.specks} px; expected 0 to {MOST}, -{MOST} to {MOST} and 0 or "
                "more."
            )

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self != Cleaning()

    def apply(
        self, crop: Crop, origin: tuple[int, int], shape: Sequence[int]
    ) -> tuple[Crop, tuple[int, int]]:
        """Clean an object.

        Parameters
        ----------
        crop : (h, w) bool array
        origin : (int, int)
            (row, col) of ``crop[0, 0]`` in the image, px.
        shape : (int, int)
            (H, W) of the image, px; nothing is drawn outside it.

        Returns
        -------
        crop, origin
            As given; may be larger or smaller, and without any pixel.
        """
        if self.grow or self.smooth:
            crop, origin = self._moved_edges(crop, origin, shape)
        if self.fill_holes:
            crop = fill_holes(crop)
        if self.largest:
            crop = keep_largest(crop)
        elif self.specks:
            crop = remove_specks(crop, self.specks)
        return crop, origin

    def _moved_edges(
        self, crop: Crop, origin: tuple[int, int], shape: Sequence[int]
    ) -> tuple[Crop, tuple[int, int]]:
        # An object that the image's border cuts goes on behind it: that is no edge of its own.
        reach = int(np.ceil(abs(self.grow) + 3 * self.smooth)) + 1
        ends = origin[0] + crop.shape[0], origin[1] + crop.shape[1]
        widths = [
            (reach * (start <= 0), reach * (end >= size))
            for start, end, size in zip(origin, ends, shape, strict=True)
        ]
        crop = np.pad(crop, widths, mode="edge")
        row, col = origin[0] - widths[0][0], origin[1] - widths[1][0]
        for distance, step in ((self.grow, grow), (self.smooth, smooth)):
            if distance:
                before = crop.shape[0]
                crop = step(crop, distance)
                pad = (crop.shape[0] - before) // 2
                row, col = row - pad, col - pad
        row0, col0 = max(row, 0), max(col, 0)
        inside = crop[row0 - row : shape[0] - row, col0 - col : shape[1] - col]
        return inside, (row0, col0)


def clean_labels(
    labels: NDArray[Any], cleaning: Cleaning, *, only: Sequence[int] | None = None
) -> NDArray[Any]:
    """Clean every object of a label image, one after the other by number.

    Pixels of other objects stay theirs.

    Parameters
    ----------
    labels : (H, W) integer array
        Not changed.
    cleaning : Cleaning
    only : sequence of int, optional
        These objects alone.
    """
    result = labels.copy()
    numbers, places = np.unique(labels, return_inverse=True)
    windows = scipy.ndimage.find_objects(places.reshape(labels.shape) + 1)
    for number, window in zip(numbers.tolist(), windows, strict=True):
        if number <= 0 or window is None or (only is not None and number not in only):
            continue
        origin = window[0].start, window[1].start
        crop, (row, col) = cleaning.apply(labels[window] == number, origin, labels.shape)
        result[window][labels[window] == number] = 0
        part = result[row : row + crop.shape[0], col : col + crop.shape[1]]
        part[crop & (part == 0)] = number
    return result
