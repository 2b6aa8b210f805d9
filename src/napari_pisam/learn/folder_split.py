"""Which part of a user's images trains and which validates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.learn.folders import Later
from napari_pisam.learn.splits import split_images
from napari_pisam.learn.store import StoredImage, index_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.learn.folders import Piece


def split_images_or_regions(
    pieces: Sequence[Piece], fraction: float, seed: int
) -> tuple[list[StoredImage], list[StoredImage]]:
    """Split into training and validation: by image, or by region where there is one image.

    Parameters
    ----------
    pieces : sequence of Piece
    fraction : float
        Share of the images, or of the image, that validates.
    seed : int
        Another seed, another choice of images.

    Returns
    -------
    training, validation : list of StoredImage
        Neither is empty, and no pixel is in both.

    Raises
    ------
    ValueError
        If the only image cannot be divided so that both parts have an object.
    """
    names = sorted({piece.name for piece in pieces})
    if len(names) > 1:
        held = set(split_images(names, fraction, seed)[1])
        return (
            [piece.image for piece in pieces if piece.name not in held],
            [piece.image for piece in pieces if piece.name in held],
        )
    for axis in (0, 1) if _longer(pieces) == 0 else (1, 0):
        size = max(piece.region[2 + axis] for piece in pieces)
        for share in (1 - fraction, fraction, 0.7, 0.3, 0.5):
            first, second = _divide(pieces, axis, round(size * share))
            if first and second:
                return (first, second) if share >= 0.5 else (second, first)
    raise ValueError(
        f"{names[0]!r} is the only image with objects, and no straight cut leaves some on both "
        "sides. Add a second image: without validation nobody knows whether training helped."
    )


def _longer(pieces: Sequence[Piece]) -> int:
    height, width = (max(piece.region[2 + axis] for piece in pieces) for axis in (0, 1))
    return int(width > height)


def _divide(
    pieces: Sequence[Piece], axis: int, cut: int
) -> tuple[list[StoredImage], list[StoredImage]]:
    sides: tuple[list[StoredImage], list[StoredImage]] = ([], [])
    for piece in pieces:
        start, stop = piece.region[axis], piece.region[2 + axis]
        if stop <= cut or start >= cut:
            sides[int(start >= cut)].append(piece.image)
        elif not isinstance(piece.image.labels, Later):
            for side, part in zip(sides, _halves(piece.image, axis, cut - start), strict=True):
                if len(part.ids):
                    side.append(part)
        # A window of a large image that the cut goes through is in neither part.
    return sides


def _halves(item: StoredImage, axis: int, cut: int) -> tuple[StoredImage, StoredImage]:
    first, second = ((slice(None),) * axis + (part,) for part in (slice(0, cut), slice(cut, None)))
    # Back to what the file says: classes; or the labels themselves, which are the instances.
    numbers = item.labels if item.kind == "I" else item.classes[item.labels]
    a, b = (
        index_objects(item.source, item.name, item.kind, item.pixels[part], numbers[part])
        for part in (first, second)
    )
    return a, b
