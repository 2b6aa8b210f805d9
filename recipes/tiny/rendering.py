"""The look of generated images: levels, textures, halos, blur, uneven light, noise.

Only the pictures that ship inside scikit-image's wheel are read as textures; nothing is ever
downloaded.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from napari_pisam.learn.augment import smooth_noise, white_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Labels = NDArray[np.int32]
    Plane = NDArray[np.float32]

_PICTURES = (
    "astronaut.png brick.png camera.png cell.png chelsea.png coffee.png coins.png grass.png"
    " gravel.png hubble_deep_field.jpg ihc.png microaneurysms.png moon.png motorcycle_left.png"
    " page.png retina.jpg rocket.jpg text.png clock_motion.png"
).split()


@lru_cache(maxsize=1)
def bundled_pictures() -> tuple[Image.Image, ...]:
    """Read the pictures inside the scikit-image wheel, at most 512 px; skip missing ones."""
    folder = files("skimage") / "data"
    found = []
    for name in _PICTURES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as stream, Image.open(stream) as picture:
                loaded = picture.convert("RGB")
            loaded.thumbnail((512, 512), Image.Resampling.BOX)
            found.append(loaded)
    return tuple(found)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of `low` and `high`, both above 0."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _texture(
    size: int, rng: np.random.Generator, *, rich: bool
) -> tuple[Plane, NDArray[np.uint8] | None]:
    """Draw a grey texture (mean 0, amplitude near 1) and the picture it came from, if any."""
    choice = rng.random()
    pictures = bundled_pictures()
    if choice < (0.55 if rich else 0.2) and pictures:
        picture = pictures[int(rng.integers(0, len(pictures)))]
        side = min(picture.size) * log_uniform(rng, 0.15, 1.0)
        left = rng.uniform(0, picture.width - side)
        top = rng.uniform(0, picture.height - side)
        box = (left, top, left + side, top + side)
        crop = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
        grey = np.asarray(crop.convert("L"), dtype=np.float32)
        spread = max(float(grey[::8, ::8].std()), 4.0)
        plane = (grey - float(grey[::8, ::8].mean())) / np.float32(2 * spread)
        return plane, np.asarray(crop, dtype=np.uint8)
    if choice < 0.7:
        return smooth_noise((size, size), log_uniform(rng, 2, size / 4), rng), None
    plane = smooth_noise((size, size), log_uniform(rng, 2, 6), rng)
    for octave in range(1, 4):
        plane = plane + 0.6**octave * smooth_noise((size, size), 8 * 3.0**octave, rng)
    return plane.astype(np.float32), None


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Grey level to colour, (256, 3): dark tone, random middle, light tone."""
    dark, light = rng.uniform(0, 110, 3), rng.uniform(130, 255, 3)
    middle = rng.uniform(40, 220, 3)
    knots = np.array([0, 128, 255])
    stack = np.stack([dark, middle, light])
    columns = [np.interp(np.arange(256), knots, stack[:, c]) for c in range(3)]
    return np.stack(columns, axis=1).astype(np.uint8)


def _soft(plane: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur; a wide blur is computed on a smaller picture, where it costs a tenth."""
    picture = Image.fromarray(plane)
    if sigma < 1:
        blurred = picture.filter(ImageFilter.BoxBlur(sigma))
    elif sigma < 5:
        blurred = picture.filter(ImageFilter.GaussianBlur(sigma))
    else:
        small = picture.reduce(4).filter(ImageFilter.GaussianBlur(sigma / 4))
        blurred = small.resize(picture.size, Image.Resampling.BILINEAR)
    return np.asarray(blurred, dtype=np.uint8)


def _to_bytes(plane: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(plane, 0, 255).astype(np.uint8))


def _within_range(back: Plane, fore: Plane, labels: Labels) -> tuple[Plane, Plane]:
    """Squeeze levels into 0 to 255, so that saturation seldom hides an object."""
    coarse = (slice(None, None, 4),) * 2
    seen = np.where(labels[coarse] > 0, fore[coarse], back[coarse])
    low, high = np.percentile(seen, (2, 98))
    if low >= 0 and high <= 255:
        return back, fore
    bottom, top = max(0.0, float(low)), min(255.0, float(high))
    if top - bottom < 60:
        bottom, top = (0.0, 60.0) if bottom < 128 else (195.0, 255.0)
    scale = np.float32((top - bottom) / max(float(high - low), 1.0))
    offset = np.float32(bottom - low * scale)
    return back * scale + offset, fore * scale + offset


def _recorded(
    image: Image.Image, rng: np.random.Generator, strength: float, *, thin: bool
) -> NDArray[np.uint8]:
    """Add what the instrument does: defocus, uneven light, stripes, noise."""
    size = image.width
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(log_uniform(rng, 0.4, 1.3 if thin else 3.0)))
    pixels = np.asarray(image)
    shape = (size, size) if pixels.ndim == 2 else (size, size, 1)
    gain: Plane | None = None
    if rng.random() < 0.3:
        field = smooth_noise((size, size), rng.uniform(1, 3), rng)
        gain = np.float32(1) + field * np.float32(rng.uniform(0.05, 0.35))
    if rng.random() < 0.08:
        stripes = (
            white_noise((size,), rng)
            if rng.random() < 0.5
            else np.sin(np.arange(size) * 2 * np.pi / rng.uniform(3, 60) + rng.uniform(0, 6))
        )
        bands = (1 + stripes * rng.uniform(0.01, 0.12)).astype(np.float32)
        across = bands[:, None] if rng.random() < 0.5 else bands[None, :]
        gain = np.broadcast_to(across, (size, size)) if gain is None else gain * across
    noise: NDArray[np.float32] | None = None
    if rng.random() < 0.65:
        channels = () if pixels.ndim == 2 else ((3,) if rng.random() < 0.5 else (1,))
        sigma = np.float32(strength * log_uniform(rng, 0.02, 0.45))
        noise = white_noise((size, size, *channels), rng) * sigma
        if rng.random() < 0.4:
            noise = noise * np.sqrt(np.arange(256) / 128).astype(np.float32)[pixels]
    if gain is None and noise is None:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    result = pixels.astype(np.float32)
    if gain is not None:
        result *= gain.reshape(shape)
    if noise is not None:
        result += noise
    return _to_bytes(result)


def render(
    labels: Labels,
    rng: np.random.Generator,
    *,
    distractors: Sequence[Callable[[int, np.random.Generator], Labels]],
    rich: bool = False,
    thin: bool = False,
) -> NDArray[np.uint8]:
    """Render labels with a look that says nothing about their shapes.

    Parameters
    ----------
    labels : (size, size) ndarray of int32
        0 background, one positive number per object.
    rng : numpy.random.Generator
        Source of all choices.
    distractors : sequence of callable
        Draw labels from a size in px and a generator; now and then one of them shows faintly in the
        background.
    rich : bool
        Always textured, most often by pictures; else in a quarter of the calls.
    thin : bool
        The objects are so thin that strong blur, or an outline alone, would hide them.

    Returns
    -------
    (size, size) or (size, size, 3) ndarray of uint8
        Grey or RGB picture.
    """
    size = labels.shape[0]
    inside = (labels > 0).astype(np.uint8) * 255
    rich = rich or rng.random() < 0.25
    contrast = log_uniform(rng, 30 if thin else 14, 200) * rng.choice([-1.0, 1.0])
    middle = rng.uniform(min(abs(contrast) / 2, 100), 255 - min(abs(contrast) / 2, 100))
    back_level, fore_level = middle - contrast / 2, middle + contrast / 2
    strength = abs(contrast)

    back_texture, back_picture = _texture(size, rng, rich=rich)
    back = back_level + back_texture * np.float32(rng.uniform(0, 0.45) * (strength + 20 * rich))
    if rng.random() < 0.15:
        other = distractors[int(rng.integers(0, len(distractors)))](size, rng) > 0
        back = back + other * np.float32(rng.uniform(-0.4, 0.4) * strength)

    spread = rng.uniform(0, 0.3) * strength
    levels = fore_level + rng.normal(0, spread, int(labels.max()) + 1).astype(np.float32)
    fore_picture = None
    if rng.random() < 0.6 or rich:
        fore_texture, fore_picture = _texture(size, rng, rich=rich)
        fore = fore_texture * np.float32(rng.uniform(0, 0.45) * (strength + 20 * rich))
        fore += levels[labels]
    else:
        fore = levels[labels]

    mode = rng.random()
    if mode < 0.3:
        # Dome, rim or phase halo: what a wide blur of the mask adds inside and outside.
        wide = _soft(inside, log_uniform(rng, 1.5, 0.03 * size + 2)).astype(np.float32) / 255
        fore += (wide - 0.75) * np.float32(rng.uniform(-1.2, 1.2) * strength)
        if mode < 0.15:
            back += wide * np.float32(rng.uniform(-0.8, 0.8) * strength)
    elif mode < 0.4 and not thin:
        # Only the outline shows: membrane stains, phase contrast, drawings.
        line = ndimage.minimum_filter(labels, 3) != ndimage.maximum_filter(labels, 3)
        edge = _soft(line.astype(np.uint8) * 255, rng.uniform(0.5, 2)).astype(np.float32)
        weight = edge / max(float(edge.max()), 1.0)
        keep = np.float32(rng.uniform(0, 0.25))
        back = back + weight * np.float32(fore_level - back_level)
        fore = keep * fore + (1 - keep) * back

    if rng.random() < 0.8:
        back, fore = _within_range(back, fore, labels)
    alpha = Image.fromarray(_soft(inside, rng.uniform(0.3, 0.8)))
    colour = rng.random() < 0.5
    planes = []
    for plane, picture in ((back, back_picture), (fore, fore_picture)):
        grey = _to_bytes(plane)
        if not colour:
            planes.append(Image.fromarray(grey))
        elif picture is not None and rng.random() < 0.6:
            planes.append(Image.fromarray(picture))
        else:
            planes.append(Image.fromarray(_ramp(rng)[grey]))
    image = Image.composite(planes[1], planes[0], alpha)
    return _recorded(image, rng, strength, thin=thin)
