"""Labels layers for results: new ones, and planes of them that are read and written by windows."""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.ngff_labels import is_label_group, new_labels, open_labels
from napari_pisam.layers.geometry import ImagePlane, plane_of, spatial_shape
from napari_pisam.layers.label_arrays import MirroredLabels, empty_labels, is_kept, wider_labels
from napari_pisam.layers.prompt_layers import prompt_axes
from napari_pisam.layers.transforms import lie_alike, transform_of
from napari_pisam.session.labels import wider_dtype
from napari_pisam.session.rollback import RollbackJournal, roll_back

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

# Planes of more pixels are mirrored: napari would read all chunks of one at every refresh.
_PLANE = 1 << 22


def new_labels_layer(
    viewer: Any,
    image: Any,
    *,
    channel_axis: int | None = None,
    name: str | None = None,
    dtype: DTypeLike = np.uint16,
    data: Any = None,
) -> Any:
    """Add an empty Labels layer that lies where an image lies, pixel for pixel.

    Nothing is filled with zeros: memory is taken as objects are written. Above 512 MB the values
    are in an unnamed temporary file, which goes with the layer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    image : napari Image layer
        Its transform, units and axis names are copied. For a pyramid: level 0.
    channel_axis : int, optional
        The image's axis of channels; where it is the first one, the labels have no such axis.
    name : str, optional
    dtype : dtype
        16 bits by default: napari refreshes those much faster than 32.
    data : integer array, optional
        Labels that there are already, instead of empty ones.

    Returns
    -------
    napari.layers.Labels

    Raises
    ------
    ValueError
        If the disk has no room for them.
    """
    axes = prompt_axes(image, channel_axis)
    if data is None:
        data = empty_labels(labels_shape(image, channel_axis), np.dtype(dtype))
    axes = axes[len(axes) - len(data.shape) :]
    return viewer.add_labels(
        data,
        name=name or f"{image.name} labels",
        **transform_of(image, axes),
    )


def labels_shape(image: Any, channel_axis: int | None = None) -> tuple[int, ...]:
    """Return the sizes that the labels of an image have."""
    return tuple(int(spatial_shape(image)[axis]) for axis in prompt_axes(image, channel_axis))


def labels_layer_on_disk(
    viewer: Any,
    image: Any,
    path: Path,
    *,
    channel_axis: int | None = None,
    dtype: DTypeLike = np.uint32,
) -> Any:
    """Add a Labels layer whose values are an OME-Zarr, made where there is none yet.

    Only chunks that are painted or committed are on disk, and they are there when napari is
    closed. Large planes are mirrored for napari, see `MirroredLabels`. `finish_labels` makes the
    pyramid, which other tools want, at any time.

    Parameters
    ----------
    viewer, image, channel_axis
        As for `new_labels_layer`.
    path : Path
        Ends in .zarr, or ``IMAGE.zarr/labels/NAME``.
    dtype : dtype
        Of new labels. 32 bits by default: a wider type would need another array.

    Returns
    -------
    napari.layers.Labels

    Raises
    ------
    ValueError
        If labels cannot be there, or those there are not of this image.
    """
    axes = prompt_axes(image, channel_axis)
    shape = labels_shape(image, channel_axis)
    transform = transform_of(image, axes)
    if is_label_group(path):
        data = open_labels(path)
        if data.shape != shape:
            raise ValueError(
                f"The labels {path} have shape {data.shape}, expected {shape} as the image. Give "
                "those of this image, or another name."
            )
    else:
        names = "".join(str(name).lower() for name in transform.get("axis_labels") or ())
        data = new_labels(
            path,
            shape,
            dtype,
            axes=names if set(names) <= set("tczyx") else "",
            scale=np.abs(transform["scale"]).tolist(),
            units=[str(unit) for unit in transform.get("units") or ()],
        )
    if shape[-2] * shape[-1] > _PLANE:
        data = MirroredLabels.of(data)
    return viewer.add_labels(data, name=path.name, **transform)


class LabelsPlane:
    """One plane of a Labels layer as a 2D array that is read and written by windows.

    Parameters
    ----------
    layer : napari Labels layer
        Its data may be replaced meanwhile, by one of the same shape.
    axes : (int, int)
        The layer's axes that are rows and columns.
    index : tuple of (int or None)
        The index along every other axis; None: write to all of them, read the first.
    """

    ndim = 2

    def __init__(self, layer: Any, axes: tuple[int, int], index: tuple[int | None, ...]) -> None:
        self.layer = layer
        self.axes = axes
        self._index = index
        self._journal: RollbackJournal | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) px."""
        sizes = self.layer.data.shape
        return int(sizes[self.axes[0]]), int(sizes[self.axes[1]])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The integer type of the labels."""
        dtype: np.dtype[Any] = np.dtype(self.layer.data.dtype)
        return dtype

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.integer[Any]]:
        """Read a window: two slices of rows and columns.

        Returns
        -------
        (h, w) integer array
            Read-only; it may show what is written later.
        """
        index = self._key(window, for_writing=False)
        block: NDArray[np.integer[Any]] = np.asarray(self.layer.data[index])
        block = (block.T if self._is_transposed else block).view()
        block.flags.writeable = False
        return block

    def __setitem__(self, window: tuple[slice, slice], values: Any) -> None:
        """Write a window; labels too large for the type turn the layer's data into a wider one."""
        block = np.asarray(values)
        if block.dtype.kind not in "biu":
            raise ValueError(f"The labels have dtype {block.dtype}, expected integers.")
        highest = int(block.max(initial=0))
        if highest > np.iinfo(self.dtype).max:
            promote_labels(self.layer, highest)
        key = self._key(window, for_writing=True)
        block = block.astype(self.dtype, copy=False)
        if block.ndim == 2:
            if self._is_transposed:
                block = block.T
            # One more axis for each of which all indices are written.
            new = [axis for axis in range(len(key)) if isinstance(key[axis], slice)]
            shape = iter(block.shape)
            block = block.reshape([next(shape) if axis in self.axes else 1 for axis in new])
            sizes = [len(range(*key[a].indices(int(self.layer.data.shape[a])))) for a in new]
            block = np.broadcast_to(block, sizes)
        if self._journal is not None:
            self._journal.note(key, block)
        self.layer.data[key] = block

    @contextmanager
    def edit(self) -> Iterator[None]:
        """Make what is written within one edit: of labels on disk a kill leaves all or nothing.

        What a kill leaves is taken back by `finish_edits`.
        """
        self._journal = journal = RollbackJournal(self.layer.data)
        try:
            yield
        except BaseException:
            # Most often it was taken back already.
            journal.close(is_whole=False)
            with suppress(ValueError, OSError):
                roll_back(self.layer.data)
            raise
        else:
            journal.close(is_whole=True)
        finally:
            self._journal = None

    def at(self, axis: int, index: int) -> LabelsPlane:
        """Return the plane beside it at another index along an axis, counted from the last (-1)."""
        other, places = copy.copy(self), list(self._index)
        places[axis] = index
        other._index = tuple(places)
        return other

    def frozen(self) -> LabelsPlane:
        """Return the same plane of the array that the layer has now, without the layer.

        A thread must not touch layers; it may read their arrays.
        """
        other = copy.copy(self)
        other.layer = SimpleNamespace(data=self.layer.data, multiscale=False)
        return other

    def of_layer(self, layer: Any) -> LabelsPlane:
        """Return the same plane of another Labels layer of this one's shape."""
        return LabelsPlane(layer, self.axes, self._index)

    def window_of(self, part: tuple[slice, ...]) -> tuple[int, int, int, int] | None:
        """Return what a part of the layer's array has of this plane.

        Parameters
        ----------
        part : tuple of slice
            For every axis of the layer, with a start and a stop.

        Returns
        -------
        (int, int, int, int) or None
            (row0, col0, row1, col1) px, half open; None where it lies in other planes.
        """
        for axis, index in enumerate(self._index):
            is_other = axis not in self.axes and index is not None
            if is_other and not part[axis].start <= index < part[axis].stop:
                return None
        rows, cols = (part[axis] for axis in self.axes)
        return rows.start, cols.start, rows.stop, cols.stop

    @property
    def _is_transposed(self) -> bool:
        return self.axes[0] > self.axes[1]

    def _key(self, window: tuple[slice, slice], *, for_writing: bool) -> tuple[Any, ...]:
        key: list[Any] = [
            (slice(None) if for_writing else 0) if part is None else part for part in self._index
        ]
        for axis, part in zip(self.axes, window, strict=True):
            if not isinstance(part, slice):
                raise ValueError(
                    f"The window is {window}, expected two slices, of rows and of columns."
                )
            key[axis] = part
        return tuple(key)


def labels_plane(layer: Any, plane: ImagePlane, image: Any = None) -> LabelsPlane:
    """Return the plane of a Labels layer that belongs to a plane of an image.

    Parameters
    ----------
    layer : napari Labels layer
    plane : ImagePlane
        Of the image.
    image : napari Image layer, optional
        To check that both lie alike.

    Raises
    ------
    ValueError
        If the labels cannot be written, are a pyramid, or do not lie pixel on pixel.
    """
    advice = "Choose another Labels layer, or make a new one for this image."
    data = layer.data
    if getattr(layer, "multiscale", False):
        raise ValueError(
            f"The Labels layer {layer.name!r} is a pyramid, which cannot be edited. {advice}"
        )
    read_only = isinstance(data, np.ndarray) and not data.flags.writeable
    if read_only or getattr(data, "read_only", False) or not hasattr(data, "__setitem__"):
        raise ValueError(f"The Labels layer {layer.name!r} is read-only. {advice}")
    if hasattr(data, "dask"):
        raise ValueError(
            f"The Labels layer {layer.name!r} is a dask array: what is written to it is computed "
            f"again and again. {advice}"
        )
    sizes = enumerate(plane.shape)
    kept = (axis for axis, size in sizes if axis != plane.channel_axis and size > 1)
    extra = missing_axes(layer, plane, image, next(kept, 0), advice)
    axes = plane.axes[0] - extra, plane.axes[1] - extra
    return LabelsPlane(layer, axes, plane.index[extra:])


def missing_axes(layer: Any, plane: ImagePlane, image: Any, most: int, advice: str) -> int:
    """Return how many of an image's axes, from the first on, a Labels layer has not.

    Parameters
    ----------
    layer : napari Labels layer
    plane : ImagePlane
        Of the image.
    image : napari Image layer or None
        To check that both lie alike.
    most : int
        How many may be missing.
    advice : str
        What to do where it does not fit.

    Raises
    ------
    ValueError
        If it is of another size or lies elsewhere.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(size) for size in data.shape)
    of = "" if image is None else f" {image.name!r}"
    # Layers meet from their last axis on.
    extra = len(plane.shape) - len(shape)
    if not 0 <= extra <= most or shape != plane.shape[extra:] or min(plane.axes) < extra:
        raise ValueError(
            f"The Labels layer {layer.name!r} has shape {shape}, expected {plane.shape} as the "
            f"image{of}. {advice}"
        )
    if image is not None and not lie_alike(layer, image, extra):
        raise ValueError(
            f"The Labels layer {layer.name!r} lies elsewhere than the image{of} (another scale, "
            f"translation or rotation). {advice}"
        )
    return extra


def finish_edits(layer: Any) -> bool:
    """Take back what a process that was killed left half written in a Labels layer; whether.

    Raises
    ------
    ValueError, OSError
        If it cannot be: it is tried again with the next layer of these labels.
    """
    is_found = roll_back(layer.data)
    if is_found:
        layer.refresh()
    return is_found


def painted_windows(value: Any) -> list[tuple[slice, ...]]:
    """Read napari's ``Labels.events.paint``: the parts of the array that a stroke changed.

    Parameters
    ----------
    value : list
        The event's value: ``(indices, before, after)``, or, since napari 0.8, something with a
        ``slice_key``.
    """
    parts = []
    for atom in value:
        key = getattr(atom, "slice_key", None)
        if key is None:
            axes = [np.atleast_1d(indices) for indices in atom[0]]
            if all(axis.size for axis in axes):
                parts.append(tuple(slice(int(a.min()), int(a.max()) + 1) for a in axes))
        else:
            starts = [(k.start, k.stop) if isinstance(k, slice) else (k, k + 1) for k in key]
            parts.append(tuple(slice(int(low), int(high)) for low, high in starts))
    return parts


def promote_labels(layer: Any, value: int) -> None:
    """Turn a Labels layer that is too narrow for a number into one of a wider type; values stay.

    Signed labels stay signed, see `wider_dtype`.

    Parameters
    ----------
    layer : napari Labels layer
    value : int
        The number that is to be written.

    Raises
    ------
    ValueError
        If there is no room, or the labels are on disk: what is written from then on would end with
        the process.
    """
    data = layer.data
    if value <= np.iinfo(data.dtype).max:
        return
    new = wider_dtype(data.dtype, value)
    on_disk = getattr(data, "on_disk", data)
    if is_kept(data) and not np.can_cast(new, on_disk.dtype):
        raise ValueError(
            f"The Labels layer {layer.name!r} is on disk as {on_disk.dtype}, which has no room for "
            f"the number {value} of the next object. Choose a new Labels layer, or make the file "
            f"one of {new} and open it again."
        )
    layer.data = wider_labels(data, new)


def plane_is_displayed(plane: ImagePlane, image: Any, dims: Any) -> bool:
    """Whether the viewer displays a plane of an image now."""
    try:
        return plane_of(image, dims, channel_axis=plane.channel_axis) == plane
    except ValueError:
        return False
