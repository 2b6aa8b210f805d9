"""Pictures in memory with their objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.mask_files import MaskKind

Kind = Literal["B", "I", "S"]
"""What the numbers of a mask mean: binary, instances, classes."""

SMALLEST_OBJECT = 30
"""Smallest area of an object, in px of the stored image and of the frame."""


LETTERS: dict[MaskKind, Kind] = {"binary": "B", "instances": "I", "classes": "S"}
"""How a stored image writes what the numbers of its mask mean."""


@dataclass(frozen=True)
class StoredImage:
    """One decoded image with its objects.

    Attributes
    ----------
    source, name : str
        Name of the set and stem of the file.
    kind : {"B", "I", "S"}
        Binary, instance labels, class labels.
    pixels : (H, W) or (H, W, 3) ndarray of uint8
        Grey or RGB picture.
    labels : (H, W) ndarray of unsigned int
        0 background, otherwise an instance or a connected component.
    classes : (n + 1,) ndarray of int
        Class of each label (1 for binary masks and instances).
    ids : (m,) ndarray of int
        Labels with at least 30 px; then, as negative numbers, the classes of kinds B and S that
        have several components.
    boxes : (m, 4) ndarray of int
        (row_min, col_min, row_max, col_max) of each, maxima excluded.
    areas : (m,) ndarray of int
        Areas in px.
    thin_classes, coarse_classes : frozenset of int
        Which classes are thin lines, and which have outlines too coarse to measure.
    """

    source: str
    name: str
    kind: Kind
    pixels: NDArray[np.uint8]
    labels: NDArray[np.unsignedinteger]
    classes: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    thin_classes: frozenset[int] = frozenset()
    coarse_classes: frozenset[int] = frozenset()

    def class_of(self, which: int) -> int:
        """Class of one entry of `ids`."""
        return -which if which < 0 else int(self.classes[which])

    def mask(self, which: int, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Return the mask of one entry of `ids` inside a window, (rows, cols) bool."""
        window = self.labels[rows, cols]
        if which > 0:
            return cast("NDArray[np.bool_]", window == which)
        return cast("NDArray[np.bool_]", (self.classes == -which)[window])


def index_objects(
    source: str, name: str, kind: Kind, pixels: NDArray[np.uint8], mask: NDArray[Any]
) -> StoredImage:
    """Find the objects of one mask.

    Parameters
    ----------
    source, name : str
        Set and stem.
    kind : {"B", "I", "S"}
        How to read the mask.
    pixels : (H, W) or (H, W, 3) ndarray of uint8
        Picture.
    mask : (H, W) ndarray of int
        0 background.

    Returns
    -------
    StoredImage
        With components of at least 30 px as objects and, for kinds B and S, each class of several
        components as one more.
    """
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"{source}/{name}: the mask has shape {mask.shape}, the image {pixels.shape[:2]}"
        )
    labels, classes = _components(kind, mask)
    areas = np.bincount(labels.ravel(), minlength=len(classes))
    boxes = np.zeros((len(classes), 4), np.int64)
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is not None:
            boxes[label] = place[0].start, place[1].start, place[0].stop, place[1].stop
    keep = np.flatnonzero(areas >= SMALLEST_OBJECT)
    keep = keep[keep > 0]
    rows = [(int(i), boxes[i], int(areas[i])) for i in keep]
    if kind != "I":
        rows += _whole_classes(classes, boxes, areas)
    small = np.uint16 if len(classes) <= 65535 else np.uint32
    return StoredImage(
        source,
        name,
        kind,
        pixels,
        labels.astype(small),
        classes,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64).reshape(-1, 4),
        np.array([row[2] for row in rows], np.int64),
    )


def _components(kind: Kind, mask: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return numbers of the instances, or of a class's connected parts, and the class of each."""
    if kind == "I":
        labels = mask.astype(np.int32)
        classes = np.ones(int(labels.max()) + 1, np.int64)
        classes[0] = 0
        return labels, classes
    labels = np.zeros(mask.shape, np.int32)
    owners = [0]
    values = [1] if kind == "B" else [int(v) for v in np.unique(mask) if v > 0]
    for value in values:
        inside = mask > 0 if kind == "B" else mask == value
        parts, count = ndimage.label(inside, np.ones((3, 3)))
        labels[inside] = parts[inside] + len(owners) - 1
        owners += [value] * int(count)
    return labels, np.array(owners, np.int64)


def _whole_classes(
    classes: NDArray[np.int64], boxes: NDArray[np.int64], areas: NDArray[np.int64]
) -> list[tuple[int, NDArray[np.int64], int]]:
    """List each class of several parts as one more object, under a negative number."""
    rows = []
    for value in np.unique(classes[1:]):
        members = np.flatnonzero((classes == value) & (areas > 0))
        total = int(areas[members].sum())
        if len(members) > 1 and total >= SMALLEST_OBJECT:
            low, high = boxes[members, :2].min(0), boxes[members, 2:].max(0)
            rows.append((-int(value), np.concatenate([low, high]), total))
    return rows
