"""Labels as OME-Zarr (NGFF 0.5): written by windows, with a pyramid, colours and the pixel size.

While they are edited labels have one level, for a pyramid would have to follow every stroke;
`finish_labels` makes the others. Only chunks in which something was written are on disk.
"""

from __future__ import annotations

import colorsys
import contextlib
import itertools
import math
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import LABEL_TILE
from napari_pisam.images.label_files import label_dtype, label_tiles
from napari_pisam.images.pixel_size import unit_written
from napari_pisam.images.zarr_files import SUFFIX, attributes_of, is_zarr, open_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.crops import CroppedMask
    from napari_pisam.images.label_files import Overlap

VERSION = "0.5"
_GROUP = "labels"
_LAST_LEVEL = 1024
# The table is for people to tell objects apart; beyond this it would be longer than the labels.
_MOST_COLORS = 10_000
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


# -- where labels may be ----------------------------------------------------------------------


def is_label_place(path: Path) -> bool:
    """Whether labels that are written to a path become OME-Zarr: its ending or its folder says."""
    inside_image = path.parent.name == _GROUP and is_zarr(path.parent.parent)
    return path.suffix.lower() == SUFFIX or inside_image


def is_label_group(path: Path) -> bool:
    """Whether a folder holds labels as OME-Zarr."""
    with contextlib.suppress(ValueError):
        return is_zarr(path) and attributes_of(path).get("image-label") is not None
    return False


def check_label_place(path: Path) -> None:
    """Find out before the work what would go wrong after it.

    Raises
    ------
    ValueError
        If labels cannot be written to a path: it is on the network or read-only, a picture is
        there, or it is a place in an OME-Zarr where no labels may be.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path), re.IGNORECASE):
        raise ValueError(
            f"{path} is an address on the network: it can be the image, but labels are written "
            "on this computer. Give a folder here."
        )
    if path.exists() and not is_label_group(path):
        raise ValueError(
            f"{path} is there already and holds no labels, so it is not replaced. For labels of "
            f"an OME-Zarr image give a name in it, for example {path / _GROUP / 'cells'}."
        )
    image = _image_around(path)
    if image is not None and not (image / "zarr.json").is_file():
        raise ValueError(
            f"{image} is OME-Zarr of version 0.4 or before, and labels are written as {VERSION}: "
            "one folder cannot be both. Give the labels a folder of their own, ending in .zarr."
        )
    if image is not None and path.absolute().parent != image / _GROUP:
        raise ValueError(
            f"{path} is inside of the OME-Zarr {image}, where labels have their place. Expected "
            f"{image / _GROUP / path.name}."
        )
    folder = path.absolute().parent
    if image is not None and not folder.exists():
        folder = image
    if not folder.is_dir():
        raise ValueError(f"The folder {folder} does not exist. Make it, or write elsewhere.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ValueError(
            f"{path} cannot be written: {'it' if path.exists() else folder} is read-only. It can "
            "be read; write the labels elsewhere."
        )


def _image_around(path: Path) -> Path | None:
    """Return the OME-Zarr image that a path is inside of."""
    for folder in path.absolute().parents:
        if is_zarr(folder) and folder.name != _GROUP:
            return folder
    return None


# -- to be edited -----------------------------------------------------------------------------


def new_labels(
    path: Path,
    shape: Sequence[int],
    dtype: Any = np.uint16,
    *,
    axes: str = "",
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
) -> Any:
    """Make labels that are all background; nothing but metadata is written.

    Parameters
    ----------
    path : Path
        A new folder that ends in .zarr, or ``IMAGE.zarr/labels/NAME``.
    shape : sequence of int
        (..., H, W) px.
    dtype : dtype
        An integer type.
    axes : str, optional
        A letter each; the last two are rows and columns.
    scale, units : sequence, optional
        Size of a pixel along each axis, and the unit's name.

    Returns
    -------
    zarr.Array
        Read and written by windows.

    Raises
    ------
    ValueError
        If labels cannot be there; see `check_label_place`.
    """
    check_label_place(path)
    if path.exists():
        raise ValueError(f"{path} is there already. Open it, or give another name.")
    array = _make(path, shape, dtype, axes, scale, units)
    _enter(path)
    return array


def open_labels(path: Path) -> Any:
    """Open labels to be edited: the largest level, read and written by windows.

    Raises
    ------
    ValueError
        If there are none, they are damaged, or read-only.
    """
    import zarr

    check_label_place(path)
    if not is_label_group(path):
        raise ValueError(f"{path} holds no labels as OME-Zarr (no image-label). Check the path.")
    first = _opened(path).levels[0]
    if np.dtype(first.dtype).kind not in "iu":
        raise ValueError(f"{path} holds {first.dtype}, expected labels: whole numbers.")
    return zarr.open_array(Path(first.store.root) / first.path, mode="r+")


def finish_labels(
    path: Path,
    classes: Mapping[int, str] | None = None,
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Make the pyramid and the table of colours of labels that were edited.

    Only chunks that were written are read.

    Parameters
    ----------
    path : Path
    classes : mapping of int to str, optional
        Name of an object's class.
    colors : mapping of str to (int, int, int), optional
        Red, green and blue of classes; other objects get colours of their own.

    Raises
    ------
    ValueError
        If there are none, they are damaged, or read-only.
    """
    import zarr

    array = open_labels(path)
    group: Any = zarr.open_group(path, mode="r+", zarr_format=3)
    numbers: set[int] = set()
    for part in parts_to_read(array):
        numbers.update(np.unique(array[part]).tolist())
    ome = dict(group.attrs["ome"])
    image, label = dict(ome["multiscales"][0]), dict(ome["image-label"])
    datasets = image["datasets"][:1]
    try:
        base = np.array(datasets[0]["coordinateTransformations"][0]["scale"], dtype=np.float64)
    except (LookupError, TypeError, ValueError):
        base = np.ones(array.ndim)
    above, level = array, 0
    while max(above.shape[-2:]) > _LAST_LEVEL:
        level += 1
        above = _half(group, f"half-{level}", above)
        scale = base * [*[1] * (base.size - 2), 2**level, 2**level]
        transforms = [{"type": "scale", "scale": scale.tolist()}]
        datasets.append({"path": f"half-{level}", "coordinateTransformations": transforms})
    image |= {"datasets": datasets, "type": "nearest"}
    label |= _table(numbers - {0}, classes or {}, colors or {})
    group.attrs["ome"] = ome | {"multiscales": [image], "image-label": label}


def written_parts(array: Any) -> list[tuple[slice, ...]] | None:
    """List the parts of labels in which something was written; the rest is background.

    Returns
    -------
    list of tuple of slice, or None
        None for an array of which that is not known: other than one chunk a file here, or
        background other than 0.
    """
    # Labels that are mirrored in memory know where they are on disk.
    array = getattr(array, "on_disk", array)
    root = getattr(getattr(array, "store", None), "root", None)
    metadata = getattr(array, "metadata", None)
    key = getattr(metadata, "chunk_key_encoding", None)
    if root is None or getattr(key, "separator", "") != "/" or array.fill_value != 0:
        return None
    if getattr(array, "shards", None) is not None:
        return None
    folder, ndim = Path(root) / array.path / "c", len(array.shape)
    return sorted(
        (
            tuple(
                slice(place * step, min((place + 1) * step, size))
                for place, step, size in zip(places, array.chunks, array.shape, strict=True)
            )
            for places in _indices(folder, ndim)
            if all(p * c < n for p, c, n in zip(places, array.chunks, array.shape, strict=True))
        ),
        key=lambda part: [one.start for one in part],
    )


def parts_to_read(array: Any) -> list[tuple[slice, ...]]:
    """List the parts that may hold something; all where it is not known."""
    found = written_parts(array)
    if found is not None:
        return found
    axes = [
        [slice(low, min(low + step, size)) for low in range(0, size, step)]
        for step, size in zip(array.chunks, array.shape, strict=True)
    ]
    return list(itertools.product(*axes))


def _indices(folder: Path, ndim: int) -> Iterator[tuple[int, ...]]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.isdecimal()]
    for name in names:
        if ndim == 1:
            yield (int(name),)
        else:
            for rest in _indices(folder / name, ndim - 1):
                yield int(name), *rest


# -- as a whole -------------------------------------------------------------------------------


def write_label_zarr(
    path: Path,
    planes: Mapping[tuple[int, ...], Mapping[int, CroppedMask]],
    shape: Sequence[int],
    overlap: Overlap = "keep",
    *,
    axes: str = "",
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
) -> None:
    """Write masks; the folder is there whole or not at all, and labels that are there go.

    Parameters
    ----------
    path : Path
        See `new_labels`.
    planes : mapping of tuple of int to mapping of int to CroppedMask
        Masks by label, by the index of their plane; the others are empty.
    shape : sequence of int
        (..., H, W) of the image, px.
    overlap
        See `label_tiles`.
    axes, scale, units
        See `new_labels`.

    Raises
    ------
    ValueError
        If labels cannot be there; see `check_label_place`.
    """
    height, width = shape[-2:]
    dtype = label_dtype(max((label for masks in planes.values() for label in masks), default=0))
    with replacing_labels(path) as part:
        array = _make(part, shape, dtype, axes, scale, units, path)
        places = list(itertools.product(range(0, height, LABEL_TILE), range(0, width, LABEL_TILE)))
        for index, masks in planes.items():
            tiles = label_tiles(masks, (height, width), overlap, dtype)
            for (row, col), tile in zip(places, tiles, strict=True):
                if tile.any():
                    down, across = min(LABEL_TILE, height - row), min(LABEL_TILE, width - col)
                    window = slice(row, row + down), slice(col, col + across)
                    array[(*index, *window)] = tile[:down, :across]
        finish_labels(part)


def write_label_array_zarr(
    path: Path,
    labels: NDArray[Any],
    scale: Sequence[float] = (),
    units: Sequence[str] = (),
    classes: Mapping[int, str] | None = None,
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Write (..., H, W) labels as `write_label_zarr` does, with classes as `finish_labels`."""
    with replacing_labels(path) as part:
        array = _make(part, labels.shape, labels.dtype, "", scale, units, path)
        array[...] = labels
        finish_labels(part, classes, colors)


@contextlib.contextmanager
def replacing_labels(path: Path) -> Iterator[Path]:
    """Yield the name of a folder beside `path`, which gets the final name only if all goes well.

    Raises
    ------
    ValueError
        If labels cannot be there; see `check_label_place`.
    """
    check_label_place(path)
    path.parent.mkdir(exist_ok=True)
    token = secrets.token_hex(8)
    # Not hidden from its own checks: the same place, another name.
    part, old = (path.with_name(f".pisam-{token}.{end}{SUFFIX}") for end in ("part", "old"))
    try:
        yield part
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
        _enter(path)
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


def read_label_classes(path: Path) -> dict[int, str]:
    """Return the classes of objects that `finish_labels` wrote.

    Raises
    ------
    ValueError
        If the metadata are damaged.
    """
    properties = attributes_of(path).at("image-label").get("properties")
    return {
        entry.at("label-value").integer(0): entry.at("class").text()
        for entry in (() if properties is None else properties.items())
        if entry.get("class") is not None
    }


# -- metadata ---------------------------------------------------------------------------------


def _make(
    path: Path,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    scale: Sequence[float],
    units: Sequence[str],
    final: Path | None = None,
) -> Any:
    """Make a group of labels with one level."""
    try:
        import zarr
    except ImportError:
        raise ValueError(
            'Labels as OME-Zarr need zarr. Run: pip install "napari-pisam[formats]"'
        ) from None
    ndim = len(shape)
    if np.dtype(dtype).kind not in "iu":
        raise ValueError(f"The labels have dtype {dtype}, expected integers.")
    group: Any = zarr.create_group(path, zarr_format=3)
    chunks = (*[1] * (ndim - 2), *(min(LABEL_TILE, max(1, n)) for n in shape[-2:]))
    array = group.create_array("0", shape=tuple(shape), dtype=dtype, chunks=chunks, fill_value=0)
    names = axes.lower() if len(axes) == ndim else "tczyx"[5 - ndim :] if ndim <= 5 else ""
    entries = [
        _axis(name, unit)
        for name, unit in itertools.zip_longest(names, units or [""] * ndim, fillvalue="")
    ]
    transforms = [{"type": "scale", "scale": [float(n) for n in scale or [1.0] * ndim]}]
    image: dict[str, Any] = {
        "name": (final or path).name.removesuffix(SUFFIX),
        "axes": entries,
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    inside = (final or path).parent.name == _GROUP
    label: dict[str, Any] = {"version": VERSION} | (
        {"source": {"image": "../../"}} if inside else {}
    )
    group.attrs["ome"] = {"version": VERSION, "multiscales": [image], "image-label": label}
    return array


def _axis(name: str, unit: str) -> dict[str, str]:
    axis = {"name": name} | ({"type": _TYPES[name]} if name in _TYPES else {})
    known = unit_written(unit, "name")
    return axis | ({"unit": known} if known not in ("", "pixel") else {})


def _enter(path: Path) -> None:
    """Name labels of an image in the list of all that it has."""
    import zarr

    if path.parent.name != _GROUP or not is_zarr(path.parent.parent):
        return
    group: Any = zarr.open_group(path.parent, mode="a", zarr_format=3)
    ome = dict(group.attrs.get("ome", {}))
    others = [name for name in ome.get("labels", []) if name != path.name]
    group.attrs["ome"] = ome | {"version": VERSION, "labels": [*others, path.name]}


def _half(group: Any, name: str, above: Any) -> Any:
    """Make the next level: every second pixel, where something was written."""
    shape = (*above.shape[:-2], *(-(-n // 2) for n in above.shape[-2:]))
    array = group.create_array(
        name,
        shape=shape,
        dtype=above.dtype,
        chunks=tuple(min(c, n) for c, n in zip(above.chunks, shape, strict=True)),
        fill_value=0,
        overwrite=True,
    )
    steps = array.chunks
    keys = {
        tuple(
            part.start // (1 if axis < len(shape) - 2 else 2) // step
            for axis, (part, step) in enumerate(zip(parts, steps, strict=True))
        )
        for parts in parts_to_read(above)
    }
    for key in sorted(keys):
        here = tuple(
            slice(k * s, min((k + 1) * s, n)) for k, s, n in zip(key, steps, shape, strict=True)
        )
        rows, cols = (slice(2 * one.start, 2 * one.stop) for one in here[-2:])
        array[here] = above[(*here[:-2], rows, cols)][..., ::2, ::2]
    return array


def _table(
    numbers: set[int], classes: Mapping[int, str], colors: Mapping[str, tuple[int, int, int]]
) -> dict[str, Any]:
    shown = sorted(numbers)[:_MOST_COLORS]
    table: dict[str, Any] = {
        "colors": [
            {
                "label-value": number,
                "rgba": [*colors.get(classes.get(number, ""), _color(number)), 255],
            }
            for number in shown
        ]
    }
    named = [{"label-value": n, "class": classes[n]} for n in shown if n in classes]
    return table | ({"properties": named} if named else {})


def _color(number: int) -> tuple[int, int, int]:
    """Return a colour that is unlike those of the numbers near to it."""
    hue = number * (math.sqrt(5) - 1) / 2 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _opened(path: Path) -> Any:
    try:
        return open_zarr(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as OME-Zarr: {error}.") from error
