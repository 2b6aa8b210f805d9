"""Images of the sets: what `StoredImage` has, and classes as objects of several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import ndimage

from napari_pisam.images.mask_files import connected_parts
from napari_pisam.learn.store import SMALLEST_OBJECT, StoredImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.mask_files import MaskKind


@dataclass(frozen=True)
class SetImage(StoredImage):
    """One image of a set; its labels are instances or connected components.

    Attributes
    ----------
    kind : {"binary", "instances", "classes"}
    classes : (n + 1,) ndarray of int
        Class of each label (1 for binary masks and instances). The classes that have several
        components are among `ids` too, as negative numbers.
    thin_classes, coarse_classes : frozenset of int
        Which classes are thin lines, and which have outlines too coarse to measure.
    """

    kind: MaskKind
    classes: NDArray[np.int64]
    thin_classes: frozenset[int] = frozenset()
    coarse_classes: frozenset[int] = frozenset()

    def class_of(self, which: int) -> int:
        """Class of one entry of `ids`."""
        return -which if which < 0 else int(self.classes[which])

    def mask(self, which: int, rows: slice, cols: slice) -> NDArray[np.bool_]:
        """Return the mask of one entry of `ids` inside a window, (rows, cols) bool."""
        if which > 0:
            return super().mask(which, rows, cols)
        return cast("NDArray[np.bool_]", (self.classes == -which)[self.labels[rows, cols]])


def index_objects(
    source: str, name: str, kind: MaskKind, pixels: NDArray[np.uint8], mask: NDArray[Any]
) -> SetImage:
    """Find the objects of one mask.

    Parameters
    ----------
    source, name : str
        Set and stem.
    kind : {"binary", "instances", "classes"}
        How to read the mask.
    pixels : (H, W) or (H, W, 3) ndarray of uint8
        Picture.
    mask : (H, W) ndarray of int
        0 background.

    Returns
    -------
    SetImage
        With components of at least 30 px as objects and, unless these are instances, each class of
        several components as one more.
    """
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"{source}/{name}: the mask has shape {mask.shape}, the image {pixels.shape[:2]}"
        )
    values = mask > 0 if kind == "binary" else mask
    labels = mask.astype(np.int32) if kind == "instances" else connected_parts(values)
    classes = np.zeros(int(labels.max()) + 1, np.int64)
    classes[1:] = 1
    if kind == "classes":
        classes[labels.ravel()] = mask.ravel()
    areas = np.bincount(labels.ravel(), minlength=len(classes))
    boxes = np.zeros((len(classes), 4), np.int64)
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is not None:
            boxes[label] = place[0].start, place[1].start, place[0].stop, place[1].stop
    keep = np.flatnonzero(areas >= SMALLEST_OBJECT)
    keep = keep[keep > 0]
    rows = [(int(i), boxes[i], int(areas[i])) for i in keep]
    if kind != "instances":
        rows += _whole_classes(classes, boxes, areas)
    small = np.uint16 if len(classes) <= 65535 else np.uint32
    return SetImage(
        source,
        name,
        pixels,
        labels.astype(small),
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64).reshape(-1, 4),
        np.array([row[2] for row in rows], np.int64),
        kind,
        classes,
    )


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
