"""OME-Zarr (NGFF 0.4 and 0.5): which images a folder holds, and their arrays, read by windows.

Anybody may have made the folder: what its arrays say is checked before zarr sees them, since some
of the codecs that zarr knows run code that is in the data.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.json_reader import Node, parse
from napari_pisam.images.pixel_size import PixelSize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".zarr"
_METADATA = ("zarr.json", ".zattrs", ".zarray", ".zgroup")
_MOST_JSON = 16 << 20
_LARGEST_CHUNK = 1 << 30
_FIRST_AXES = "TCZYX"
# Names in version 2 and, behind "numcodecs.", in version 3. "pickle" is not one of them.
_CODECS = frozenset(
    "blosc zlib gzip zstd lz4 bz2 lzma delta shuffle bitround packbits fixedscaleoffset crc32 "
    "crc32c adler32 bytes transpose sharding_indexed".split()
)
_NUMBERS = re.compile(r"[<>|]?(b1|[iuf][1248])|bool|u?int(8|16|32|64)|float(16|32|64)")


@dataclass(frozen=True)
class ZarrImage:
    """An image in a folder of arrays.

    Attributes
    ----------
    levels : list of zarr.Array
        The largest first.
    axes : str
        One letter each, as in `ImageFile`.
    pixel_size : PixelSize
    """

    levels: list[Any]
    axes: str
    pixel_size: PixelSize


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that zarr wrote, or one in it."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def zarr_folder(path: Path) -> Path:
    """Return the folder of which a file was chosen: dialogs that ask for files give no folders."""
    return path.parent if path.name in _METADATA else path


def images_in_zarr(path: Path) -> list[Path]:
    """Find the images of a folder: itself, the fields of a plate's wells, or several side by side.

    Raises
    ------
    ValueError
        If it holds none, or its metadata are damaged.
    """
    attributes = attributes_of(path)
    if attributes.get("multiscales") is not None:
        return [path]
    if (plate := attributes.get("plate")) is not None:
        wells = [_inside(path, well.at("path").text()) for well in plate.at("wells").items()]
        return [
            _inside(well, image.at("path").text())
            for well in wells
            for image in attributes_of(well).at("well").at("images").items()
        ]
    found: list[Path] = []
    if attributes.get("bioformats2raw.layout") is not None:
        while is_zarr(path / str(len(found))):
            found.append(path / str(len(found)))
    if not found:
        raise ValueError(
            "it holds no OME-Zarr image (no multiscales, plate or bioformats2raw.layout). Give "
            "the folder of the image"
        )
    return found


def open_zarr(path: Path) -> ZarrImage:
    """Open an image; nothing of it is read.

    Raises
    ------
    ValueError
        If it is none, its metadata are damaged, or zarr is not installed.
    """
    try:
        import zarr
    except ImportError:
        raise ValueError(
            "it is an OME-Zarr, and zarr is not installed. Run: pip install zarr"
        ) from None
    found = images_in_zarr(path)
    if found != [path]:
        raise ValueError(
            f"it holds {len(found)} images, expected one: {found[0].relative_to(path)} and others. "
            "Give the folder of one of them"
        )
    image = attributes_of(path).at("multiscales").items()[:1]
    if not image:
        raise ValueError("its list of multiscales is empty, expected an image")
    levels, scale = [], None
    for dataset in image[0].at("datasets").items():
        folder = _inside(path, dataset.at("path").text())
        version = _checked_array(folder)
        levels.append(zarr.open_array(folder, mode="r", zarr_format=version))
        scale = _scale(dataset) if scale is None else scale
    if not levels:
        raise ValueError("its list of datasets is empty, expected at least one array")
    axes, units = _axes(image[0], levels[0].ndim)
    return ZarrImage(levels, axes, _pixel_size(axes, scale or (), units))


# -- metadata ---------------------------------------------------------------------------------


def _read(path: Path) -> Node | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path.name} is larger than {_MOST_JSON >> 20} MiB")
    return parse(path.read_bytes(), path.name)


def attributes_of(folder: Path) -> Node:
    """Return OME's part of a group's attributes, of whichever version."""
    new = _read(folder / "zarr.json")
    if new is not None:
        attributes = new.get("attributes")
        ome = None if attributes is None else attributes.get("ome")
        return ome or attributes or Node({}, folder.name)
    return _read(folder / ".zattrs") or Node({}, folder.name)


def _inside(folder: Path, name: str) -> Path:
    """Return what is in a folder; it may not lead out of it."""
    path = folder / name
    with contextlib.suppress(OSError):
        is_inside = path.resolve().is_relative_to(folder.resolve())
        if is_inside and ".." not in path.relative_to(folder).parts and path.is_dir():
            return path
    raise ValueError(f"it says that a part of it is in {name!r}; expected a folder inside it")


def _checked_array(folder: Path) -> Literal[2, 3]:
    """Check what an array says of itself before it is opened; return zarr's version of it."""
    new, old = _read(folder / "zarr.json"), _read(folder / ".zarray")
    node = new or old
    if node is None:
        raise ValueError(f"its array {folder.name!r} is missing")
    if new is not None:
        dtype, codecs = node.at("data_type"), node.at("codecs").items()
        chunk = node.at("chunk_grid").at("configuration").at("chunk_shape")
        names = [name for codec in codecs for name in _names_of(codec)]
        if codecs and codecs[0].at("name").value == "sharding_indexed":
            chunk = codecs[0].at("configuration").at("chunk_shape")
    else:
        dtype, chunk = node.at("dtype"), node.at("chunks")
        filters = node.get("filters")
        codecs = [node.at("compressor"), *((filters and filters.optional(Node.items)) or ())]
        names = [one.at("id").text() for one in codecs if one.value is not None]
    if not isinstance(dtype.value, str) or not _NUMBERS.fullmatch(dtype.value):
        raise dtype.wrong("numbers")
    unknown = [name for name in names if name.removeprefix("numcodecs.") not in _CODECS]
    if unknown:
        raise ValueError(
            f"its array {folder.name!r} is compressed by the codec {unknown[0]!r}, which might run "
            "code that is in the file. Save it anew with blosc, zstd or gzip"
        )
    if math.prod(chunk.integers(1)) * 8 > _LARGEST_CHUNK:
        raise chunk.wrong(f"chunks of at most {_LARGEST_CHUNK >> 23} million values")
    node.at("shape").integers()
    return 2 if new is None else 3


def _names_of(codec: Node) -> Iterator[str]:
    yield codec.at("name").text()
    configuration = codec.get("configuration")
    for key in ("codecs", "index_codecs"):
        inner = None if configuration is None else configuration.get(key)
        for one in [] if inner is None else inner.items():
            yield from _names_of(one)


def _axes(image: Node, ndim: int) -> tuple[str, list[str]]:
    """Return the letters of the axes, and their units."""
    given = image.get("axes")
    if given is None:  # before 0.3
        return _FIRST_AXES[-ndim:], [""] * ndim
    items = given.items(ndim)
    names = [one if isinstance(one.value, str) else one.at("name") for one in items]
    letters = "".join(name.text()[:1].upper() or "Q" for name in names)
    if not letters.endswith("YX"):
        raise given.wrong("axes of which the last two are y and x")
    units = [one.get("unit") if isinstance(one.value, dict) else None for one in items]
    return letters, ["" if unit is None else unit.text() for unit in units]


def _scale(dataset: Node) -> tuple[float, ...] | None:
    transforms = dataset.get("coordinateTransformations")
    for one in [] if transforms is None else transforms.items():
        if one.at("type").value == "scale" and one.get("scale") is not None:
            return tuple(value.number() for value in one.at("scale").items())
    return None


def _pixel_size(axes: str, scale: tuple[float, ...], units: list[str]) -> PixelSize:
    known = len(scale) == len(axes) and all(np.isfinite(scale)) and min(scale, default=0) > 0
    return PixelSize(scale[-2:], tuple(units[-2:])) if known and all(units[-2:]) else PixelSize()
