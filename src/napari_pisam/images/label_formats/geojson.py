"""GeoJSON as QuPath reads and writes it: pixels as coordinates, classes as classifications.

Format: RFC 7946; the properties are QuPath's (https://qupath.readthedocs.io, "Exporting
annotations").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import write_text
from napari_pisam.images.label_formats.annotations import LabelImage, painted
from napari_pisam.images.label_formats.outlines import filled, outlines, shape_around
from napari_pisam.images.label_formats.text import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Ring = NDArray[np.float64]


def write_geojson(path: Path, image: LabelImage) -> None:
    """Write one picture's objects as annotations; their names are the labels."""
    features = []
    for label, origin, crop in image.objects():
        offset = np.array(origin) + 0.5
        parts = [[_closed(ring + offset) for ring in part] for part in outlines(crop)]
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": parts[0]}
        if len(parts) > 1:
            geometry = {"type": "MultiPolygon", "coordinates": parts}
        properties: dict[str, Any] = {"objectType": "annotation", "name": str(label)}
        if label in image.classes:
            name = image.classes[label]
            properties["classification"] = {"name": name}
            if name in image.colors:
                properties["classification"]["color"] = list(image.colors[name])
        if label in image.measures:
            known = image.measures[label].items()
            # QuPath finds boxes itself.
            properties["measurements"] = {k: v for k, v in known if not k.startswith("bbox")}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    content = {"type": "FeatureCollection", "features": features}
    write_text(path, json.dumps(content))


def _closed(ring: Ring) -> list[list[float]]:
    # RFC 7946 wants the first corner again, and outer rings counter-clockwise with y upwards,
    # which they are if they run clockwise with y downwards seen from above.
    points = ring[:, ::-1].tolist()
    return [*points, points[0]]


def read_geojson(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read polygons.

    Parameters
    ----------
    path : Path
    shape : (int, int), optional
        (H, W) of the picture; by default just large enough for all polygons.

    Raises
    ------
    ValueError
        If the file holds no polygons.
    """
    content = read_json(path)
    try:
        features = content["features"] if content["type"] == "FeatureCollection" else [content]
        outlined = [_parts(feature["geometry"]) for feature in features]
        named = [feature.get("properties") or {} for feature in features]
        rings = [ring for parts in outlined for part in parts for ring in part]
        size = shape or shape_around(rings)
        numbers = _numbers(named)
        objects = {
            label: filled(parts, size) for label, parts in zip(numbers, outlined, strict=True)
        }
        classes = {label: _class(one) for label, one in zip(numbers, named, strict=True)}
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} is not GeoJSON with polygons ({error!s}).") from error
    return LabelImage(
        painted(objects, size),
        {label: name for label, name in classes.items() if name},
        colors=_colors(named),
    )


def _parts(geometry: dict[str, Any]) -> list[list[Ring]]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a feature is a {kind}, expected Polygon or MultiPolygon")
    parts = [coordinates] if kind == "Polygon" else coordinates
    found = []
    for part in parts:
        rings = [np.asarray(ring, dtype=np.float64) for ring in part]
        if any(
            ring.ndim != 2 or ring.shape[1] < 2 or not np.isfinite(ring).all() for ring in rings
        ):
            raise ValueError("a ring is not a list of finite [x, y]")
        found.append([ring[:, 1::-1] - 0.5 for ring in rings])
    return found


def _numbers(named: list[dict[str, Any]]) -> list[int]:
    """Labels from names that are numbers, all of them and different; else 1, 2, 3, ..."""
    names = [str(one.get("name", "")) for one in named]
    if all(name.isascii() and name.isdigit() and 0 < int(name) < 2**32 for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(named) + 1))


def _class(properties: dict[str, Any]) -> str:
    classification = properties.get("classification") or {}
    return str(classification.get("name") or "")


def _colors(named: list[dict[str, Any]]) -> dict[str, tuple[int, int, int]]:
    """Colours of classes, those that are [red, green, blue]."""
    colors = {}
    for one in named:
        given = (one.get("classification") or {}).get("color")
        if isinstance(given, list) and len(given) == 3:
            if all(isinstance(value, int) and 0 <= value <= 255 for value in given):
                colors[_class(one)] = (given[0], given[1], given[2])
    return colors
