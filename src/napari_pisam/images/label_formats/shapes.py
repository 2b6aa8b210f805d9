"""The CSV file that napari writes of a Shapes layer: polygons, a row a corner.

It knows neither holes nor several parts, which are joined by bridges of no width, nor labels,
which follow from the order of the shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.images.files import write_csv
from napari_pisam.images.label_formats.annotations import LabelImage, painted
from napari_pisam.images.label_formats.outlines import filled, single_outline
from napari_pisam.images.label_formats.table import read_table_boxes
from napari_pisam.images.label_formats.text import given_shape
from napari_pisam.images.layer_tables import read_layer_rows

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("index", "shape-type", "vertex-index", "axis-0", "axis-1")
_AREAS = {"polygon", "rectangle"}


def write_shapes(path: Path, image: LabelImage) -> None:
    """Write one picture's objects as polygons."""
    rows: list[tuple[object, ...]] = [_COLUMNS]
    for index, (_, origin, crop) in enumerate(image.objects()):
        corners = single_outline(crop, origin).tolist()
        rows += [(index, "polygon", vertex, *place) for vertex, place in enumerate(corners)]
    write_csv(path, rows)


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
    rows = read_layer_rows(path)
    corners: dict[int, list[tuple[float, ...]]] = {}
    for row in rows:
        kind = row.cells.get("shape-type")
        if kind not in _AREAS or "index" not in row.cells or len(row.place) > 2:
            raise ValueError(
                f"{row.where} is not of a flat polygon of a Shapes layer; expected the columns "
                f"{', '.join(_COLUMNS)}, and polygons or rectangles."
            )
        corners.setdefault(row.integer("index"), []).append(row.place)
    rings = {index: np.array(ring, dtype=np.float64) for index, ring in corners.items()}
    objects = {
        number: filled([[rings[index]]], shape) for number, index in enumerate(sorted(rings), 1)
    }
    return LabelImage(painted(objects, shape))
