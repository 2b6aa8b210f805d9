"""Size, shape and intensity of labelled objects, in pixels and in units of length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from napari_pisam.images.label_places import object_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.label_formats import LabelImage

_LENGTHS = (
    *("perimeter", "length", "width", "centroid_y", "centroid_x"),
    *("centroid_3d_z", "centroid_3d_y", "centroid_3d_x"),
)
_POWERS = {"area": 2, "volume": 3}


@dataclass(frozen=True)
class Pixel:
    """Size of a pixel.

    Attributes
    ----------
    height, width : float
        In ``unit``.
    unit : str
        ``"px"``, or a unit of length, e.g. ``"um"``.
    depth : float, optional
        How far the slices of a stack are apart, in ``unit``, where that is known.
    """

    height: float = 1.0
    width: float = 1.0
    unit: str = "px"
    depth: float | None = None

    def __post_init__(self) -> None:
        """Check the sides.

        Raises
        ------
        ValueError
            If one is not a positive number.
        """
        deep = () if self.depth is None else (self.depth,)
        sides = (*deep, self.height, self.width)
        if not all(0 < side < math.inf for side in sides):
            raise ValueError(
                f"A pixel is {' x '.join(f'{side:g}' for side in sides)} {self.unit}; expected "
                f"{'three' if deep else 'two'} positive sides."
            )


def measure_objects(
    labels: NDArray[Any],
    intensity: NDArray[Any] | None = None,
    *,
    pixel: Pixel | None = None,
    channels: Sequence[str] = (),
    only: Iterable[int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> dict[int, dict[str, float]]:
    """Measure every object of a label image, as scikit-image's ``regionprops`` does.

    Parameters
    ----------
    labels : (H, W) ndarray of unsigned int
        0 background.
    intensity : (H, W) or (H, W, C) ndarray, optional
        Picture of the same size.
    pixel : Pixel, optional
        By default lengths are in px.
    channels : sequence of str
        Names of the channels; numbers from 1 where there are several and none are named.
    only : iterable of int, optional
        Labels to measure; those that are absent are left out.
    origin : (int, int)
        (row, col) of the labels' first pixel, where they are a window of an image's.

    Returns
    -------
    dict of int to dict of str to float
        By label: ``area`` and ``area_px``; ``perimeter``; ``length`` and ``width``, of the ellipse
        with the same second moments; ``circularity``, 4 pi area / perimeter ** 2 and at most 1;
        ``solidity``, area by that of the convex hull; ``centroid_row`` and ``centroid_col`` in px,
        pixel centres at integers, and ``centroid_y`` and ``centroid_x``, the same in the unit;
        ``bbox-0`` to ``bbox-3``, first row and column and those behind the last, px;
        ``intensity_mean``, ``_min`` and ``_max``, for every channel. Lengths are in the pixel's
        unit, areas in its square.

    Raises
    ------
    ValueError
        If the sizes differ.
    """
    pixel = pixel or Pixel()
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise ValueError(
            f"Labels have shape {labels.shape} and type {labels.dtype}; expected (H, W) integers."
        )
    if intensity is not None and intensity.shape[:2] != labels.shape:
        raise ValueError(
            f"The picture has shape {intensity.shape}, the labels {labels.shape}; expected the "
            "same height and width."
        )
    rows: dict[int, dict[str, float]] = {}
    for label, where in object_places(labels, only).items():
        mask = labels[where] == label
        values = None if intensity is None else intensity[where]
        rows[label] = _measured(
            mask, (origin[0] + where[0].start, origin[1] + where[1].start), pixel
        )
        if values is not None:
            rows[label] |= _intensities(values[mask], channels)
    return rows


def with_unit(name: str, unit: str) -> str:
    """Return a measure's name with its unit, as tables have it: ``area_um2``, ``length_um``."""
    if name in _LENGTHS:
        return f"{name}_{unit}"
    return f"{name}_{unit}{_POWERS[name]}" if name in _POWERS else name


def named(rows: Mapping[int, Mapping[str, float]], unit: str) -> dict[int, dict[str, float]]:
    """Return measures of labels by their names with units."""
    return {
        label: {with_unit(name, unit): value for name, value in row.items()}
        for label, row in rows.items()
    }


def with_measures(image: LabelImage) -> LabelImage:
    """Return labels with their measures, in the unit that they have."""
    pixel = Pixel() if image.unit == "pixel" else Pixel(*image.pixel_size, image.unit)
    measures = named(measure_objects(image.labels, pixel=pixel), pixel.unit)
    return replace(image, measures=measures)


def _measured(mask: NDArray[np.bool_], origin: tuple[int, int], pixel: Pixel) -> dict[str, float]:
    rows, cols = np.nonzero(mask)
    middle_row, middle_col = float(rows.mean()), float(cols.mean())
    down, across = (rows - middle_row) * pixel.height, (cols - middle_col) * pixel.width
    length, width = _axes(float(down @ down), float(across @ across), float(down @ across), rows)
    area = len(rows) * pixel.height * pixel.width
    perimeter = _perimeter(mask, pixel)
    return {
        "area": area,
        "area_px": len(rows),
        "perimeter": perimeter,
        "length": length,
        "width": width,
        "circularity": min(1.0, 4 * math.pi * area / perimeter**2) if perimeter else 1.0,
        "solidity": len(rows) / _hull_area(mask),
        "centroid_row": origin[0] + middle_row,
        "centroid_col": origin[1] + middle_col,
        "centroid_y": (origin[0] + middle_row) * pixel.height,
        "centroid_x": (origin[1] + middle_col) * pixel.width,
        "bbox-0": origin[0],
        "bbox-1": origin[1],
        "bbox-2": origin[0] + mask.shape[0],
        "bbox-3": origin[1] + mask.shape[1],
    }


def _axes(down: float, across: float, mixed: float, rows: NDArray[np.intp]) -> tuple[float, float]:
    """Axes of the ellipse with these sums of squares and products, as regionprops has them."""
    half, difference = (down + across) / 2, (down - across) / 2
    root = math.hypot(difference, mixed)
    return tuple(4 * math.sqrt(max(0.0, value) / len(rows)) for value in (half + root, half - root))  # type: ignore[return-value]


def _perimeter(mask: NDArray[np.bool_], pixel: Pixel) -> float:
    """Length of the outline by Crofton's formula, from lines in four directions.

    Every line through pixels' centres counts how often it crosses the outline; as
    ``skimage.measure.perimeter_crofton``, for pixels of any shape.
    """
    inside = np.pad(mask, 1)
    slope = math.atan2(pixel.height, pixel.width)
    diagonal = math.hypot(pixel.height, pixel.width)
    # Crossings, distance of the lines' pixels, and the angle that a direction stands for.
    directions = (
        (inside[:, 1:] != inside[:, :-1], pixel.width, slope),
        (inside[1:] != inside[:-1], pixel.height, math.pi / 2 - slope),
        (inside[1:, 1:] != inside[:-1, :-1], diagonal, math.pi / 4),
        (inside[1:, :-1] != inside[:-1, 1:], diagonal, math.pi / 4),
    )
    cell = pixel.height * pixel.width
    return sum(
        np.count_nonzero(crossings) * cell / step * angle / 2
        for crossings, step, angle in directions
    )


def _hull_area(mask: NDArray[np.bool_]) -> float:
    """Area in px of the convex hull of the pixels' squares."""
    # Of every row only the ends can be corners of the hull.
    filled = np.flatnonzero(mask.any(axis=1))
    first = mask[filled].argmax(axis=1)
    last = mask.shape[1] - mask[filled][:, ::-1].argmax(axis=1)
    rows = np.concatenate([filled, filled + 1] * 2)
    cols = np.concatenate([first, first, last, last])
    # In two dimensions scipy's volume is the area.
    return float(scipy.spatial.ConvexHull(np.stack([rows, cols], axis=1)).volume)


def _intensities(values: NDArray[Any], channels: Sequence[str]) -> dict[str, float]:
    """Mean, least and largest of (N,) or (N, C) values."""
    columns = values.reshape(len(values), -1)
    names = list(channels) or [str(number) for number in range(1, columns.shape[1] + 1)]
    found: dict[str, float] = {}
    for number, name in enumerate(names[: columns.shape[1]]):
        suffix = f"_{name}" if columns.shape[1] > 1 or channels else ""
        column = columns[:, number].astype(np.float64)
        found |= {
            f"intensity_mean{suffix}": float(column.mean()),
            f"intensity_min{suffix}": float(column.min()),
            f"intensity_max{suffix}": float(column.max()),
        }
    return found
