"""Shapes of generated images that grow: vessel trees, roots, hairs and bundles of cables."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from recipes.tiny.drawing import Canvas, meander
from recipes.tiny.rendering import log_uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Labels = NDArray[np.int32]

_MOST_SEGMENTS = 400


def _tapered(
    canvas: Canvas, path: NDArray[np.float64], label: int, first: float, last: float
) -> None:
    """Draw a path whose width goes from one value to another, in pieces of one width."""
    widths = np.linspace(first, last, len(path) - 1)
    start = 0
    for end in range(1, len(path)):
        if end == len(path) - 1 or round(widths[end]) != round(widths[start]):
            canvas.line(path[start : end + 1], label, float(widths[start]))
            start = end


def _heading(path: NDArray[np.float64], i: int) -> float:
    dx, dy = path[i] - path[i - 1]
    return float(np.arctan2(dy, dx))


def vessel_tree(size: int, rng: np.random.Generator) -> Labels:
    """Trees whose widths and angles at a fork follow Murray's law (Murray, 1926); one label.

    The cube of a vessel's radius is the sum of the cubes of its branches' radii.
    """
    canvas = Canvas(size)
    bend = log_uniform(rng, 0.015, 0.12)
    reach = rng.uniform(5, 16)
    least = rng.uniform(0.8, 1.6)
    if rng.random() < 0.5:
        # All from one place, as from an optic disc.
        roots = [rng.uniform(0.05, 0.95, 2) * size] * int(rng.integers(2, 7))
        angles = rng.uniform(0, 6.28) + np.arange(len(roots)) * 6.28 / len(roots)
    else:
        roots = [np.array([rng.uniform(0, size), 0.0]) for _ in range(int(rng.integers(1, 5)))]
        roots = [root if rng.random() < 0.5 else root[::-1].copy() for root in roots]
        angles = np.array([np.arctan2(*(size / 2 - root)[::-1]) for root in roots])
    width = log_uniform(rng, 2.5, 11) * size / 256
    todo = deque(
        (root, float(angle + rng.normal(0, 0.3)), width * rng.uniform(0.5, 1.0))
        for root, angle in zip(roots, angles, strict=True)
    )
    for _ in range(_MOST_SEGMENTS):
        if not todo:
            break
        start, angle, own = todo.popleft()
        path = meander(rng, start, angle, max(own, 2.0) * reach * rng.uniform(0.5, 1.5), 3.0, bend)
        end = own * rng.uniform(0.85, 1.0)
        _tapered(canvas, path, 1, own, end)
        if end < least or not (-0.1 * size <= path[-1]).all() or not (path[-1] <= 1.1 * size).all():
            continue
        ratio = rng.uniform(0.3, 1.0)
        large = end / (1 + ratio**3) ** (1 / 3)
        small = ratio * large
        side = rng.choice([-1.0, 1.0])
        turns = []
        for this, other in ((large, small), (small, large)):
            cosine = (end**4 + this**4 - other**4) / (2 * end**2 * this**2)
            turns.append(float(np.arccos(np.clip(cosine, -1, 1))))
        heading = _heading(path, len(path) - 1)
        todo.append((path[-1], heading + side * turns[0], large))
        todo.append((path[-1], heading - side * turns[1], small))
    return canvas.labels()


def roots(size: int, rng: np.random.Generator) -> Labels:
    """Draw main roots that grow one way, and laterals that turn to it; one label or one a plant."""
    canvas = Canvas(size)
    down = rng.uniform(0, 6.28)
    plants = int(rng.integers(1, 6))
    single = rng.random() < 0.6
    width = log_uniform(rng, 1.5, 8) * size / 256
    for plant in range(plants):
        label = 1 if single else plant + 1
        middle = np.array([np.cos(down), np.sin(down)]) * -0.4 * size + size / 2
        across = np.array([-np.sin(down), np.cos(down)]) * rng.uniform(-0.45, 0.45) * size
        todo = deque([(middle + across, down + rng.normal(0, 0.2), width, 0)])
        while todo:
            start, angle, own, order = todo.popleft()
            length = size * rng.uniform(0.4, 1.0) * 0.35**order
            path = meander(rng, start, angle, length, size / 128, 0.06 + 0.04 * order)
            _tapered(canvas, path, label, own, max(1.0, 0.5 * own))
            if order == 2:
                continue
            for i in range(2, len(path) - 1, int(rng.integers(5, 30))):
                turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.4)
                heading = 0.7 * _heading(path, i) + 0.3 * down + turn
                todo.append((path[i], heading, own * rng.uniform(0.3, 0.6), order + 1))
    return canvas.labels()


def hairs(size: int, rng: np.random.Generator) -> Labels:
    """Long smooth curves of one width each, a few or many, mostly one way; one label or each."""
    canvas = Canvas(size)
    single = rng.random() < 0.5
    spread = rng.choice([0.15, 0.5, 3.0])
    angle = rng.uniform(0, 6.28)
    width = log_uniform(rng, 1, 4) * size / 256
    for i in range(round(log_uniform(rng, 1, 60))):
        start = rng.uniform(-0.2, 1.0, 2) * size
        length = size * log_uniform(rng, 0.2, 1.4)
        path = meander(rng, start, angle + rng.normal(0, spread), length, size / 48, 0.04)
        _tapered(canvas, path, 1 if single else i + 1, width, width * rng.uniform(0.5, 1.0))
    return canvas.labels()


def cables(size: int, rng: np.random.Generator) -> Labels:
    """Tubes beside and across each other, each an object of its own."""
    canvas = Canvas(size)
    width = log_uniform(rng, 2, 16) * size / 256
    angle, bend = rng.uniform(0, 6.28), log_uniform(rng, 0.01, 0.12)
    start = size / 2 - size * np.array([np.cos(angle), np.sin(angle)])
    shared = meander(rng, start, angle, 2.2 * size, size / 40, bend)
    across = np.array([-np.sin(angle), np.cos(angle)])
    for label in range(1, int(rng.integers(2, 14))):
        if rng.random() < 0.7:
            wave = np.cumsum(rng.normal(0, 0.15, len(shared)))[:, None] * across * width
            path = shared + across * rng.normal(0, 3) * width + wave
        else:
            other = rng.uniform(0, 6.28)
            begin = size / 2 - size * np.array([np.cos(other), np.sin(other)])
            path = meander(rng, begin + rng.normal(0, 0.3, 2) * size, other, 2.2 * size, 8, bend)
        canvas.line(path, label, width * rng.uniform(0.6, 1.2))
    return canvas.labels()
