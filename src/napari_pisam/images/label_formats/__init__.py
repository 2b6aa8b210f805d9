"""Label images in the formats of other tools: one entry of `FORMATS` each, in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_pisam.images.label_formats.annotations import LabelImage
from napari_pisam.images.label_formats.coco import read_coco, write_coco
from napari_pisam.images.label_formats.geojson import read_geojson, write_geojson
from napari_pisam.images.label_formats.imagej import read_imagej, write_imagej
from napari_pisam.images.label_formats.ome_zarr import read_ome_zarr, write_ome_zarr
from napari_pisam.images.label_formats.raster import (
    read_picture,
    write_ome_tiff,
    write_png,
    write_tiff,
)
from napari_pisam.images.label_formats.shapes import read_shapes, write_shapes
from napari_pisam.images.label_formats.table import write_table
from napari_pisam.images.label_formats.yolo import read_yolo, write_yolo
from napari_pisam.images.ngff_labels import is_label_place
from napari_pisam.images.zarr_files import is_zarr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FORMATS", "LabelFormat", "LabelImage", "format_for", "read_labels"]


@dataclass(frozen=True)
class LabelFormat:
    """How labels are written and read in one format.

    Attributes
    ----------
    name : str
        What users type.
    title : str
        What it is, and for which tool.
    suffixes : tuple of str
        Endings of its files, lower case, the one that is written first.
    write : callable
        ``write(path, image)``: whole or not at all.
    read : callable, optional
        ``read(path, shape)`` with the picture's (H, W), or ``None`` where the file says it.
    loses : str
        What does not come back when a written file is read; empty if all does.
    has_measures : bool
        Whether it holds what was measured of the objects.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    write: Callable[[Path, LabelImage], None]
    read: Callable[[Path, tuple[int, int] | None], LabelImage] | None = None
    loses: str = ""
    has_measures: bool = False


_ENTRIES = (
    LabelFormat(
        "ome-tiff",
        "OME-TIFF, with the size of a pixel",
        (".ome.tif", ".ome.tiff"),
        write_ome_tiff,
        read_picture,
        "classes",
    ),
    LabelFormat(
        "tiff",
        "TIFF, with the size of a pixel, for ImageJ and anything else",
        (".tif", ".tiff"),
        write_tiff,
        read_picture,
        "classes",
    ),
    LabelFormat(
        "ome-zarr",
        "OME-Zarr (NGFF 0.5) with a pyramid, classes and colours",
        (".ome.zarr", ".zarr"),
        write_ome_zarr,
        read_ome_zarr,
    ),
    LabelFormat(
        "png",
        "PNG of 16 bits",
        (".png",),
        write_png,
        read_picture,
        "classes and the size of a pixel",
    ),
    LabelFormat(
        "coco",
        "COCO's JSON: polygons, run lengths where there are holes",
        (".json",),
        write_coco,
        read_coco,
        "the size of a pixel",
    ),
    LabelFormat(
        "geojson",
        "GeoJSON for QuPath",
        (".geojson",),
        write_geojson,
        read_geojson,
        "the size of a pixel",
        has_measures=True,
    ),
    LabelFormat(
        "imagej",
        "ROIs for ImageJ's ROI manager",
        (".zip", ".roi"),
        write_imagej,
        read_imagej,
        "the size of a pixel",
    ),
    LabelFormat(
        "yolo",
        "YOLO's segmentation text",
        (".txt",),
        write_yolo,
        read_yolo,
        "the labels' numbers (objects are counted) and the size of a pixel",
    ),
    LabelFormat(
        "shapes",
        "Polygons as napari's Shapes layer writes them",
        (".csv",),
        write_shapes,
        read_shapes,
        "the labels' numbers (objects are counted), classes and the size of a pixel",
    ),
    LabelFormat(
        "csv",
        "Table of classes and measures, a line an object",
        (".csv",),
        write_table,
        loses="pixels",
        has_measures=True,
    ),
)

FORMATS: dict[str, LabelFormat] = {entry.name: entry for entry in _ENTRIES}
"""The formats by name."""


def format_for(path: Path, name: str | None = None) -> LabelFormat:
    """Find a format by its name, else by a file's ending.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name is not None:
        if name not in FORMATS:
            raise ValueError(f"There is no format {name!r}. Choose one of: {', '.join(FORMATS)}.")
        return FORMATS[name]
    if is_label_place(path):
        return FORMATS["ome-zarr"]
    lowered = path.name.lower()
    for entry in _ENTRIES:
        if lowered.endswith(entry.suffixes):
            return entry
    endings = ", ".join(entry.suffixes[0] for entry in _ENTRIES)
    raise ValueError(f"{path.name} has none of the endings {endings}. Give one, or a format.")


def read_labels(
    path: Path, shape: tuple[int, int] | None = None, name: str | None = None
) -> LabelImage:
    """Read labels from a file of any format.

    Parameters
    ----------
    path : Path
    shape : (int, int), optional
        (H, W) of the picture that they are of; some formats do not say it.
    name : str, optional
        Of the format; by default the file's ending says it.

    Raises
    ------
    ValueError
        If there is no such file or format, or the file does not fit.
    """
    if not path.is_file() and not is_zarr(path):
        raise ValueError(f"There is no file {path}. Check the path.")
    entry = format_for(path, name)
    if entry.read is None:
        readable = ", ".join(one.name for one in _ENTRIES if one.read is not None)
        raise ValueError(f"{entry.name} is written only. What can be read: {readable}.")
    return entry.read(path, shape)
