"""What kind of picture an image looks like: a guess by simple statistics, for advice only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource

ImageKind: TypeAlias = Literal["tissue", "fluorescence", "electron", "photograph"]
"""Stained tissue in colour, bright things on a dark ground, EM-like grey, photographs in colour."""

_WINDOW = 96  # px
_WINDOWS = 3  # along each axis
_TILE = 8  # px
_COARSEST = 512  # px: a level of a pyramid that is smaller shows no texture
_COLOURED = 0.08


def guess_kind(source: ImageSource) -> ImageKind | None:
    """Guess what kind of picture an image is, from small windows of it.

    Parameters
    ----------
    source : ImageSource
        Of one level, nine windows of 96 x 96 px are read where it is in memory, else a single one
        of 288 x 288 px: a lazy array may compute a whole chunk for each.

    Returns
    -------
    ImageKind or None
        None where it may be anything: phase contrast, brightfield and X-rays among others.
    """
    windows = _sample(source)
    if source.is_rgb:
        limits = source.contrast_limits
        colours = [_as_unit(window, limits) for window in windows]
        if np.mean([np.ptp(one, axis=-1).mean() for one in colours]) > 0.02:
            return _kind_of_colours(colours)
    # Pictures of 8 bit have been through JPEG, which leaves traces in what was one value.
    smooth = 0.002 if source.dtype.itemsize == 1 else 1e-9
    return _kind_of_greys([window.mean(axis=-1) for window in windows], smooth)


def _sample(source: ImageSource) -> list[NDArray[np.float64]]:
    """Read up to nine windows, (h, w, C) each: from all over, or as one from the middle."""
    sizes = source.levels
    fine = [level for level, size in enumerate(sizes) if min(size) >= _COARSEST]
    level = fine[-1] if fine else 0
    if not source.is_in_memory:
        whole = _read(source, level, [_middle(size) for size in sizes[level]])
        strips = [whole[row : row + _WINDOW] for row in range(0, len(whole), _WINDOW)]
        return [
            strip[:, col : col + _WINDOW]
            for strip in strips
            for col in range(0, whole.shape[1], _WINDOW)
        ]
    rows, cols = (_all_over(size) for size in sizes[level])
    return [_read(source, level, [row, col]) for row in rows for col in cols]


def _middle(size: int) -> slice:
    start = max(0, (size - _WINDOWS * _WINDOW) // 2)
    return slice(start, min(start + _WINDOWS * _WINDOW, size))


def _all_over(size: int) -> list[slice]:
    starts = np.linspace(0, max(0, size - _WINDOW), _WINDOWS).astype(int).tolist()
    return [slice(start, min(start + _WINDOW, size)) for start in sorted(set(starts))]


def _read(source: ImageSource, level: int, window: list[slice]) -> NDArray[np.float64]:
    rows, cols = window
    return source.read((rows, cols), level).astype(np.float64)


def _as_unit(values: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = limits[..., 0], limits[..., 1]
    return np.clip(np.nan_to_num((values - low) / (high - low)), 0.0, 1.0)


def _kind_of_colours(windows: list[NDArray[np.float64]]) -> ImageKind | None:
    pixels = np.concatenate([window.reshape(-1, 3) for window in windows])
    top, bottom = pixels.max(axis=1), pixels.min(axis=1)
    is_coloured = top - bottom > _COLOURED
    coloured, share = pixels[is_coloured], float(is_coloured.mean())
    if share < 0.05:
        return None
    red, green, blue = coloured.T
    # Haematoxylin, eosin and PAS let everything pass but green.
    stained = float(((green <= red + 0.02) & (green <= blue + 0.02)).mean())
    is_purple = float(np.median(blue - green)) > 0.03
    brown = float(((red > green) & (green > blue)).mean())
    is_dark = float((top < 0.25).mean())
    if stained > 0.9 and is_purple and is_dark < 0.3:
        return "tissue"
    # Light passes through a section: the whiter, the less coloured; DAB is brown. Things of one
    # colour on white paper are like that too, but the paper is smooth.
    white = float(np.percentile(bottom, 95))
    falls = _correlation(bottom, top - bottom)
    _levels, tiles = _tiles([window.mean(axis=-1) for window in windows])
    rough = float((tiles > 0.02).mean())
    if white > 0.8 and falls < -0.8 and brown > 0.5 and rough > 0.8:
        return "tissue"
    bright = pixels[top > 0.25]
    purity = 0.0
    if len(bright):
        purity = float(np.median(np.ptp(bright, axis=1) / bright.max(axis=1)))
    if is_dark > 0.6 and purity > 0.7 and brown < 0.6:
        return "fluorescence"
    has_shadows = float(np.percentile(top, 5)) < 0.35
    # Round fields of view (the eye's ground, embryos) are black outside.
    is_field = is_dark > 0.55 or _correlation(top, top - bottom) > 0.9
    return "photograph" if share > 0.15 and has_shadows and not is_field else None


def _kind_of_greys(windows: list[NDArray[np.float64]], smooth: float) -> ImageKind | None:
    values = np.concatenate([window.ravel() for window in windows])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        low, high = values.min(), values.max()
    if high <= low:
        return None
    limits = np.array([low, high])
    shown = _as_unit(values, limits)
    median, upper = (float(value) for value in np.percentile(shown, (50, 75)))
    units = [_as_unit(window, limits) for window in windows]
    levels, rough = _tiles(units)
    if median < 0.12 and upper < 0.5:
        # A camera's dark ground has noise; what is cut out of its ground (ultrasound) has none.
        return "fluorescence" if float((rough < smooth).mean()) < 0.3 else None
    # Sections fill an electron micrograph with fine structure, evenly, and of middling greys.
    is_even = float(np.std([unit.mean() for unit in units])) < 0.12
    is_fine = float(np.percentile(rough, 10)) > 0.045 and 0.09 < float(np.median(rough)) < 0.2
    skew = float(((shown - shown.mean()) ** 3).mean() / max(shown.std(), 1e-9) ** 3)
    # Noise has no things in it that are as large as a tile.
    is_structured = float(levels.std()) > 0.6 * float(shown.std())
    is_middling = 0.3 < median < 0.75 and -0.9 < skew < 0.4
    return "electron" if is_even and is_fine and is_structured and is_middling else None


def _tiles(windows: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the mean and the standard deviation of every tile, two (n,) arrays."""
    levels, rough = [np.zeros(0)], [np.zeros(0)]
    for window in windows:
        # A picture smaller than a tile is one.
        height, width = (max(1, size // _TILE) for size in window.shape)
        cut = window[: height * _TILE, : width * _TILE]
        tiles = cut.reshape(height, cut.shape[0] // height, width, cut.shape[1] // width)
        levels.append(tiles.mean(axis=(1, 3)).ravel())
        rough.append(tiles.std(axis=(1, 3)).ravel())
    return np.concatenate(levels), np.concatenate(rough)


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
