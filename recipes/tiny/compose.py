"""Composites: cut-out objects pasted on textures or real images, with exact visible masks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from napari_pisam.learn.augment import smooth_noise
from recipes.tiny.synthetic import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SMALLEST = 30
"""Visible px below which a pasted object is not an object."""


@dataclass(frozen=True)
class Bank:
    """What images are made up from: cut-outs and textures, and families of generated images.

    Cut-outs and textures are kept as compressed bytes and decoded when used.

    Decoding a cut-out takes about a millisecond; all of them decoded would take a gigabyte.

    Attributes
    ----------
    cutouts : tuple of tuple of bytes
        RGBA files, one tuple per set.
    recolour : tuple of bool
        Per set: the objects are one flat fill, which must be replaced.
    textures : tuple of tuple of bytes
        RGB files, one tuple per set.
    kinds : tuple of str
        Families of generated images that may be drawn.
    """

    cutouts: tuple[tuple[bytes, ...], ...] = ()
    recolour: tuple[bool, ...] = ()
    textures: tuple[tuple[bytes, ...], ...] = ()
    kinds: tuple[str, ...] = KINDS


def load_bank(root: Path) -> Bank:
    """Read `root/cutouts/SET/*.webp|png` and `root/textures/SET/*.jpg|png|webp`.

    Parameters
    ----------
    root : Path
        Folder that holds `cutouts` and `textures`.

    Returns
    -------
    Bank
        The files' contents.

    Raises
    ------
    ValueError
        If either folder holds no picture.
    """
    cutouts = _read_sets(root / "cutouts", (".webp", ".png"))
    textures = _read_sets(root / "textures", (".jpg", ".jpeg", ".png", ".webp"))
    if not cutouts or not textures:
        raise ValueError(
            f"{root} holds {len(cutouts)} sets of cut-outs and {len(textures)} of textures;"
            " expected at least one of each, in cutouts/SET/*.webp and textures/SET/*.jpg"
        )
    recolour = tuple(_is_flat(files) for files in cutouts)
    return Bank(tuple(cutouts), recolour, tuple(textures))


def _read_sets(folder: Path, suffixes: tuple[str, ...]) -> list[tuple[bytes, ...]]:
    if not folder.is_dir():
        return []
    sets = []
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        names = sorted(path for path in child.iterdir() if path.suffix.lower() in suffixes)
        if names:
            sets.append(tuple(path.read_bytes() for path in names))
    return sets


def _is_flat(files: tuple[bytes, ...]) -> bool:
    """Whether the first few cut-outs all have one colour."""
    for data in files[:5]:
        pixels = np.asarray(_decode(data, "RGBA"))
        solid = pixels[pixels[..., 3] > 250][:, :3]
        if solid.size and solid.std(axis=0).max() > 4:
            return False
    return True


def _decode(data: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert(mode)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def texture(bank: Bank, size: int, rng: np.random.Generator) -> Image.Image:
    """Square RGB texture of `size` px: a random crop of one picture, or mirrored tiles of it."""
    # Sets weigh by the fourth root of their size, or 900 tiles would be all there is.
    weights = np.array([len(files) for files in bank.textures], dtype=float) ** 0.4
    files = bank.textures[int(rng.choice(len(weights), p=weights / weights.sum()))]
    data = files[int(rng.integers(0, len(files)))]
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (size, size))
        tile = picture.convert("RGB")
    short = min(tile.size)
    if short < 0.6 * size and rng.random() < 0.8:
        half = np.asarray(tile.crop((0, 0, short, short)))
        pair = np.concatenate([half, half[:, ::-1]], axis=1)
        block = np.concatenate([pair, pair[::-1]], axis=0)
        repeat = int(np.ceil(size * rng.uniform(1, 1.6) / block.shape[0]))
        tile = Image.fromarray(np.tile(block, (repeat, repeat, 1)))
        short = min(tile.size)
    side = short * _log_uniform(rng, 0.4, 1.0)
    left, top = rng.uniform(0, tile.width - side), rng.uniform(0, tile.height - side)
    return tile.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )


def _cutout(
    bank: Bank, side: float, rng: np.random.Generator, fills: list[Image.Image]
) -> Image.Image:
    """One object of about `side` px on its long side, scaled, turned and coloured at random."""
    which = int(rng.integers(0, len(bank.cutouts)))
    files = bank.cutouts[which]
    piece = _decode(files[int(rng.integers(0, len(files)))], "RGBA")
    scale = side / max(piece.size)
    squeeze = _log_uniform(rng, 0.7, 1.4) if rng.random() < 0.3 else 1.0
    shape = (
        max(4, round(piece.width * scale * min(squeeze, 1.0))),
        max(4, round(piece.height * scale / max(squeeze, 1.0))),
    )
    piece = piece.resize(shape, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.8:
        piece = piece.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR, expand=True)
    alpha = piece.getchannel("A")
    if bank.recolour[which] or rng.random() < 0.15:
        colour = _fill(piece.size, rng, fills)
    else:
        colour = piece.convert("RGB").convert("RGB", _jitter(rng))
    colour.putalpha(alpha)
    return colour


def _jitter(rng: np.random.Generator) -> tuple[float, ...]:
    """Saturation, contrast, brightness and, at times, swapped channels as one 3x4 matrix."""
    saturation = rng.uniform(0.0, 1.5)
    gain = rng.uniform(0.5, 1.3)
    matrix = gain * (saturation * np.eye(3) + (1 - saturation) / 3)
    if rng.random() < 0.25:
        matrix = matrix[rng.permutation(3)]
    offset = np.full((3, 1), 128 * (1 - gain) + rng.uniform(-40, 40))
    return tuple(np.hstack([matrix, offset]).ravel().tolist())


def _fill(
    shape: tuple[int, int], rng: np.random.Generator, fills: list[Image.Image]
) -> Image.Image:
    """Flat colour, shaded colour or texture for an object that has none worth keeping."""
    if fills and rng.random() < 0.6:
        source = fills[int(rng.integers(0, len(fills)))]
        side = min(source.size) * rng.uniform(0.3, 0.9)
        left = rng.uniform(0, source.width - side)
        top = rng.uniform(0, source.height - side)
        box = (left, top, left + side, top + side)
        filled = source.resize(shape, Image.Resampling.BILINEAR, box=box)
        return ImageEnhance.Brightness(filled).enhance(rng.uniform(0.5, 1.5))
    base = rng.uniform(0, 255, 3)
    if rng.random() < 0.4:
        return Image.new("RGB", shape, tuple(int(v) for v in base))
    shade = smooth_noise((24, 24), rng.uniform(1, 8), rng)[..., None] * rng.uniform(5, 40)
    small = Image.fromarray(np.clip(base + shade, 0, 255).astype(np.uint8))
    return small.resize(shape, Image.Resampling.BICUBIC)


def _paste(
    image: Image.Image,
    labels: NDArray[np.int32],
    piece: Image.Image,
    label: int,
    rng: np.random.Generator,
    *,
    shadow: bool,
) -> None:
    """Paste at a random place, at least 60 % of the object's extent inside the frame."""
    size = image.width
    corner = []
    for extent in piece.size:
        low, high = -0.4 * extent, size - 0.6 * extent
        if rng.random() < 0.85 and extent < size:
            low, high = 0.0, float(size - extent)
        corner.append(round(rng.uniform(min(low, high), max(low, high))))
    left, top = corner
    alpha = piece.getchannel("A")
    if shadow:
        offset = (left + int(rng.integers(-12, 13)), top + int(rng.integers(2, 16)))
        dark = alpha.filter(ImageFilter.BoxBlur(rng.uniform(2, 10)))
        depth = rng.uniform(0.2, 0.6)
        image.paste((0, 0, 0), offset, dark.point([int(v * depth) for v in range(256)]))
    image.paste(piece, (left, top), alpha)
    y0, y1 = max(0, top), min(size, top + piece.height)
    x0, x1 = max(0, left), min(size, left + piece.width)
    solid = np.asarray(alpha)[y0 - top : y1 - top, x0 - left : x1 - left] > 127
    labels[y0:y1, x0:x1][solid] = label


def composite(
    bank: Bank,
    size: int,
    rng: np.random.Generator,
    background: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Paste random cut-outs on a background.

    Parameters
    ----------
    bank : Bank
        Objects and textures.
    size : int
        Side of the square image in px.
    rng : numpy.random.Generator
        Source of all choices.
    background : (size, size, 3) ndarray of uint8, optional
        Picture to paste on; a random texture by default.

    Returns
    -------
    image : (size, size, 3) ndarray of uint8
        RGB picture.
    labels : (size, size) ndarray of int32
        Visible part (alpha above one half) of each object; objects with less than 30 visible px
        are background. At least one object is visible.
    """
    base = texture(bank, size, rng) if background is None else Image.fromarray(background)
    fills = [texture(bank, min(size, 256), rng)]
    if rng.random() < 0.1:
        fills.append(base.copy())
    shadows = rng.random() < 0.4
    crowd = rng.random() < 0.3
    for _ in range(4):
        image = base.convert("RGB")
        labels = np.zeros((size, size), np.int32)
        count = int(rng.integers(6, 18)) if crowd else int(rng.integers(1, 5))
        typical = _log_uniform(rng, 0.06, 0.22) if crowd else _log_uniform(rng, 0.15, 0.9)
        for label in range(1, count + 1):
            side = size * min(0.95, typical * rng.uniform(0.6, 1.4))
            piece = _cutout(bank, side, rng, fills)
            _paste(image, labels, piece, label, rng, shadow=shadows and rng.random() < 0.8)
        areas = np.bincount(labels.ravel())
        small = areas < _SMALLEST
        if small.any():
            labels[small[labels]] = 0
        if labels.any():
            break
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    return np.asarray(image, dtype=np.uint8), labels
