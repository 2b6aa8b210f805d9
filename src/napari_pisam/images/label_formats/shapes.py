"""The CSV file that napari writes of a Shapes layer: polygons, a row a corner.

It knows neither holes nor several parts, which are joined by bridges of no width, nor labels,
which follow from the order of the shapes.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.images.files import replacing
from napari_pisam.images.label_formats.annotations import LabelImage, painted
from napari_pisam.images.label_formats.outlines import filled, single_outline
from napari_pisam.images.label_formats.table import read_table_boxes
from napari_pisam.images.label_formats.text import given_shape, read_text

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("index", "shape-type", "vertex-index", "axis-0", "axis-1")
_AREAS = {"polygon", "rectangle"}


def write_shapes(path: Path, image: LabelImage) -> None:
    """Write one picture's objects as polygons."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for index, (_, origin, crop) in enumerate(image.objects()):
            corners = single_outline(crop, origin)
            writer.writerows(
                (index, "polygon", vertex, float(row), float(col))
                for vertex, (row, col) in enumerate(corners)
            )


def read_shapes(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read polygons and rectangles; labels are the shapes' numbers from 1 on.

    Parameters
    ----------
    path : Path
    shape : (int, int)
        (H, W) of the picture, which the file does not say.

    Raises
    ------
    ValueError
        If the shape is missing, or the file is not of flat polygons.
    """
    shape = given_shape(shape, path)
    if read_table_boxes(path) is not None:
        raise ValueError(
            f"{path} is a table of measures: it has boxes, and no pixels or outlines. Open it as "
            "boxes (in the dock), or give it to `napari-pisam segment` as --boxes."
        )
    corners: dict[int, list[tuple[float, float]]] = {}
    reader = csv.DictReader(io.StringIO(read_text(path)))
    if "axis-2" in (reader.fieldnames or ()):
        raise ValueError(f"{path} is of shapes in a stack; expected flat ones.")
    try:
        for row in reader:
            if row["shape-type"] not in _AREAS:
                raise ValueError(f"a shape is a {row['shape-type']}, expected a polygon")
            place = float(row["axis-0"]), float(row["axis-1"])
            corners.setdefault(int(float(row["index"])), []).append(place)
        rings = {index: np.array(ring, dtype=np.float64) for index, ring in corners.items()}
        if not all(np.isfinite(ring).all() for ring in rings.values()):
            raise ValueError("a corner is not finite")
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise ValueError(
            f"{path} is not a Shapes layer's file ({error}); expected the columns "
            f"{', '.join(_COLUMNS)}."
        ) from error
    objects = {
        number: filled([[rings[index]]], shape) for number, index in enumerate(sorted(rings), 1)
    }
    return LabelImage(painted(objects, shape))
