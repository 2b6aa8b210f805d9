"""YOLO's segmentation text: a line an object, its class and its outline as shares of the picture.

Format: https://docs.ultralytics.com/datasets/segment/. It knows neither holes nor several parts,
which are joined by bridges of no width, nor labels, which are the lines' numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.images.files import write_text
from napari_pisam.images.label_formats.annotations import (
    UNNAMED_CLASS,
    Crops,
    LabelImage,
    painted,
)
from napari_pisam.images.label_formats.outlines import filled, single_outline
from napari_pisam.images.label_formats.text import given_shape, read_text

if TYPE_CHECKING:
    from pathlib import Path

CLASSES_FILE = "classes.txt"
"""Names of the classes, a line each, beside the label files."""


def write_yolo(path: Path, image: LabelImage) -> None:
    """Write one picture's objects; new classes are added to the ``classes.txt`` beside it."""
    names_file = path.with_name(CLASSES_FILE)
    names = _names(names_file)
    names += [name for name in image.class_names() if name not in names]
    size = np.array(image.labels.shape)
    lines = []
    for label, origin, crop in image.objects():
        corners = (single_outline(crop, origin) + 0.5) / size
        numbers = " ".join(f"{value:.7g}" for value in corners[:, ::-1].ravel())
        lines.append(f"{names.index(image.class_of(label))} {numbers}\n")
    write_text(path, "".join(lines))
    write_text(names_file, "".join(f"{name}\n" for name in names))


def _names(path: Path) -> list[str]:
    return read_text(path).splitlines() if path.is_file() else []


def read_yolo(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read one picture's objects.

    Parameters
    ----------
    path : Path
    shape : (int, int)
        (H, W) of the picture, which the file does not say.

    Raises
    ------
    ValueError
        If the shape is missing, or a line is not an outline.
    """
    shape = given_shape(shape, path)
    names = _names(path.with_name(CLASSES_FILE))
    objects: Crops = {}
    classes: dict[int, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            kind, *values = line.split()
            corners = np.array(values, dtype=np.float64).reshape(-1, 2)[:, ::-1]
            which = int(kind)
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number} is not a class and x y x y ... ({error})."
            ) from error
        if len(corners) < 3 or not np.isfinite(corners).all() or which < 0:
            raise ValueError(f"{path}, line {number} is not a class and at least three x y pairs.")
        label = len(objects) + 1
        objects[label] = filled([[corners * np.array(shape) - 0.5]], shape)
        classes[label] = names[which] if which < len(names) else str(which)
    named = {label: name for label, name in classes.items() if name != UNNAMED_CLASS}
    return LabelImage(painted(objects, shape), named)
