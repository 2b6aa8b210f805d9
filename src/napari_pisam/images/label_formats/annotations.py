"""What the label formats carry: labels, with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_pisam.images.label_files import label_dtype
from napari_pisam.images.label_places import object_places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Crops: TypeAlias = dict[int, tuple[tuple[int, int], "NDArray[np.bool_]"]]
"""Objects by label: the (row, col) of a crop in the image, and the crop."""

UNNAMED_CLASS = "object"
"""Class of the objects that have none, in formats that want one."""


@dataclass(frozen=True)
class LabelImage:
    """Labels of a picture.

    Attributes
    ----------
    labels : (H, W) ndarray of unsigned int
        0 background, else the object's number.
    classes : mapping of int to str
        Name of an object's class, where it has one.
    image_name : str
        File name of the picture; may be empty.
    pixel_size : (float, float)
        Height and width of a pixel, in `unit`.
    unit : str
        ``"pixel"``, or a unit of length, e.g. ``"um"``.
    measures : mapping of int to mapping of str to float
        What was measured of an object, by name with unit, for formats that hold it.
    colors : mapping of str to (int, int, int)
        Red, green and blue of classes, 0 to 255, for formats that hold them.
    """

    labels: NDArray[Any]
    classes: Mapping[int, str] = field(default_factory=dict)
    image_name: str = ""
    pixel_size: tuple[float, float] = (1.0, 1.0)
    unit: str = "pixel"
    measures: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    colors: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the labels.

        Raises
        ------
        ValueError
            If they are no flat image of non-negative integers.
        """
        labels = self.labels
        if labels.ndim != 2 or labels.dtype.kind not in "ui":
            raise ValueError(
                f"Labels have shape {labels.shape} and type {labels.dtype}; expected one plane "
                "(H, W) of integers. Write a stack plane by plane."
            )
        if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
            raise ValueError(f"The smallest label is {labels.min()}; expected 0 or more.")

    def objects(self) -> Iterator[tuple[int, tuple[int, int], NDArray[np.bool_]]]:
        """Iterate over the objects.

        Yields
        ------
        label : int
        origin : (int, int)
            (row, col) of the crop in the image.
        crop : (h, w) ndarray of bool
            The object in its bounding box.
        """
        for number, where in object_places(self.labels).items():
            crop = self.labels[where] == number
            yield number, (where[0].start, where[1].start), crop

    def class_of(self, label: int) -> str:
        """Name of an object's class, or that of objects without one."""
        return self.classes.get(label, UNNAMED_CLASS)

    def class_names(self) -> list[str]:
        """Names of the classes of the objects that are there, sorted."""
        return sorted({self.class_of(label) for label, _, _ in self.objects()})


def check_size(path: Path, size: tuple[int, ...], wanted: tuple[int, int] | None) -> None:
    """Check that labels are of the size of the picture that they are read for, if for one.

    Raises
    ------
    ValueError
        If not.
    """
    if wanted is not None and size != wanted:
        raise ValueError(
            f"{path} has {size[0]} x {size[1]} px, expected {wanted[0]} x {wanted[1]} as the "
            "picture. Choose the labels of this picture."
        )


def painted(objects: Crops, shape: tuple[int, int]) -> NDArray[Any]:
    """Paint objects into a label image; where they overlap the earlier one stays.

    Parameters
    ----------
    objects : dict of int to ((row, col), (h, w) ndarray of bool)
        Where each object's crop lies, and the crop.
    shape : (int, int)
        (H, W) of the image.

    Returns
    -------
    (H, W) ndarray of uint16 or uint32
    """
    labels = np.zeros(shape, dtype=label_dtype(max(objects, default=0)))
    for label, ((row, col), crop) in objects.items():
        part = labels[row : row + crop.shape[0], col : col + crop.shape[1]]
        part[crop[: part.shape[0], : part.shape[1]] & (part == 0)] = label
    return labels
