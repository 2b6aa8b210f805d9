"""Random changes of one crop, fast enough for one core to feed the training loop.

Everything works on `uint8` crops through Pillow's integer kernels, because floating point passes
over a 512-px colour frame cost several milliseconds each. The noise comes out of a fixed table read
at a random offset for the same reason.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOISE_LENGTH = 1 << 21


@lru_cache(maxsize=1)
def noise_table() -> NDArray[np.float32]:
    """Return normal deviates, float32 of shape (2 ** 21,), the same in every process."""
    return np.random.default_rng(20240229).standard_normal(_NOISE_LENGTH, dtype=np.float32)


def white_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Read normal deviates from the fixed table at a random offset; the result is read-only.

    Parameters
    ----------
    shape : tuple of int
        Shape of the result.
    rng : numpy.random.Generator
        Chooses the offset.

    Returns
    -------
    ndarray of float32
        Values with mean 0 and standard deviation 1.
    """
    table = noise_table()
    count = int(np.prod(shape))
    if count >= table.size:
        return rng.standard_normal(shape, dtype=np.float32)
    start = int(rng.integers(0, table.size - count))
    return table[start : start + count].reshape(shape)


def smooth_noise(
    shape: tuple[int, int], cells: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a smooth random field: normal deviates on a coarse grid, bicubic in between.

    Parameters
    ----------
    shape : tuple of int
        (rows, cols) of the field.
    cells : float
        Grid cells along the longer side; more cells, finer structure.
    rng : numpy.random.Generator
        Source of the grid values.

    Returns
    -------
    (rows, cols) ndarray of float32
        Mean near 0, standard deviation near 0.7.
    """
    rows, cols = shape
    step = max(rows, cols) / max(cells, 1.0)
    grid = rng.standard_normal(
        (max(2, round(rows / step) + 1), max(2, round(cols / step) + 1)), dtype=np.float32
    )
    field = Image.fromarray(grid).resize((cols, rows), Image.Resampling.BICUBIC)
    return np.asarray(field, dtype=np.float32)


def _as_image(array: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array))


def _as_array(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)


def _rotate(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator, *, whole: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Rotate by any angle over a mirrored margin, so that no empty corners appear."""
    rows, cols = mask.shape
    pad = int(0.21 * max(rows, cols)) + 1
    if pad >= min(rows, cols):
        return image, mask
    angle = float(rng.uniform(-45, 45))
    box = (pad, pad, pad + cols, pad + rows)

    def turn(plane: NDArray[np.uint8]) -> Image.Image:
        return _as_image(plane).rotate(angle, Image.Resampling.BILINEAR).crop(box)

    around = ((pad, pad), (pad, pad))
    plane = mask.astype(np.uint8) * 255
    mirrored = _as_array(turn(np.pad(plane, around, mode="reflect"))) > 127
    if not whole:
        # A mirrored second copy of one object would be a false background (or a false object).
        single = _as_array(turn(np.pad(plane, around))) > 127
        if (single != mirrored).any() or single.sum() < 0.7 * mask.sum():
            return image, mask
    turned = turn(np.pad(image, (*around, (0, 0)), mode="reflect"))
    return _as_array(turned), mirrored


def augment_geometry(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    whole: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Flip, turn by 90 degrees, and in a fifth of the calls turn by any angle.

    Parameters
    ----------
    image : (rows, cols, 3) ndarray of uint8
        Picture.
    mask : (rows, cols) ndarray of bool
        Object.
    rng : numpy.random.Generator
        Source of all choices.
    whole : bool
        The mask is a whole class (a network), which may be mirrored at the border.

    Returns
    -------
    image, mask : ndarray
        Changed alike; rows and cols may be swapped.
    """
    if rng.random() < 0.2:
        image, mask = _rotate(image, mask, rng, whole=whole)
    turns = int(rng.integers(0, 4))
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def _tone_curve(rng: np.random.Generator, strength: float, level: float) -> NDArray[np.float64]:
    ramp = np.linspace(0.0, 1.0, 256)
    ramp = ramp ** float(np.exp(rng.normal(0, 0.35 * strength)))
    contrast = float(np.exp(rng.normal(0, 0.35 * strength)))
    # Contrast turns about the picture's own level: far from it, all would drown in black or white.
    pivot = level ** float(np.log(ramp[128]) / np.log(128 / 255)) + float(rng.uniform(-0.15, 0.15))
    curve = (ramp - pivot) * contrast + pivot + float(rng.normal(0, 0.08 * strength))
    return np.asarray(curve, dtype=np.float64)


def _tones(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Brightness, contrast, gamma and inversion as one look-up table per channel."""
    level = max(float(np.asarray(image.reduce(16)).mean()) / 255, 0.02)
    shared = _tone_curve(rng, strength, level)
    curves = [shared] * 3
    if rng.random() < 0.2:
        curves = [0.6 * shared + 0.4 * _tone_curve(rng, strength, level) for _ in range(3)]
    if rng.random() < 0.15:
        curves = [1.0 - curve for curve in curves]
    table = np.clip(np.concatenate(curves) * 255, 0, 255).astype(np.uint8)
    return image.point(table.tolist())


def _colours(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Grey (30 %), channel shuffle, hue and saturation as one 3x4 matrix."""
    if rng.random() < 0.3:
        weights = rng.dirichlet((1.0, 1.5, 1.0)) if rng.random() < 0.5 else (0.299, 0.587, 0.114)
        matrix = np.tile(np.asarray(weights, dtype=float), (3, 1))
    else:
        angle = rng.normal(0, 0.35 * strength)
        saturation = float(np.exp(rng.normal(0, 0.4 * strength)))
        grey = np.full((3, 3), 1 / 3)
        # Rotation about the grey axis (Rodrigues): hue changes, luminance roughly stays.
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        hue = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * grey
        matrix = grey + saturation * (hue - grey)
        if rng.random() < 0.15:
            matrix = matrix[rng.permutation(3)]
        if np.allclose(matrix, np.eye(3), atol=0.02):
            return image
    return image.convert("RGB", tuple(np.hstack([matrix, np.zeros((3, 1))]).ravel().tolist()))


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven illumination: multiply by a smooth field between a dark level and white."""
    cols, rows = image.size
    coarse = smooth_noise((24, 24), float(rng.uniform(1, 3)), rng)
    coarse = (coarse - coarse.min()) / max(float(np.ptp(coarse)), 1e-6)
    low = float(rng.uniform(0.3, 0.85))
    field = Image.fromarray(((low + (1 - low) * coarse) * 255).astype(np.uint8))
    field = field.resize((cols, rows), Image.Resampling.BICUBIC)
    return ImageChops.multiply(image, Image.merge("RGB", (field,) * 3))


def _grain(
    image: NDArray[np.uint8], rng: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    """Read-out or shot noise, grey or per channel."""
    channels = 3 if rng.random() < 0.5 else 1
    noise = white_noise((*image.shape[:2], channels), rng)
    sigma = float(np.exp(rng.uniform(np.log(2), np.log(24 * strength + 2))))
    if rng.random() < 0.5:
        levels = sigma * np.sqrt(np.arange(256) / 128.0)
        scaled = noise * levels.astype(np.float32)[image]
    else:
        scaled = noise * np.float32(sigma)
    return np.clip(image + scaled, 0, 255).astype(np.uint8)


def _coarser(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    cols, rows = image.size
    factor = float(rng.uniform(1.3, 3.5))
    small = (max(8, round(cols / factor)), max(8, round(rows / factor)))
    down = image.resize(small, Image.Resampling.BOX)
    ways = (
        Image.Resampling.NEAREST,
        Image.Resampling.BILINEAR,
        Image.Resampling.BILINEAR,
        Image.Resampling.BICUBIC,
    )
    return down.resize((cols, rows), ways[int(rng.integers(0, 4))])


def _compressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(20, 85)))
    return Image.open(buffer).convert("RGB")


def augment_appearance(
    image: NDArray[np.uint8], rng: np.random.Generator, strength: float = 1.0
) -> NDArray[np.uint8]:
    """Change tones, colours, light, sharpness and noise; the shape of things stays.

    Parameters
    ----------
    image : (rows, cols, 3) ndarray of uint8
        Picture.
    rng : numpy.random.Generator
        Source of all choices.
    strength : float
        1 for photographs, less for images that are randomised already; 0 returns the input.

    Returns
    -------
    (rows, cols, 3) ndarray of uint8
        A new picture of the same size.
    """
    if strength <= 0:
        return image
    picture = _as_image(image).convert("RGB")
    # Microscopes leave most of the range empty, and viewers stretch what they show.
    dim = max(high for _, high in cast("list[tuple[int, int]]", picture.reduce(8).getextrema()))
    if rng.random() < (0.6 if dim < 90 else 0.15) * strength:
        picture = ImageOps.autocontrast(picture, float(rng.uniform(0, 1)), preserve_tone=True)
    if rng.random() < 0.8 * strength:
        picture = _colours(picture, rng, strength)
    if rng.random() < 0.8 * strength:
        picture = _tones(picture, rng, strength)
    if rng.random() < 0.2 * strength:
        picture = _light(picture, rng)
    picture = _sharpness(picture, rng, strength)
    result = _as_array(picture)
    if rng.random() < 0.3 * strength:
        result = _grain(result, rng, strength)
    if rng.random() < 0.12 * strength:
        result = _as_array(_compressed(_as_image(result), rng))
    return result


def _sharpness(picture: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    if rng.random() < 0.1 * strength:
        mask = ImageFilter.UnsharpMask(float(rng.uniform(8, 50)), int(rng.integers(50, 200)), 0)
        picture = picture.filter(mask)
    softness = rng.random()
    if softness < 0.12 * strength:
        sigma = float(np.exp(rng.uniform(np.log(0.5), np.log(2.5))))
        picture = picture.filter(ImageFilter.GaussianBlur(sigma))
    elif softness < 0.22 * strength:
        picture = _coarser(picture, rng)
    return picture
