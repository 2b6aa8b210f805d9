"""What the shapes of generated images are drawn with: a canvas, closed outlines, drifting paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Labels = NDArray[np.int32]


class Canvas:
    """Integer label picture that is drawn on with polygons and lines, (x, y) in px.

    Parameters
    ----------
    size : int
        Side of the square picture in px; all of it is 0 at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._image = Image.new("I", (size, size), 0)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: NDArray[np.float64], label: int) -> None:
        """Fill the polygon through `points`, (n, 2) of (x, y), over what was there."""
        self._draw.polygon([tuple(point) for point in points.tolist()], fill=label)

    def line(self, points: NDArray[np.float64], label: int, width: float) -> None:
        """Draw the path through `points`, (n, 2) of (x, y), at least 1 px wide."""
        path = [tuple(point) for point in points.tolist()]
        self._draw.line(path, fill=label, width=max(1, round(width)), joint="curve")

    def labels(self) -> Labels:
        """Copy the picture, (size, size) int32."""
        return np.array(self._image, dtype=np.int32)


def rough_outline(
    rng: np.random.Generator, radius: float, roughness: float, aspect: float, points: int = 56
) -> NDArray[np.float64]:
    """Draw a closed smooth outline around the origin.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the outline and of its direction.
    radius : float
        Radius in px of the circle that it departs from.
    roughness : float
        Departure from an ellipse, 0 for none.
    aspect : float
        Length over width.
    points : int
        Number of points.

    Returns
    -------
    (points, 2) ndarray of float64
        (x, y) in px.
    """
    theta = np.linspace(0, 2 * np.pi, points, endpoint=False)
    orders = np.arange(2, 8)[:, None]
    amplitude = rng.normal(0, roughness, (6, 1)) / (orders - 1)
    phase = rng.uniform(0, 2 * np.pi, (6, 1))
    profile = 1 + (amplitude * np.cos(orders * theta + phase)).sum(0)
    profile = radius * np.clip(profile, 0.25, 2.0)
    x, y = profile * np.cos(theta) * np.sqrt(aspect), profile * np.sin(theta) / np.sqrt(aspect)
    return turned(np.stack([x, y], axis=1), rng.uniform(0, 2 * np.pi))


def turned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Turn points, (n, 2) of (x, y), around the origin by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]), dtype=np.float64)


def meander(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    angle: float,
    length: float,
    step: float,
    bend: float,
) -> NDArray[np.float64]:
    """Draw a path whose direction drifts.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the drift.
    start : (2,) ndarray of float64
        (x, y) of the first point in px.
    angle : float
        First direction in radians.
    length, step : float
        Length of the path and of each step in px.
    bend : float
        Drift in radians per step, correlated over a few steps.

    Returns
    -------
    (n, 2) ndarray of float64
        (x, y) in px, with at least 3 steps.
    """
    count = max(3, int(length / step))
    turn = rng.normal(0, bend, count)
    turn = np.convolve(turn, np.ones(4) / 2, mode="same") + rng.normal(0, bend / 4)
    angles = angle + np.cumsum(turn)
    steps = step * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(np.vstack([start, start + np.cumsum(steps, axis=0)]), dtype=np.float64)
