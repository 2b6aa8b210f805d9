"""Outlines of masks along the edges of pixels, and masks from outlines, without loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ring = NDArray[np.float64]


def outlines(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """Trace the parts of a mask along the edges of its pixels.

    Parameters
    ----------
    mask : (H, W) ndarray of bool

    Returns
    -------
    list of list of (N, 2) ndarray of float
        For every 4-connected part its outer ring, then its holes. Vertices are (row, col) px with
        pixel centres at integers, so that edges lie at halves; corners only; not closed: the last
        vertex is followed by the first. Outer rings have a positive area by the shoelace formula
        in (x, y) with y downwards, holes a negative one. No ring touches itself.
    """
    numbers = np.pad(scipy.ndimage.label(mask)[0], 1)
    rings = _rings(numbers)
    parts: dict[int, list[Ring]] = {}
    # Outer rings first.
    for ring in sorted(rings, key=lambda ring: _signed_area(ring) < 0):
        row, col = ring[np.lexsort((ring[:, 1], ring[:, 0]))[0]]
        # The pixel at the ring's upper left corner, below its upper edge, or above that of a hole.
        below = 0.5 if _signed_area(ring) > 0 else -0.5
        number = int(numbers[round(row + below) + 1, round(col + 0.5) + 1])
        parts.setdefault(number, []).append(ring)
    return list(parts.values())


def _rings(numbers: NDArray[np.integer]) -> list[Ring]:
    """Follow all edges between parts and background, the inside to the right of the way."""
    inside = (numbers > 0).astype(np.int8)
    width = numbers.shape[1] + 1
    starts: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = []
    owners: list[NDArray[np.integer]] = []
    # In the order of their directions, each a turn to the right from the one before: upper edges
    # run to the right, right ones down, lower ones to the left, left ones up. Corner (r, c) is the
    # upper left one of pixel (r, c).
    for axis, value, own, first, second in (
        (0, 1, (1, 0), (1, 0), (1, 1)),
        (1, -1, (0, 0), (0, 1), (1, 1)),
        (0, -1, (0, 0), (1, 1), (1, 0)),
        (1, 1, (0, 1), (1, 1), (0, 1)),
    ):
        rows, cols = np.nonzero(np.diff(inside, axis=axis) == value)
        starts.append((rows + first[0]) * width + cols + first[1])
        ends.append((rows + second[0]) * width + cols + second[1])
        owners.append(numbers[rows + own[0], cols + own[1]])
    direction = np.repeat(np.arange(4), [len(part) for part in starts])
    start, end, owner = (np.concatenate(parts) for parts in (starts, ends, owners))
    return _followed(end, direction, _successors(start, end, direction, owner), width)


def _successors(
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    direction: NDArray[np.int64],
    owner: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Find the edge that follows each edge."""
    order = np.argsort(start, kind="stable")
    sorted_starts = start[order]
    first = np.searchsorted(sorted_starts, end)
    following = order[first]
    # Two edges begin where two pixels touch at a corner only. Pixels of two parts are kept apart
    # by turning right; within a part, turning left keeps the hole apart from what is outside.
    is_twice = np.append(sorted_starts[1:] == sorted_starts[:-1], False)
    doubled = np.flatnonzero(is_twice[first])
    one, other = following[doubled], order[first[doubled] + is_twice[first[doubled]]]
    turn = np.where(owner[one] == owner[other], -1, 1)
    is_wanted = direction[one] == (direction[doubled] + turn) % 4
    following[doubled] = np.where(is_wanted, one, other)
    return following


def _followed(
    end: NDArray[np.int64],
    direction: NDArray[np.int64],
    following: NDArray[np.int64],
    width: int,
) -> list[Ring]:
    """Walk along edges, and keep the corners where the direction changes."""
    is_turn = (direction != direction[following]).tolist()
    successor = following.tolist()
    corner_rows, corner_cols = np.divmod(end, width)
    seen = bytearray(len(end))
    rings: list[Ring] = []
    for first in range(len(end)):
        edge, corners = first, []
        while not seen[edge]:
            seen[edge] = 1
            if is_turn[edge]:
                corners.append(edge)
            edge = successor[edge]
        if corners:
            # Padding moves by one pixel, a pixel's corner lies half a pixel before its centre.
            ring = np.stack([corner_rows[corners], corner_cols[corners]], axis=1) - 1.5
            rings.append(ring)
    return rings


def _signed_area(ring: Ring) -> float:
    row, col = ring[:, 0], ring[:, 1]
    return float((col * np.roll(row, -1) - np.roll(col, -1) * row).sum() / 2)


_MOST_PIXELS = 2**34


def filled(
    parts: Sequence[Sequence[NDArray[np.floating]]], shape: tuple[int, int]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Fill outlines: what `outlines` found of a mask gives the mask again.

    Parameters
    ----------
    parts : sequence of sequence of (N, 2) array
        Rings of (row, col) px, pixel centres at integers: an outer one, then its holes. A pixel
        belongs to the mask if its centre is inside an odd number of a part's rings.
    shape : (int, int)
        (H, W) of the image; what lies outside is cut off.

    Returns
    -------
    origin : (int, int)
        (row, col) of the crop in the image.
    crop : (h, w) ndarray of bool
        Empty if nothing lies inside.
    """
    from skimage import draw

    polygon: Any = draw.polygon
    rings = [ring for part in parts for ring in part if len(ring) >= 3]
    if not rings:
        return (0, 0), np.zeros((0, 0), dtype=bool)
    corners = np.concatenate(rings)
    low = np.clip(np.floor(corners.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, shape).astype(int)
    size = (max(0, int(high[0] - low[0])), max(0, int(high[1] - low[1])))
    mask = np.zeros(size, dtype=bool)
    for part in parts:
        inside = np.zeros(size, dtype=bool)
        for ring in part:
            if len(ring) >= 3:
                rows, cols = polygon(ring[:, 0] - low[0], ring[:, 1] - low[1], size)
                inside[rows, cols] ^= True
        mask |= inside
    return (int(low[0]), int(low[1])), mask


def bridged(part: Sequence[Ring]) -> Ring:
    """Join a part's rings into one, by bridges of no width, for formats that know no holes.

    Parameters
    ----------
    part : sequence of (N, 2) ndarray of float
        An outer ring, then its holes; or rings of several parts.

    Returns
    -------
    (M, 2) ndarray of float
        One ring that encloses the same pixels.
    """
    joined = np.asarray(part[0], dtype=np.float64)
    for ring in sorted(part[1:], key=lambda one: float(one[:, 1].min())):
        distance = np.abs(joined[:, None] - ring[None]).sum(axis=2)
        here, there = np.unravel_index(int(distance.argmin()), distance.shape)
        turned = np.roll(ring, -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined


def single_outline(crop: NDArray[np.bool_], origin: tuple[int, int]) -> Ring:
    """Trace an object as one ring, for formats that know neither holes nor several parts.

    Parameters
    ----------
    crop : (h, w) ndarray of bool
        The object.
    origin : (int, int)
        (row, col) of the crop in the image.

    Returns
    -------
    (M, 2) ndarray of float
        As `bridged`, in px of the image.
    """
    ring = bridged([ring for part in outlines(crop) for ring in part])
    return ring + np.array(origin, dtype=np.float64)


def shape_around(rings: Sequence[Ring]) -> tuple[int, int]:
    """Size of the smallest image, (H, W) px, that holds rings of (row, col) px.

    Raises
    ------
    ValueError
        If there are none, or they reach too far for an image.
    """
    if not rings:
        raise ValueError("it holds no outline, so that the size of the picture is not known")
    height, width = np.max([ring.max(axis=0) for ring in rings], axis=0) + 0.5
    if not height * width < _MOST_PIXELS:
        raise ValueError(f"its outlines reach to {height:.0f} x {width:.0f} px")
    return max(1, math.ceil(height)), max(1, math.ceil(width))
