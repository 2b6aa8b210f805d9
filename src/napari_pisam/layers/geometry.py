"""Which plane of an image is shown, and where things drawn on other layers lie in it.

Layers have their own transforms, and the world's axes meet from the last one. What counts is what
the user sees: as napari does when it draws, the displayed axes and the sliced axes are mapped
separately, so that a transform that couples them (which napari shows flattened) is followed too.
Where nothing couples them, this is ``image.world_to_data(prompts.data_to_world(p))``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers.transforms import placement_of, same_kind, unit_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.layers.transforms import Placement


@dataclass(frozen=True)
class Projection:
    """How napari makes one picture of a thick slice.

    Attributes
    ----------
    mode : str
        "mean", "max", "min" or "sum".
    spans : dict of int to (float, float)
        By axis: from where to where, data coordinates of level 0.
    """

    mode: str
    spans: dict[int, tuple[float, float]]

    def part(self, axis: int, size: int, factor: float = 1.0) -> slice:
        """Return the indices along an axis of `size`, of a level reduced by `factor`.

        As napari rounds them.
        """
        low, high = (value / factor for value in self.spans[axis])
        start = min(max(round(low), 0), size - 1)
        stop = max(round(high), 0)
        # What ends at an index is shown with it.
        stop += int(bool(np.isclose(stop, high)))
        return slice(start, min(max(stop, start + 1), size))


@dataclass(frozen=True)
class ImagePlane:
    """The plane of an image layer that is displayed.

    Attributes
    ----------
    shape : tuple of int
        Sizes of the layer's axes, level 0; RGB is not counted.
    axes : (int, int)
        The axes that are displayed as rows and as columns.
    index : tuple of (int or None)
        For every axis the index that is displayed; None for rows, columns and channels.
    channel_axis : int or None
        The axis whose channels are used together.
    order : tuple of int
        The world's axes as displayed, the last two are rows and columns. Not part of what makes
        two planes equal: a layer of more axes elsewhere changes it.
    position : tuple of float
        Where the plane lies along every axis of the layer, data coordinates; for the channels,
        where the slider stands. Not part of what makes two planes equal.
    point : tuple of float, or None
        Where the sliders stand, world coordinates; not part of what makes two planes equal.
    is_unit_aware : bool
        Whether units are converted between layers.
    projection : Projection or None
        Where the viewer shows a thick slice as one picture: how. Not part of what makes two planes
        equal either: labels and prompts lie at `index`.
    """

    shape: tuple[int, ...]
    axes: tuple[int, int]
    index: tuple[int | None, ...]
    channel_axis: int | None
    order: tuple[int, ...] = field(compare=False)
    position: tuple[float, ...] = field(compare=False)
    point: tuple[float, ...] | None = field(default=None, compare=False)
    is_unit_aware: bool = field(default=True, compare=False)
    projection: Projection | None = field(default=None, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) px."""
        return self.shape[self.axes[0]], self.shape[self.axes[1]]

    def at(self, axis: int, index: int) -> ImagePlane:
        """Return the plane beside it at another index along an axis; one slice, however thick."""
        places, position = list(self.index), list(self.position)
        places[axis], position[axis] = index, float(index)
        return replace(
            self, index=tuple(places), position=tuple(position), point=None, projection=None
        )

    @property
    def sliced(self) -> tuple[int, ...]:
        """The axes of which one index is shown, and the channels' axis, in ascending order."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.axes)


def plane_of(
    image: Any,
    dims: Any = None,
    *,
    channel_axis: int | None = None,
    index: Sequence[int] | None = None,
) -> ImagePlane:
    """Find the plane of an image that is displayed.

    Parameters
    ----------
    image : napari Image layer, array or list of arrays
        Only its shape and transform are looked at.
    dims : napari.components.Dims, optional
        ``viewer.dims``: which axes are displayed, and where the sliders stand. Without it, rows
        and columns are the last two axes.
    channel_axis : int, optional
        The axis of channels that are used together; no slice is taken of it.
    index : sequence of int, optional
        Instead of the sliders: an index for each axis that is neither displayed nor channels.

    Raises
    ------
    ValueError
        If the viewer shows 3D, the sliders stand outside the image, the channels are displayed
        as an axis, or nothing says which plane is meant.
    """
    shape = spatial_shape(image)
    ndim = len(shape)
    if dims is not None and dims.ndisplay != 2:
        raise ValueError(
            "The viewer shows 3D, expected a plane. Switch to 2D by the button below the layer "
            "list (or viewer.dims.ndisplay = 2)."
        )
    order = tuple(range(ndim)) if dims is None else tuple(int(axis) for axis in dims.order)
    own = axes_of(order, ndim)
    if len(order) < ndim:
        order = own
    rows, cols = own[-2:]
    if channel_axis is not None:
        channel_axis = _checked_channel_axis(channel_axis, shape, (rows, cols))
    sliced = [axis for axis in range(ndim) if axis not in (rows, cols)]
    free = [axis for axis in sliced if axis != channel_axis]
    position, point, projection = np.zeros(ndim), None, None
    aware = _is_unit_aware(dims)
    if dims is not None:
        point = tuple(float(value) for value in dims.point)
        place = placement_of(image, ndim)
        ratios = _world_ratios(dims, place, ndim) if aware else np.ones(ndim)
        linear, offset = place.inverse_part(sliced)
        position[sliced] = linear @ (_world_point(point, ndim) * ratios)[sliced] + offset
        projection = _projection(image, dims, free, position, linear * ratios[sliced], sliced)
    if index is not None or dims is None:
        _set_index(position, index, free, shape)
    nearest = _nearest(position, free, shape)
    return ImagePlane(
        shape,
        (rows, cols),
        tuple(int(nearest[axis]) if axis in free else None for axis in range(ndim)),
        channel_axis,
        order,
        tuple(position.tolist()),
        point,
        aware,
        projection,
    )


def _world_ratios(dims: Any, place: Placement, ndim: int) -> NDArray[np.float64]:
    """How many of the layer's units one of the world's is, by axis."""
    if place.units is None or dims.units is None:
        return np.ones(ndim)
    # Both count their axes from the last one.
    ratios = [unit_ratio(u, v) for u, v in zip(dims.units[-ndim:], place.units, strict=False)]
    return np.array(ratios) if len(ratios) == ndim else np.ones(ndim)


def _projection(
    image: Any,
    dims: Any,
    free: Sequence[int],
    position: NDArray[np.float64],
    linear: NDArray[np.float64],
    sliced: Sequence[int],
) -> Projection | None:
    """Read how a thick slice is shown; None for a thin one."""
    mode = str(getattr(image, "projection_mode", "none"))
    # Since napari 0.5; a thickness that the layer does not show is none.
    if mode == "none" or not hasattr(dims, "margin_left"):
        return None
    ndim = len(position)
    left = linear @ _world_point(dims.margin_left, ndim)[list(sliced)]
    right = linear @ _world_point(dims.margin_right, ndim)[list(sliced)]
    spans = {}
    for place, axis in enumerate(sliced):
        if axis in free and (left[place] or right[place]):
            ends = position[axis] - left[place], position[axis] + right[place]
            spans[axis] = float(min(ends)), float(max(ends))
    return Projection(mode, spans) if spans else None


def _set_index(
    position: NDArray[np.float64],
    index: Sequence[int] | None,
    free: Sequence[int],
    shape: tuple[int, ...],
) -> None:
    """Take the plane that is asked for instead of the displayed one."""
    if index is None:
        if any(shape[axis] > 1 for axis in free):
            raise ValueError(
                f"The image has shape {shape} and only one plane of it is segmented at a time. Say "
                "which: pass dims=viewer.dims for the one that is displayed."
            )
        return
    if len(index) != len(free):
        raise ValueError(
            f"index is {tuple(index)}, expected {len(free)} numbers: one for each of the axes "
            f"{list(free)} of the image of shape {shape}."
        )
    position[list(free)] = index


def _nearest(
    position: NDArray[np.float64], free: Sequence[int], shape: tuple[int, ...]
) -> NDArray[np.int_]:
    """Move a position onto the plane that is seen, and return its indices."""
    # napari rounds the same way: the plane is the one that is seen.
    nearest = np.round(position).astype(int)
    for axis in free:
        if not 0 <= nearest[axis] < shape[axis]:
            raise ValueError(
                f"Along axis {axis} the position is {position[axis]:g}, expected 0 to "
                f"{shape[axis] - 1}: nothing of this image is displayed there. Move the slider "
                "onto the image."
            )
        position[axis] = nearest[axis]
    return nearest


def as_plane(image: Any, dims: Any) -> ImagePlane:
    """Return the plane itself, or the one that the dims of a viewer (or None) say."""
    return dims if isinstance(dims, ImagePlane) else plane_of(image, dims)


def spatial_shape(image: Any) -> tuple[int, ...]:
    """Sizes of the axes of an Image layer or an array, level 0, without RGB."""
    is_layer = hasattr(image, "data_to_world")
    data = image.data if is_layer else image
    if isinstance(data, (list, tuple)):
        data = data[0] if hasattr(data[0], "shape") else np.asarray(data)
    shape = tuple(int(size) for size in data.shape)
    return shape[:-1] if is_rgb(image) else shape


def is_rgb(image: Any) -> bool:
    """Whether the last axis of an Image layer's or an array's data holds red, green, blue."""
    if hasattr(image, "data_to_world"):
        return bool(getattr(image, "rgb", False))
    level = image
    if isinstance(image, (list, tuple)):
        level = image[0] if hasattr(image[0], "shape") else np.asarray(image)
    shape = tuple(level.shape)
    return len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shape[-1]


def axes_of(order: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return a layer's axes as displayed, from the world's; the last axes of both agree."""
    extra = len(order) - ndim
    if extra <= 0:
        return (*range(-extra), *(axis - extra for axis in order))
    return tuple(axis - extra for axis in order if axis >= extra)


class PlaneMap:
    """Between the data of a layer (Shapes, Points, ...) and a plane of an image.

    Parameters
    ----------
    image : napari Image layer or array
    plane : ImagePlane
        Of that image.
    layer : napari layer
        With transform, units and number of axes of its own; neither is changed.
    """

    def __init__(self, image: Any, plane: ImagePlane, layer: Any) -> None:
        self._plane = plane
        self._image, self._layer = placement_of(image, len(plane.shape)), placement_of(layer)
        extra = self._layer.ndim - len(plane.order)
        order = (
            (*range(extra), *(axis + extra for axis in plane.order)) if extra > 0 else plane.order
        )
        own = axes_of(order, self._layer.ndim)
        self._shown, self._hidden = own[-2:], sorted(own[:-2])
        self._units = self._conversion()
        image_linear, image_offset = self._image.part(plane.axes)
        linear, offset = self._layer.part(self._shown)
        ratio = np.array([self._ratio(a, b) for a, b in zip(self._shown, plane.axes, strict=True)])
        linear, offset = ratio[:, None] * linear, ratio * offset
        # Most often the layers lie alike, and then nothing must be lost to rounding.
        is_alike = np.array_equal(linear, image_linear)
        self._linear = np.eye(2) if is_alike else np.linalg.solve(image_linear, linear)
        self._offset = np.linalg.solve(image_linear, offset - image_offset)
        # World axes, counted from the last, that both layers have and neither displays.
        self._shared = [
            (axis, other)
            for axis in self._hidden
            if (other := axis - self._layer.ndim + self._image.ndim) in plane.sliced
        ]
        self._tested = [pair for pair in self._shared if plane.index[pair[1]] is not None]

    def to_image(self, vertices: ArrayLike) -> NDArray[np.float64]:
        """Map the layer's data coordinates (n, D) to (row, col) px of the image, (n, 2)."""
        values = np.asarray(vertices, dtype=np.float64).reshape(-1, self._layer.ndim)
        return values[:, list(self._shown)] @ self._linear.T + self._offset

    def on_plane(self, vertices: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of (n, D) places lies in the plane; a missing axis means in all of them."""
        values = np.asarray(vertices, dtype=np.float64).reshape(-1, self._layer.ndim)
        result = np.ones(len(values), dtype=np.bool_)
        if self._tested:
            place = self._hidden_in_image(values)
            for _, other in self._tested:
                with np.errstate(invalid="ignore"):
                    result &= np.round(place[:, other]) == self._plane.index[other]
        for axis in self._hidden:
            here = self._slider(axis)
            if here is not None and axis - self._layer.ndim + self._image.ndim < 0:
                result &= np.abs(values[:, axis] - here) <= 0.5
        return result

    def planes(self, vertices: ArrayLike) -> set[tuple[int, ...]]:
        """Return the planes, an index for every axis that has one, in which places (n, D) lie.

        Empty where the layer lacks one of these axes: then they lie in every plane.
        """
        values = np.asarray(vertices, dtype=np.float64).reshape(-1, self._layer.ndim)
        free = [axis for axis, index in enumerate(self._plane.index) if index is not None]
        if [other for _, other in self._tested] != free:
            return set()
        nearest = np.round(self._hidden_in_image(values)[:, free]).astype(int)
        return {tuple(place) for place in nearest.tolist()}

    def to_layer(self, rc: ArrayLike) -> NDArray[np.float64]:
        """Map (row, col) px of the image, (n, 2), to the layer's data coordinates, (n, D)."""
        values = np.asarray(rc, dtype=np.float64).reshape(-1, 2)
        result = np.tile(self._home(), (len(values), 1))
        inverse = np.linalg.inv(self._linear)
        result[:, list(self._shown)] = (values - self._offset) @ inverse.T
        return result

    # -- the sliced axes ----------------------------------------------------------------------

    def _hidden_in_image(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (n, D) to the image's data along its sliced axes; the others are left at 0."""
        linear, offset = self._layer.part(self._hidden)
        world = values[:, self._hidden] @ linear.T + offset
        own = np.tile(np.asarray(self._plane.position), (len(values), 1))
        sliced = list(self._plane.sliced)
        forward, shift = self._image.part(sliced)
        image_world = own[:, sliced] @ forward.T + shift
        for axis, other in self._shared:
            column = world[:, self._hidden.index(axis)] * self._ratio(axis, other)
            image_world[:, sliced.index(other)] = column
        back, origin = self._image.inverse_part(sliced)
        result = np.zeros((len(values), self._image.ndim))
        result[:, sliced] = image_world @ back.T + origin
        return result

    def _home(self) -> NDArray[np.float64]:
        """Return a place in the layer's data that lies in the plane."""
        result = np.zeros(self._layer.ndim)
        if not self._hidden:
            return result
        linear, offset = self._layer.part(self._hidden)
        world = linear @ [self._slider(axis) or 0.0 for axis in self._hidden] + offset
        sliced = list(self._plane.sliced)
        forward, shift = self._image.part(sliced)
        image_world = forward @ np.asarray(self._plane.position)[sliced] + shift
        for axis, other in self._shared:
            world[self._hidden.index(axis)] = image_world[sliced.index(other)] / self._ratio(
                axis, other
            )
        back, origin = self._layer.inverse_part(self._hidden)
        result[self._hidden] = back @ world + origin
        return result

    def _slider(self, axis: int) -> float | None:
        """Where the viewer's slider stands along one of the layer's axes, its data coordinates."""
        point, number = self._plane.point, axis - self._layer.ndim
        if point is None or -number > len(point):
            return None
        return float((point[number] - self._layer.offset[axis]) / self._layer.linear[axis, axis])

    # -- units --------------------------------------------------------------------------------

    def _conversion(self) -> bool:
        ours, theirs = self._layer.units, self._image.units
        if not self._plane.is_unit_aware or ours is None or theirs is None:
            return False
        # Without a viewer to say it: napari converts nothing where something does not compare.
        return same_kind(ours, theirs)

    def _ratio(self, axis: int, other: int) -> float:
        """How many of the image's units along an axis one of the layer's is."""
        ours, theirs = self._layer.units, self._image.units
        if not self._units or ours is None or theirs is None:
            return 1.0
        return unit_ratio(ours[axis], theirs[other])


def _checked_channel_axis(axis: int, shape: tuple[int, ...], shown: tuple[int, int]) -> int:
    ndim = len(shape)
    if ndim < 3 or not -ndim <= axis < ndim:
        raise ValueError(
            f"channel_axis is {axis}, expected one of the axes of an image layer with at least "
            f"three; this one has shape {shape} (RGB not counted). Leave it out."
        )
    if axis % ndim in shown:
        raise ValueError(
            f"channel_axis is {axis}, and the viewer displays that axis as rows or columns. "
            "Roll the displayed axes back, or choose another axis for the channels."
        )
    return axis % ndim


def _world_point(point: Sequence[float], ndim: int) -> NDArray[np.float64]:
    padded = list(itertools.repeat(0.0, ndim - len(point))) + list(point)
    return np.array(padded[len(padded) - ndim :], dtype=np.float64)


def _is_unit_aware(dims: Any) -> bool:
    """Whether units count: from napari 0.9 on, while those of all layers compare."""
    if dims is not None:
        return getattr(dims, "units", None) is not None
    try:
        from napari.components import Dims
    except ImportError:
        return False
    return "units" in Dims.model_fields
