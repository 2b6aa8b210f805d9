"""Windows, boxes and cuts: from an object in an image of any size to a frame of fixed size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from napari_pisam.predict.preprocessing import to_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.windows import Window


def shown_pixels(image: ImageSource, window: Window) -> NDArray[np.uint8]:
    """Read a window as the predictor would show it: grey as (h, w), else (h, w, 3)."""
    shown = np.rint(to_frame(image, window, max(window.reduced_shape))).astype(np.uint8)
    return np.ascontiguousarray(shown[0] if image.n_channels == 1 else shown.transpose(1, 2, 0))


def place_window(
    side: tuple[float, float], centre: tuple[float, float], shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Place a window of a wanted size, moved and cut into the image.

    Parameters
    ----------
    side : tuple of float
        (rows, cols) wanted, px.
    centre : tuple of float
        (row, col) of its middle, px.
    shape : tuple of int
        (rows, cols) of the image.

    Returns
    -------
    tuple of int
        (row_min, col_min, row_max, col_max) inside the image, at least one px in each direction.
    """
    edges = []
    for extent, middle, limit in zip(side, centre, shape, strict=True):
        length = int(min(max(1, round(extent)), limit))
        start = int(np.clip(round(middle - length / 2), 0, limit - length))
        edges.append((start, start + length))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def cut(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    window: tuple[int, int, int, int],
    frame: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Resize one window so that its long side is `frame` px.

    Parameters
    ----------
    pixels : (H, W) or (H, W, 3) ndarray of uint8
        Whole picture.
    mask : (rows, cols) ndarray of bool
        Object inside the window only.
    window : tuple of int
        (row_min, col_min, row_max, col_max) of the window in the picture.
    frame : int
        Long side of the result in px.

    Returns
    -------
    image : (h, w, 3) ndarray of uint8
        Anti-aliased picture.
    mask : (h, w) ndarray of bool
        Pixels that the object covers by more than one half.
    """
    r0, c0, r1, c1 = window
    scale = frame / max(r1 - r0, c1 - c0)
    shape = (max(1, round((c1 - c0) * scale)), max(1, round((r1 - r0) * scale)))
    picture = Image.fromarray(np.ascontiguousarray(pixels[r0:r1, c0:c1]))
    picture = picture.resize(shape, Image.Resampling.BILINEAR).convert("RGB")
    cover = Image.fromarray(mask.astype(np.uint8) * 255)
    if cover.size != shape:
        way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        cover = cover.resize(shape, way)
    return np.asarray(picture, dtype=np.uint8), np.asarray(cover) > 127


def exact_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Find the tight (x0, y0, x1, y1) of a mask; the maxima are the last column and row + 1."""
    cols, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], dtype=np.float32)


def noisy_box(
    box: NDArray[np.float32], valid: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move each side by up to 10 % of the box's extent, at most 20 px, in 75 % of the calls.

    Parameters
    ----------
    box : (4,) ndarray of float32
        (x0, y0, x1, y1) in frame px.
    valid : tuple of int
        (rows, cols) of the picture inside the frame; the box is clipped to it.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    (4,) ndarray of float32
        Box of at least one px in each direction.
    """
    if rng.random() < 0.25:
        return box
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = box + rng.uniform(-1, 1, 4) * np.minimum(0.1 * extent, 20)
    rows, cols = valid
    moved = np.clip(moved, 0, [cols, rows, cols, rows]).astype(np.float32)
    if moved[2] - moved[0] < 1 or moved[3] - moved[1] < 1:
        return box
    return cast("NDArray[np.float32]", moved)


def training_window(
    box: NDArray[np.int64],
    shape: tuple[int, int],
    frame: int,
    rng: np.random.Generator,
    *,
    whole: bool,
) -> tuple[int, int, int, int]:
    """Choose a window for one object at a random scale.

    Parameters
    ----------
    box : (4,) ndarray of int
        (row_min, col_min, row_max, col_max) of the object.
    shape : tuple of int
        (rows, cols) of the image.
    frame : int
        Frame in px; no window is shorter than a sixth of it (unless the image is).
    rng : numpy.random.Generator
        Source of all choices.
    whole : bool
        The object is a whole class, which a window may cut anywhere.

    Returns
    -------
    tuple of int
        (row_min, col_min, row_max, col_max) inside the image.
    """
    long = float(max(box[2] - box[0], box[3] - box[1]))
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    least, most = frame / 6, float(max(shape))
    choice = rng.random()
    if choice < 0.1 or (whole and choice < 0.4):
        return 0, 0, shape[0], shape[1]
    if whole or choice < 0.18:
        # Cut: somewhere around a point of the box, shorter than the object.
        side = max(least, long * rng.uniform(0.35, 1.0))
        spot = (rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3]))
        return place_window((side, side), spot, shape)
    if choice < 0.28:
        low, high = 4.0, max(4.0, most / long)
    elif choice < 0.45:
        low, high = 1.2, 4.0
    else:
        # About what the predictor reads for a box (`predict.windows.choose_window`).
        low, high = 1.7, 2.9
    side = long * float(np.exp(rng.uniform(np.log(low), np.log(max(high, low)))))
    side = max(side, least)
    slack = [max(0.0, (side - extent) / 2) for extent in (box[2] - box[0], box[3] - box[1])]
    if choice >= 0.45 and rng.random() < 0.7:
        slack = [min(room, 0.1 * side) for room in slack]
    spot = (middle[0] + rng.uniform(-1, 1) * slack[0], middle[1] + rng.uniform(-1, 1) * slack[1])
    stretch = (side, side)
    if rng.random() < 0.15:
        stretch = (side, max(1.05 * float(box[3] - box[1]), side * rng.uniform(0.5, 1.0)))
    return place_window(stretch, spot, shape)


def predictor_window(
    box: NDArray[np.int64], shape: tuple[int, int], native: int = 1024
) -> tuple[int, int, int, int]:
    """Choose the window that the predictor reads for a box.

    All of a small image, else a square around the box.

    Parameters
    ----------
    box : (4,) ndarray of int
        (row_min, col_min, row_max, col_max).
    shape : tuple of int
        (rows, cols) of the image.
    native : int
        Long side up to which the image is read as a whole, and least side of the window, px.

    Returns
    -------
    tuple of int
        (row_min, col_min, row_max, col_max).
    """
    if max(shape) <= native:
        return 0, 0, shape[0], shape[1]
    side = max(1.5 * float(max(box[2] - box[0], box[3] - box[1])), float(native))
    return place_window((side, side), ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), shape)
