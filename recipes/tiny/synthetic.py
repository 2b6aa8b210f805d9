"""Generated images with exact masks, over a deliberately unreasonable range of appearances.

Shapes are drawn first, as instance labels; their look is drawn afterwards and independently, so
that no appearance gives a shape away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, spatial

from napari_pisam.learn.augment import smooth_noise
from recipes.tiny import lines
from recipes.tiny.drawing import Canvas, meander, rough_outline, turned
from recipes.tiny.rendering import log_uniform, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Labels = NDArray[np.int32]


def _number(rng: np.random.Generator, low: int, high: int) -> int:
    return round(log_uniform(rng, low, high))


def _centres(rng: np.random.Generator, size: int, count: int) -> NDArray[np.float64]:
    """Random positions, either all over, or crowded around one place."""
    if rng.random() < 0.3:
        spread = rng.uniform(0.12, 0.3) * size
        middle = rng.uniform(0.3, 0.7, 2) * size
        return np.asarray(rng.normal(middle, spread, (count, 2)))
    return rng.uniform(0, size, (count, 2))


def _crowd(rng: np.random.Generator, size: int) -> tuple[float, NDArray[np.float64]]:
    radius = log_uniform(rng, 0.012 * size + 2, 0.22 * size)
    cover = rng.uniform(0.1, 0.9) * size**2 / (np.pi * radius**2)
    return radius, _centres(rng, size, int(np.clip(cover, 1, 140)))


def _cells(size: int, rng: np.random.Generator) -> Labels:
    """Blobs in contact: where two overlap, the pixel goes to the nearer centre."""
    radius, centres = _crowd(rng, size)
    labels = np.zeros((size, size), np.int32)
    best = np.ones((size, size), np.float32)
    roughness = float(rng.choice([0.0, 0.06, 0.15]))
    for label, (cx, cy) in enumerate(centres, start=1):
        r = radius * rng.uniform(0.7, 1.3)
        aspect = np.exp(abs(rng.normal(0, 0.3)))
        reach = 1.5 * r * np.sqrt(aspect)
        x0, x1 = max(0, int(cx - reach)), min(size, int(cx + reach) + 2)
        y0, y1 = max(0, int(cy - reach)), min(size, int(cy + reach) + 2)
        if x1 <= x0 or y1 <= y0:
            continue
        x = (np.arange(x0, x1) - cx).astype(np.float32)[None, :]
        y = (np.arange(y0, y1) - cy).astype(np.float32)[:, None]
        turn = rng.uniform(0, np.pi)
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u = (x * cos + y * sin) / np.float32(r * np.sqrt(aspect))
        v = (y * cos - x * sin) / np.float32(r / np.sqrt(aspect))
        distance = np.hypot(u, v)
        if roughness:
            theta = np.arctan2(v, u)
            wave = np.zeros_like(theta)
            for order in (2, 3, 5):
                wave += rng.normal(0, roughness) * np.cos(order * theta + rng.uniform(0, 6.28))
            distance = distance / np.clip(1 + wave, 0.4, 1.6)
        window = best[y0:y1, x0:x1]
        nearer = distance < window
        window[nearer] = distance[nearer]
        labels[y0:y1, x0:x1][nearer] = label
    return _parted(labels) if rng.random() < 0.3 else labels


def _parted(labels: Labels) -> Labels:
    """Open a one-pixel gap between labels that touch."""
    result = labels.copy()
    for axis in (0, 1):
        front = [slice(None)] * 2
        back = [slice(None)] * 2
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        a, b = labels[tuple(front)], labels[tuple(back)]
        result[tuple(front)][(a != b) & (a > 0) & (b > 0)] = 0
    return result


def _nuclei(size: int, rng: np.random.Generator) -> Labels:
    """Outlines drawn over each other, smooth to very irregular."""
    radius, centres = _crowd(rng, size)
    canvas = Canvas(size)
    roughness = float(rng.choice([0.02, 0.1, 0.25, 0.4]))
    for label, centre in enumerate(centres, start=1):
        aspect = np.exp(abs(rng.normal(0, 0.4)))
        outline = rough_outline(rng, radius * rng.uniform(0.5, 1.5), roughness, aspect)
        canvas.polygon(outline + centre, label)
    return canvas.labels()


def _filaments(size: int, rng: np.random.Generator) -> Labels:
    canvas = Canvas(size)
    width = log_uniform(rng, 1, 9)
    bend = log_uniform(rng, 0.01, 0.25)
    length = log_uniform(rng, 0.25, 2.0) * size
    single = rng.random() < 0.4
    for i in range(_number(rng, 1, 25)):
        label = 1 if single else i + 1
        path = meander(rng, rng.uniform(0, size, 2), rng.uniform(0, 6.28), length, size / 64, bend)
        own = width * rng.uniform(0.7, 1.4)
        canvas.line(path, label, own)
        while rng.random() < 0.35:
            root = path[rng.integers(0, len(path))]
            branch = meander(
                rng, root, rng.uniform(0, 6.28), length * rng.uniform(0.1, 0.5), size / 64, bend
            )
            canvas.line(branch, label, own * rng.uniform(0.5, 1.0))
    return canvas.labels()


def _voronoi_lines(
    size: int, rng: np.random.Generator, width: float, vary: float, drop: float
) -> Labels:
    """Edges of a Voronoi tessellation, bent by a smooth displacement field, label 1."""
    count = _number(rng, 6, 160)
    side = int(np.ceil(np.sqrt(count))) + 4
    pitch = size / (side - 4)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    jitter = rng.uniform(0.0, 0.6) if rng.random() < 0.8 else 0.05
    seeds = (grid - 1.5) * pitch + rng.normal(0, jitter * pitch, grid.shape)
    if rng.random() < 0.5:
        seeds[grid[:, 1] % 2 == 1] += [pitch / 2, 0]
    diagram = spatial.Voronoi(seeds)
    pairs = np.array([p for p in diagram.ridge_vertices if p[0] >= 0 and p[1] >= 0])
    if drop > 0:
        pairs = pairs[rng.random(len(pairs)) >= drop]
    # Subdivide, then displace every point by a field of its position: shared ends stay together.
    t = np.linspace(0, 1, 7)[None, :, None]
    a, b = diagram.vertices[pairs[:, :1]], diagram.vertices[pairs[:, 1:]]
    points = a + (b - a) * t
    spots = np.clip(points, 0, size - 1).astype(int)
    amount = rng.uniform(0, 0.25 if rng.random() < 0.4 else 0.08) * pitch
    for axis in (0, 1):
        field = smooth_noise((size, size), 2.5 * side, rng)
        points[..., axis] += amount * field[spots[..., 1], spots[..., 0]]
    canvas = Canvas(size)
    for path in points:
        canvas.line(path, 1, width * np.exp(rng.normal(0, vary)))
    return canvas.labels()


def _network(size: int, rng: np.random.Generator) -> Labels:
    return _voronoi_lines(size, rng, log_uniform(rng, 1, 14), 0.4, rng.uniform(0, 0.4))


def _membranes(size: int, rng: np.random.Generator) -> Labels:
    lines = _voronoi_lines(size, rng, log_uniform(rng, 1, 5), 0.05, 0.0)
    if rng.random() < 0.5:
        return lines
    return np.asarray(ndimage.label(lines == 0)[0], dtype=np.int32)


def _vessels(size: int, rng: np.random.Generator) -> Labels:
    """Branching trees that taper; one label."""
    canvas = Canvas(size)
    bend = log_uniform(rng, 0.02, 0.2)
    todo = []
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0, size, 2)
        start[rng.integers(0, 2)] = rng.choice([0.0, size - 1.0])
        inward = np.arctan2(*(size / 2 - start)[::-1])
        todo.append((start, inward, log_uniform(rng, 2, 16), rng.uniform(0.5, 1.2) * size))
    for _ in range(60):
        if not todo:
            break
        start, angle, width, length = todo.pop(0)
        path = meander(rng, start, angle, length, size / 64, bend)
        half = len(path) // 2
        canvas.line(path[: half + 1], 1, width)
        canvas.line(path[half:], 1, 0.75 * width)
        if width < 1.2:
            continue
        for _ in range(int(rng.integers(1, 6))):
            i = int(rng.integers(1, len(path)))
            heading = np.arctan2(*(path[i] - path[i - 1])[::-1])
            side = heading + rng.choice([-1, 1]) * rng.uniform(0.3, 1.3)
            todo.append(
                (path[i], side, width * rng.uniform(0.4, 0.8), length * rng.uniform(0.3, 0.7))
            )
    return canvas.labels()


def _mesh(size: int, rng: np.random.Generator) -> Labels:
    """Crossing families of warped parallel bars; the bars are one object, or each opening is."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    bars = np.zeros((size, size), bool)
    warp = rng.uniform(0, 0.04) * size * smooth_noise((size, size), 3, rng)
    spacing = log_uniform(rng, 0.03, 0.25) * size
    for _ in range(int(rng.choice([1, 2, 2, 2, 3]))):
        pitch = max(6.0, spacing * rng.uniform(0.8, 1.2))
        width = max(1.0, pitch * log_uniform(rng, 0.06, 0.5))
        along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) + warp
        bars |= np.mod(along, np.float32(pitch)) < np.float32(width)
        angle += np.pi / 2 if rng.random() < 0.7 else rng.uniform(0.5, 1.5)
    if rng.random() < 0.6:
        return bars.astype(np.int32)
    return np.asarray(ndimage.label(~bars)[0], dtype=np.int32)


def _rings(size: int, rng: np.random.Generator) -> Labels:
    """Rings, donuts and tubes, some with a core that is an object of its own."""
    radius, centres = _crowd(rng, size)
    radius = max(radius, 6.0)
    canvas = Canvas(size)
    label = 0
    hollow = rng.uniform(0.35, 0.92)
    roughness = float(rng.choice([0.0, 0.05, 0.15]))
    for centre in centres[:80]:
        aspect = np.exp(abs(rng.normal(0, 0.3)))
        outline = rough_outline(rng, radius * rng.uniform(0.6, 1.4), roughness, aspect)
        label += 1
        canvas.polygon(outline + centre, label)
        label += 1
        canvas.polygon(outline * hollow + centre, label if rng.random() < 0.2 else 0)
    return canvas.labels()


def _particles(size: int, rng: np.random.Generator) -> Labels:
    canvas = Canvas(size)
    radius = rng.uniform(2.5, 12)
    single = rng.random() < 0.3
    for i, centre in enumerate(_centres(rng, size, _number(rng, 8, 250)), start=1):
        r = radius * np.exp(rng.normal(0, 0.35))
        outline = rough_outline(rng, r, rng.uniform(0, 0.15), np.exp(abs(rng.normal(0, 0.25))), 20)
        canvas.polygon(outline + centre, 1 if single else i)
    return canvas.labels()


def _shapes(size: int, rng: np.random.Generator) -> Labels:
    """Polygons, stars and bars, with or without holes."""
    canvas = Canvas(size)
    for label in range(1, _number(rng, 1, 14) + 1):
        radius = log_uniform(rng, 0.04, 0.38) * size
        corners = int(rng.integers(3, 9))
        theta = np.linspace(0, 2 * np.pi, 2 * corners, endpoint=False)
        profile = np.ones(2 * corners)
        if rng.random() < 0.4:
            profile[1::2] = rng.uniform(0.3, 0.8)
        else:
            profile[1::2] = np.cos(np.pi / corners)
        if rng.random() < 0.4:
            profile *= rng.uniform(0.6, 1.2, 2 * corners)
        points = radius * profile[:, None] * np.stack([np.cos(theta), np.sin(theta)], 1)
        points *= [1.0, log_uniform(rng, 0.15, 1.0)]
        points = turned(points, rng.uniform(0, 6.28))
        centre = rng.uniform(0, size, 2)
        canvas.polygon(points + centre, label)
        if rng.random() < 0.35:
            canvas.polygon(points * rng.uniform(0.2, 0.8) + centre, 0)
        while rng.random() < 0.3:
            spot = centre + rng.normal(0, 0.4 * radius, 2)
            canvas.polygon(rough_outline(rng, radius * rng.uniform(0.08, 0.3), 0.05, 1.2) + spot, 0)
    return canvas.labels()


def _regions(size: int, rng: np.random.Generator) -> Labels:
    """Blob-shaped territories of thresholded noise, one object or each component."""
    field = smooth_noise((size, size), log_uniform(rng, 2, 14), rng)
    for octave in range(1, int(rng.integers(1, 5))):
        field = field + 0.5**octave * smooth_noise((size, size), 6 * 2.0**octave, rng)
    inside = field > np.quantile(field[::4, ::4], rng.uniform(0.3, 0.85))
    if rng.random() < 0.4:
        return inside.astype(np.int32)
    return np.asarray(ndimage.label(inside)[0], dtype=np.int32)


def _leaves(size: int, rng: np.random.Generator) -> Labels:
    """Lens-shaped blades along a curved axis, smooth or serrated, some with a stem."""
    canvas = Canvas(size)
    length = log_uniform(rng, 0.1, 0.9) * size
    for label in range(1, int(rng.integers(1, max(2, min(24, int(6 * size / length))))) + 1):
        own = length * rng.uniform(0.7, 1.2)
        axis = meander(rng, rng.uniform(0, size, 2), rng.uniform(0, 6.28), own, own / 40, 0.05)
        t = np.linspace(0, 1, len(axis))
        half = own * rng.uniform(0.06, 0.3) * np.sin(np.pi * t ** rng.uniform(0.6, 1.4))
        if rng.random() < 0.4:
            half = half * (1 + rng.uniform(0.05, 0.3) * ((np.arange(len(t)) % 4) / 3 - 0.5))
        along = np.gradient(axis, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1)
        across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
        sides = np.vstack([axis + across * half[:, None], (axis - across * half[:, None])[::-1]])
        canvas.polygon(sides, label)
        if rng.random() < 0.5:
            stem = meander(rng, axis[0], rng.uniform(0, 6.28), own * 0.3, own / 40, 0.05)
            canvas.line(stem, label, max(1.0, own * 0.015))
    return canvas.labels()


def _cracks(size: int, rng: np.random.Generator) -> Labels:
    """Jagged branching lines; one label."""
    canvas = Canvas(size)
    width = log_uniform(rng, 1, 7)
    todo = [
        (rng.uniform(0, size, 2), rng.uniform(0, 6.28), rng.uniform(0.4, 1.5) * size, width)
        for _ in range(int(rng.integers(1, 4)))
    ]
    jag = rng.uniform(0.15, 0.7)
    for _ in range(24):
        if not todo:
            break
        start, angle, length, own = todo.pop(0)
        step = max(3.0, size * rng.uniform(0.01, 0.04))
        heading = angle + rng.normal(0, jag, max(3, int(length / step)))
        heading += np.cumsum(rng.normal(0, 0.08, len(heading)))
        moves = step * np.stack([np.cos(heading), np.sin(heading)], 1)
        path = np.vstack([start, start + np.cumsum(moves, axis=0)])
        for i in range(len(path) - 1):
            canvas.line(path[i : i + 2], 1, own * np.exp(rng.normal(0, 0.3)))
        for _ in range(int(rng.integers(0, 4))):
            root = path[rng.integers(0, len(path))]
            side = angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.4)
            todo.append((root, side, length * rng.uniform(0.15, 0.5), max(1.0, 0.7 * own)))
    return canvas.labels()


_SHAPES: dict[str, Callable[[int, np.random.Generator], Labels]] = {
    "cells": _cells,
    "nuclei": _nuclei,
    "filaments": _filaments,
    "network": _network,
    "vessels": _vessels,
    "membranes": _membranes,
    "mesh": _mesh,
    "rings": _rings,
    "particles": _particles,
    "shapes": _shapes,
    "regions": _regions,
    "leaves": _leaves,
    "cracks": _cracks,
    "vessel_tree": lines.vessel_tree,
    "roots": lines.roots,
    "hairs": lines.hairs,
    "cables": lines.cables,
}

KINDS: tuple[str, ...] = tuple(_SHAPES)
"""Families of generated images."""

_THIN = {
    *("filaments", "network", "vessels", "membranes", "mesh", "cracks", "particles"),
    *("vessel_tree", "roots", "hairs", "cables"),
}


def generate(
    kind: str | None, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Labels]:
    """Draw one image and the exact labels of its objects.

    Parameters
    ----------
    kind : str or None
        One of `KINDS`, or None for a random one.
    size : int
        Side of the square image in px, at least 32.
    rng : numpy.random.Generator
        Source of everything: the same state gives the same image.

    Returns
    -------
    image : (size, size) or (size, size, 3) ndarray of uint8
        Grey or RGB picture.
    labels : (size, size) ndarray of int32
        0 background, one positive number per object; never all background.

    Raises
    ------
    ValueError
        If the kind is unknown or the size is below 32.
    """
    if size < 32:
        raise ValueError(f"size is {size}; expected at least 32 px")
    if kind is not None and kind not in _SHAPES:
        raise ValueError(f"kind is {kind!r}; expected None or one of {', '.join(KINDS)}")
    name = KINDS[int(rng.integers(0, len(KINDS)))] if kind is None else kind
    for _ in range(8):
        labels = _SHAPES[name](size, rng)
        if np.count_nonzero(labels) >= 30 and not (labels == labels.flat[0]).all():
            break
    else:
        labels = _shapes(size, np.random.default_rng(0))
    shapes, rich, thin = tuple(_SHAPES.values()), name == "regions", name in _THIN
    if thin and rng.random() < 0.15:
        return _in_a_field_of_view(labels, shapes, rng)
    return render(labels, rng, distractors=shapes, rich=rich, thin=thin), labels


def _in_a_field_of_view(
    labels: Labels,
    shapes: tuple[Callable[[int, np.random.Generator], Labels], ...],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Labels]:
    """Show labels in a disc on black or white, whose rim is no line of theirs."""
    size = labels.shape[0]
    ys, xs = np.ogrid[:size, :size]
    middle = rng.uniform(0.35, 0.65, 2) * size
    away = np.hypot(ys - middle[0], xs - middle[1])
    radius = rng.uniform(0.4, 0.75) * size
    seen = np.where(away < radius, labels, 0).astype(np.int32)
    pixels = render(seen, rng, distractors=shapes, thin=True)
    share = np.clip((radius - away) / rng.uniform(1, 6) + 0.5, 0, 1)
    share = share if pixels.ndim == 2 else share[..., None]
    outside = 0 if rng.random() < 0.85 else 255
    return (pixels * share + outside * (1 - share)).astype(np.uint8), seen
