"""Image layers as lazy 2D views: what the user sees is what the network sees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.images.image_source import ImageSource
from napari_pisam.layers.geometry import ImagePlane, Projection, is_rgb, plane_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class DisplayedPlane(NamedTuple):
    """The displayed plane of an image.

    Attributes
    ----------
    source : ImageSource
        Its pixels, (H, W, C), read when asked for.
    plane : ImagePlane
        Which plane it is.
    axes : (int, int)
        The layer's axes that are displayed as rows and columns.
    """

    source: ImageSource
    plane: ImagePlane
    axes: tuple[int, int]


class Reordered:
    """An array with its axes in another order; nothing is read before it is indexed."""

    def __init__(self, array: Any, order: tuple[int, ...]) -> None:
        self._array, self._order = array, order
        self.shape = tuple(int(array.shape[axis]) for axis in order)
        self.dtype = array.dtype
        self.ndim = len(order)

    def __getitem__(self, key: tuple[int | slice, ...]) -> Any:
        """Read a part; one integer or slice for every axis."""
        index: list[int | slice] = [0] * len(self._order)
        for axis, part in zip(self._order, key, strict=True):
            index[axis] = part
        kept = [axis for axis in self._order if isinstance(index[axis], slice)]
        block = np.asarray(self._array[tuple(index)])
        return block.transpose([sorted(kept).index(axis) for axis in kept])


class _Projected:
    """An array of which an index along some axes means several, made one picture as napari does."""

    def __init__(self, array: Any, projection: Projection, full: tuple[int, ...]) -> None:
        self._array, self._mode = array, projection.mode
        self._parts = {
            axis: projection.part(axis, int(array.shape[axis]), full[axis] / int(array.shape[axis]))
            for axis in projection.spans
        }
        self.shape = tuple(int(size) for size in array.shape)
        is_mean = self._mode == "mean"
        total = np.zeros(1, array.dtype).sum().dtype if self._mode == "sum" else array.dtype
        self.dtype = np.dtype(np.float64) if is_mean else np.dtype(total)
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> Any:
        """Read a part; one integer or slice for every axis."""
        first, *others = self._parts
        part, index = self._parts[first], list(key)
        for axis in others:
            index[axis] = self._parts[axis]
        # Places of the other ones when the first one has gone.
        is_kept = [isinstance(one, slice) for one in index]
        is_kept[first] = False
        axes = tuple(sum(is_kept[:axis]) for axis in others)
        join = {"max": np.maximum, "min": np.minimum}.get(self._mode, np.add)
        dtype = None if self._mode in ("max", "min") else self.dtype
        result: Any = None
        # One slice after the other: a thick slice of a large window is no larger than a thin one.
        for place in range(part.start, part.stop):
            index[first] = place
            block = np.asarray(self._array[tuple(index)])
            block = block if dtype is None else block.astype(dtype)
            block = join.reduce(block, axis=axes) if axes else block
            result = block if result is None else join(result, block)
        count = math.prod(one.stop - one.start for one in self._parts.values())
        return result / count if self._mode == "mean" else result


def image_source_of(
    image: Any,
    dims: Any = None,
    *,
    channel_axis: int | None = None,
    channels: Sequence[int] | None = None,
    own_contrast: bool = False,
) -> DisplayedPlane:
    """Look at the displayed plane of an image; nothing is read yet.

    Parameters
    ----------
    image : napari Image layer, array or list of arrays
        Any number of axes, RGB, multiscale; numpy, dask, zarr or anything with shape, dtype and
        indexing. Never changed.
    dims : napari.components.Dims or ImagePlane, optional
        ``viewer.dims``; see `plane_of`.
    channel_axis : int, optional
        An axis of channels that are seen together, up to three of them. Without it, a layer that
        is not RGB is grey, as napari shows it.
    channels : sequence of int, optional
        Which channels; the first three by default.
    own_contrast : bool
        Whether each channel has a contrast of its own, found in its values, and not the layer's.

    Returns
    -------
    DisplayedPlane
        Level 0's coordinates for a pyramid. A layer that is not RGB is seen with its contrast
        limits; its gamma and colours are left out, they mean nothing to the network.

    Raises
    ------
    ValueError
        If there is no such plane (see `plane_of`), or the values are no image.
    """
    is_layer = hasattr(image, "data_to_world")
    if isinstance(dims, ImagePlane):
        plane = dims
    else:
        plane = plane_of(image, dims, channel_axis=channel_axis)
    rgb = is_rgb(image)
    if rgb and plane.channel_axis is not None:
        raise ValueError("The image is RGB: its channels are its colours. Leave channel_axis out.")
    leading = [axis for axis in plane.sliced if axis != plane.channel_axis]
    order = [*leading, *plane.axes]
    if plane.channel_axis is not None:
        order.insert(len(leading), plane.channel_axis)
    if rgb:
        order.append(len(plane.shape))
    levels = _levels(image.data if is_layer else image)
    if plane.projection is not None:
        full, projection = plane.shape, plane.projection
        levels = [_Projected(level, projection, full) for level in levels]
    if order != sorted(order):
        levels = [Reordered(level, tuple(order)) for level in levels]
    source = ImageSource(
        levels,
        plane=[plane.index[axis] or 0 for axis in leading],
        channel_axis=None if plane.channel_axis is None else len(leading),
        channels=channels,
        rgb=rgb,
        contrast_limits=None if rgb or own_contrast or not is_layer else contrast_of(image),
    )
    return DisplayedPlane(source, plane, plane.axes)


def describe_view(image: Any, plane: ImagePlane) -> str:
    """Say which part of an image the network sees: channels, contrast, planes.

    Parameters
    ----------
    image : napari Image layer
    plane : ImagePlane
        Of it.
    """
    parts = ["red, green and blue" if is_rgb(image) else "grey"]
    for axis, index in enumerate(plane.index):
        if plane.projection is not None and axis in plane.projection.spans:
            part = plane.projection.part(axis, plane.shape[axis])
            mode, last = plane.projection.mode, part.stop - 1
            parts.append(f"the {mode} of axis {axis} from {part.start} to {last}")
        elif index is not None and plane.shape[axis] > 1:
            parts.append(f"{axis_name(image, axis)} {index} (0 to {plane.shape[axis] - 1})")
    limits = None if is_rgb(image) else contrast_of(image)
    if limits is not None:
        parts.append(f"contrast {limits[0]:g} to {limits[1]:g}")
    return f"Seen{'' if image.visible else ', though hidden'}: {'; '.join(parts)}"


def axis_name(image: Any, axis: int) -> str:
    """Return what a layer's axis is called, ``axis 0`` where nobody named it."""
    names = [str(name) for name in getattr(image, "axis_labels", ())]
    name = names[axis] if axis < len(names) else ""
    # napari's own names, "axis -3" or "-3", only count from the end.
    is_plain = name.startswith("axis") or name.removeprefix("-").isdigit()
    return f"axis {axis}" if not name or is_plain else name


def _levels(data: Any) -> list[Any]:
    # napari's multiscale wrapper has a shape too, but its items are the levels.
    if hasattr(data, "shapes") or isinstance(data, (list, tuple)):
        return list(data) if hasattr(data[0], "shape") else [np.asarray(data)]
    return [data]


def contrast_of(layer: Any) -> tuple[float, float] | None:
    """Contrast limits of an Image layer, which say what the user sees; None where they say none."""
    low, high = (float(value) for value in layer.contrast_limits)
    return (low, high) if np.isfinite((low, high)).all() and high > low else None
