"""Pseudo-objects: regions of pictures that nobody labelled, as something to find by its box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import expand_labels, felzenszwalb

from recipes.tiny.rendering import log_uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Shares of the picture's area that a region may cover.
_AREAS = (0.004, 0.4)
# How far its mean colour is from that of a ring around it, in grey levels, at least.
_CONTRAST = 12.0


def regions(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int32]:
    """Label regions of a picture that look like one thing each.

    Segments of Felzenszwalb and Huttenlocher (2004) of a random coarseness, smoothed and filled;
    those that do not differ from what is around them are left out.

    Parameters
    ----------
    picture : (S, S, 3) ndarray of uint8
        RGB.
    rng : numpy.random.Generator
        Source of all choices.

    Returns
    -------
    (S, S) ndarray of int32
        0 where there is no region.
    """
    area = picture.shape[0] * picture.shape[1]
    segments = felzenszwalb(
        picture,
        scale=log_uniform(rng, 60, 1500) * picture.shape[0] / 256,
        sigma=rng.uniform(0.6, 1.6),
        min_size=int(_AREAS[0] * area),
    )
    segments = _without_rims(segments + 1)
    found = np.zeros(segments.shape, dtype=np.int32)
    for number, place in enumerate(ndimage.find_objects(segments), start=1):
        if place is None:
            continue
        rows, cols = (slice(max(0, s.start - 6), s.stop + 6) for s in place)
        own = ndimage.binary_fill_holes(segments[rows, cols] == number)
        own = ndimage.binary_opening(own, iterations=1)
        if not _AREAS[0] * area <= own.sum() <= _AREAS[1] * area:
            continue
        ring = ndimage.binary_dilation(own, iterations=5) & ~own
        colours = picture[rows, cols]
        if ring.any() and np.abs(colours[own].mean(0) - colours[ring].mean(0)).max() > _CONTRAST:
            found[rows, cols][own] = number
    return found


def _without_rims(segments: NDArray[np.int_]) -> NDArray[np.int_]:
    """Divide segments, 1 and up, that are nowhere 5 px wide between their neighbours.

    A blurred edge has colours of its own, and becomes a segment: half of it is the object's.
    """
    inner = ndimage.minimum_filter(segments, 5) == ndimage.maximum_filter(segments, 5)
    is_rim = ~np.isin(segments, np.unique(segments[inner]))
    if is_rim.all():
        return segments
    without = np.where(is_rim, 0, segments)
    result: NDArray[np.int_] = expand_labels(without, segments.size)  # type: ignore[no-untyped-call]
    return result
