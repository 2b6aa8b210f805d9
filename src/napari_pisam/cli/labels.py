"""``napari-pisam convert`` and ``measure``: what becomes of labels afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.cli.console import say
from napari_pisam.cli.files import check_output
from napari_pisam.images.image_files import open_image, open_plane
from napari_pisam.images.label_files import TIFF_SUFFIXES, label_dtype, write_label_array
from napari_pisam.images.label_formats import LabelImage, format_for, read_labels
from napari_pisam.images.label_formats.table import write_rows
from napari_pisam.images.zarr_files import is_zarr
from napari_pisam.measure.cleaning import clean_labels
from napari_pisam.measure.cleaning import split as cut
from napari_pisam.measure.regions import Pixel, measure_objects, named, with_measures
from napari_pisam.measure.volumes import measure_volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.image_files import ImageFile
    from napari_pisam.measure.cleaning import Cleaning


def convert(
    source: Path,
    output: Path,
    *,
    image: Path | None = None,
    read_as: str | None = None,
    write_as: str | None = None,
    pixel: Pixel | None = None,
) -> None:
    """Write labels in another format.

    Parameters
    ----------
    source : Path
        A label image (TIFF or PNG), or a file of a format that can be read.
    output : Path
        The file; what is there is replaced.
    image : Path, optional
        The picture, for formats that do not say how large it is.
    read_as, write_as : str, optional
        Names of formats; by default the files' endings say them.
    pixel : Pixel, optional
        Size of a pixel, for formats that carry it.

    Raises
    ------
    ValueError
        If a format or a file does not fit.
    """
    target = format_for(output, write_as)
    # A file of one format may have any ending if the format is named.
    suffixes = (output.suffix.lower(),) if write_as else target.suffixes
    check_output(output, tuple(suffix[suffix.rfind(".") :] for suffix in suffixes), (source, image))
    labels = _read(source, image, read_as)
    if pixel is not None:
        labels = replace(labels, pixel_size=(pixel.height, pixel.width), unit=pixel.unit)
    if target.has_measures:
        labels = with_measures(labels)
    target.write(output, labels)
    count = sum(1 for _ in labels.objects())
    lost = f" It does not hold {target.loses}." if target.loses else ""
    say(f"{output}: {count} object(s) as {target.title}.{lost}")


def clean(
    labels: Path,
    output: Path,
    cleaning: Cleaning,
    *,
    merge: Sequence[Sequence[float]] = (),
    split: Sequence[str] = (),
    only: Sequence[float] | None = None,
) -> None:
    """Tidy labels up and write them as TIFF.

    Parameters
    ----------
    labels : Path
        As for `convert`.
    output : Path
        The file; what is there is replaced.
    cleaning : Cleaning
        What is done to every object.
    merge : sequence of sequence of int
        Objects that become the first of them.
    split : sequence of str
        ``A:R,C,R,C``: object A is cut along a line of (row, col) px.
    only : sequence of int, optional
        The objects that are cleaned.

    Raises
    ------
    ValueError
        If there is nothing to do, or an object is not there.
    """
    if not cleaning and not merge and not split:
        raise ValueError(
            "There is nothing to do. Give --fill-holes, --specks, --largest, --smooth, --grow, "
            "--merge or --split."
        )
    check_output(output, (".tif", ".tiff"), (labels,))
    found = _read(labels, None, None)
    values = np.array(found.labels)
    there = {int(number) for number in np.unique(values)} - {0}
    for group in merge:
        _check_there(group, there)
        values[np.isin(values, group)] = int(group[0])
    cuts = [_line_of(text) for text in split]
    _check_there([number for number, _ in cuts], there)
    _check_there(only or (), there)
    largest = max(there, default=0)
    for number, line in cuts:
        parts = cut(values == number, line)
        if len(parts) < 2:
            raise ValueError(f"The line does not cut object {number} in two. Draw it across.")
        values = values.astype(label_dtype(largest + len(parts)), copy=False)
        for part in parts[1:]:
            largest += 1
            values[part] = largest
    if cleaning:
        values = clean_labels(values, cleaning, only=None if only is None else [*map(int, only)])
    write_label_array(output, values, {"software": "napari-pisam", "cleaned": labels.name})
    say(f"{output}: {len(np.unique(values)) - (0 in values)} object(s), before {len(there)}.")


def _check_there(numbers: Sequence[float], there: set[int]) -> None:
    missing = [number for number in numbers if number not in there]
    if missing:
        raise ValueError(f"There is no object {missing[0]:g} in the labels. Check its number.")


def _line_of(text: str) -> tuple[int, NDArray[np.float64]]:
    number, _, places = text.partition(":")
    try:
        line = np.array([float(part) for part in places.split(",")]).reshape(-1, 2)
        if len(line) < 2 or not np.isfinite(line).all():
            raise ValueError
        return int(number), line
    except ValueError:
        raise ValueError(
            f"--split is {text!r}, expected an object and the places of a line, for example "
            "3:10,20,40,20."
        ) from None


def measure(
    labels: Path, output: Path, *, image: Path | None = None, pixel: Pixel | None = None
) -> None:
    """Write a table of the objects' measures as CSV; of a stack, of what goes through its slices.

    Parameters
    ----------
    labels : Path
        As for `convert`; or a TIFF or OME-Zarr of a stack.
    output : Path
        A ``.csv`` file.
    image : Path, optional
        The picture whose intensities are measured, as stored.
    pixel : Pixel, optional
        Size of a pixel; by default lengths are in px.
    """
    check_output(output, (".csv",), (labels, image))
    unit = (pixel or Pixel()).unit
    classes: Mapping[int, str] = {}
    with ExitStack() as files:
        stack = _stack_in(labels, files)
        if stack is None:
            found = _read(labels, image, None)
            classes = found.classes
            picture = None if image is None else _slices_of(image, found.labels.shape, files)
            values = None if picture is None else picture[0, :, :]
            rows = measure_objects(found.labels, values, pixel=pixel)
        else:
            picture = None if image is None else _slices_of(image, stack.shape, files)
            rows = measure_volumes(stack, picture, pixel=pixel)
    known = named(rows, unit).items()
    write_rows(output, {label: {"class": classes.get(label, "")} | row for label, row in known})
    through = "" if stack is None else f" through {stack.shape[0]} slices"
    say(f"{output}: {len(rows)} object(s){through}.")


def _read(path: Path, image: Path | None, read_as: str | None) -> LabelImage:
    shape = None
    if image is not None:
        with open_plane(image) as plane:
            shape = plane.shape
    found = read_labels(path, shape, read_as)
    return replace(found, image_name=found.image_name or ("" if image is None else image.name))


class _Slices:
    """A file as (Z, H, W), with channels (Z, H, W, C): read by slice, rows and columns."""

    def __init__(self, opened: ImageFile) -> None:
        self._data = opened.data[0] if isinstance(opened.data, list) else opened.data
        axes, shape = opened.axes, opened.shape
        channel = next((axes.index(axis) for axis in "SC" if axis in axes), None)
        *others, row, col = (n for n in range(len(axes)) if n != channel)
        long = [axis for axis in others if shape[axis] > 1]
        is_time = "T" in (axes[axis] for axis in long)
        self.is_stack = len(long) == 1 and not is_time and min(shape[row], shape[col]) > 1
        self.is_flat = not long
        place = next(iter(long or others), None)
        self._places = (place, row, col)
        self.channel = channel
        self.shape = tuple(1 if axis is None else shape[axis] for axis in self._places)
        self.dtype = self._data.dtype

    def __getitem__(self, key: tuple[int, slice, slice]) -> NDArray[Any]:
        index: list[Any] = [0] * len(self._data.shape)
        for place, part in zip(self._places, key, strict=True):
            if place is not None:
                index[place] = part
        if self.channel is None:
            return np.asarray(self._data[tuple(index)])
        index[self.channel] = slice(None)
        place = sum(isinstance(part, slice) for part in index[: self.channel])
        return np.moveaxis(np.asarray(self._data[tuple(index)]), place, -1)


def _stack_in(path: Path, files: ExitStack) -> _Slices | None:
    """Open labels that are a stack; None for what is read as a plane, or refused as one."""
    if path.suffix.lower() not in TIFF_SUFFIXES and not is_zarr(path):
        return None
    slices = _Slices(files.enter_context(open_image(path)))
    is_one = slices.is_stack and slices.channel is None and slices.dtype.kind in "ui"
    return slices if is_one else None


def _slices_of(path: Path, shape: tuple[int, ...], files: ExitStack) -> _Slices:
    """Open the picture of labels of this shape, its values as they are stored."""
    opened = files.enter_context(open_image(path))
    slices = _Slices(opened)
    fits = slices.is_flat if len(shape) == 2 else slices.is_stack
    if not fits or slices.shape[-len(shape) :] != shape:
        raise ValueError(
            f"{path} has the axes {opened.axes} of {opened.shape}; expected "
            f"{'one plane' if len(shape) == 2 else f'{shape[0]} slices'} of {shape[-2]} x "
            f"{shape[-1]} px, as the labels have."
        )
    return slices
