"""What layers say to those who measure objects, and the table that a Labels layer keeps of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.pixel_size import unit_written
from napari_pisam.layers.geometry import is_rgb, plane_of, spatial_shape
from napari_pisam.layers.images import axis_name, image_source_of
from napari_pisam.layers.transforms import lie_alike, placement_of, unit_ratio
from napari_pisam.measure.regions import Pixel, measure_objects, named
from napari_pisam.measure.volumes import measure_volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.geometry import ImagePlane

    Channels = list[tuple[tuple[str, ...], ImageSource]]
    Rows = dict[int, dict[str, float]]

_COLOURS = ("red", "green", "blue")
# Of napari's own features of labels: which label a line is about.
_INDEX = "index"


def pixel_of(image: Any, plane: ImagePlane) -> Pixel:
    """Return how large a pixel of a plane is in the world, in the unit of its rows' axis.

    A layer that is scaled and has no unit is measured in ``units``: its pixels are none of the
    picture's any more.
    """
    place = placement_of(image)
    height, width = (float(np.linalg.norm(place.linear[:, axis])) for axis in plane.axes)
    if place.units is None:
        return Pixel(height, width)
    of_rows, of_cols = (place.units[axis] for axis in plane.axes)
    unit = "px" if str(of_rows) == "pixel" else unit_written(str(of_rows), "short")
    if unit == "px" and (height, width) != (1.0, 1.0):
        unit = "units"
    return Pixel(height, width * unit_ratio(of_cols, of_rows), unit)


def voxel_of(image: Any, plane: ImagePlane, axis: int) -> Pixel | None:
    """Return `pixel_of` with the distance of the slices along an axis.

    None where that is no length as the pixel's sides are: the slices are times.
    """
    pixel, place = pixel_of(image, plane), placement_of(image)
    depth = float(np.linalg.norm(place.linear[:, axis]))
    if axis_name(image, axis).lower() in ("t", "time"):
        return None
    if place.units is not None:
        of_slices, of_rows = place.units[axis], place.units[plane.axes[0]]
        if of_slices.dimensionality != of_rows.dimensionality:
            return None
        depth *= unit_ratio(of_slices, of_rows)
        if pixel.unit == "px" and depth != 1:
            pixel = replace(pixel, unit="units")
    return replace(pixel, depth=depth)


def channels_of(layers: Iterable[Any], image: Any, plane: ImagePlane) -> Channels:
    """Find the pictures whose intensities an object has: an image's, and those on top of it.

    Parameters
    ----------
    layers : iterable of napari layer
        All of the viewer.
    image : napari Image layer
        That is segmented.
    plane : ImagePlane
        Of it.

    Returns
    -------
    list of (tuple of str, ImageSource)
        The names of a picture's channels, and its pixels: of the image itself, then of every
        other Image layer that has the same pixels in the same place.
    """
    others = [
        one
        for one in layers
        if type(one).__name__ == "Image" and one is not image and _is_alike(one, image)
    ]
    found = []
    for one in (image, *others):
        source = image_source_of(one, plane).source
        found.append((_channel_names(one, source.n_channels, is_alone=not others), source))
    return found


def _is_alike(one: Any, image: Any) -> bool:
    if is_rgb(one) != is_rgb(image) or one.ndim != image.ndim or one.multiscale != image.multiscale:
        return False
    levels = (layer.data[0] if layer.multiscale else layer.data for layer in (one, image))
    first, second = (tuple(level.shape) for level in levels)
    return first == second and lie_alike(one, image)


def _channel_names(layer: Any, count: int, *, is_alone: bool) -> tuple[str, ...]:
    names: tuple[str, ...] = ("",)
    if count > 1:
        names = _COLOURS if is_rgb(layer) else tuple(str(n) for n in range(1, count + 1))
    if is_alone:
        return names
    return tuple(f"{layer.name} {name}".strip() for name in names)


def set_label_features(
    layer: Any, rows: Mapping[int, Mapping[str, Any]], gone: Iterable[int] = ()
) -> None:
    """Write measures of labels into a Labels layer's features; what others wrote there stays.

    Parameters
    ----------
    layer : napari Labels layer
        The one that results go to.
    rows : mapping of int to mapping of str to float or str
        By label.
    gone : iterable of int
        Labels that had a line here and have none any more.
    """
    import pandas as pd  # type: ignore[import-untyped]

    before = layer.features
    # Without that column napari takes the lines' numbers for labels.
    kept = before.set_index(_INDEX) if _INDEX in before else before
    kept = kept.drop(index=[label for label in gone if label in kept.index])
    new = pd.DataFrame.from_dict(dict(rows), orient="index")
    columns = [*kept.columns, *(name for name in new.columns if name not in kept.columns)]
    table = new.combine_first(kept)[columns] if len(new) else kept
    layer.features = table.rename_axis(_INDEX).reset_index()


class _Pictures:
    """Pictures in all slices along an axis, (Z, H, W, C), read by slice, rows and columns."""

    def __init__(self, sources: Sequence[ImageSource], plane: ImagePlane, axis: int) -> None:
        self._sources, self._plane, self._axis = sources, plane, axis
        self._leading = [one for one in plane.sliced if one != plane.channel_axis]
        self.shape = (plane.shape[axis], *plane.size)

    def __getitem__(self, key: tuple[int, slice, slice]) -> NDArray[Any]:
        places = self._plane.at(self._axis, key[0]).index
        at = [places[axis] or 0 for axis in self._leading]
        read = [source.at(at).read((key[1], key[2])) for source in self._sources]
        return np.concatenate(read, axis=-1)


def volumes_job(
    labels: Any, channels: Channels, plane: ImagePlane, axis: int, pixel: Pixel
) -> Callable[[], Rows]:
    """Return a job that measures objects through the slices along an axis, for a worker.

    Parameters
    ----------
    labels : (Z, H, W) array of int
    channels : list
        From `channels_of`, for one of the slices.
    plane : ImagePlane
        That slice, of the picture.
    axis : int
        Of the picture.
    pixel : Pixel
        From `voxel_of`.
    """
    names = [name for of_one, _ in channels for name in of_one]
    pictures = _Pictures([source for _, source in channels], plane, axis) if channels else None
    given = () if names == [""] else names
    return lambda: named(measure_volumes(labels, pictures, pixel=pixel, channels=given), pixel.unit)


def measuring_job(layer: Any, layers: Iterable[Any]) -> Callable[[], Rows]:
    """Return a job that measures a Labels layer, for a worker; names have their units.

    Parameters
    ----------
    layer : napari Labels layer
        Of a stack, what goes through its slices is measured, see `measure_volumes`.
    layers : iterable of napari layer
        The viewer's: the first Image layer that lies on the same pixels gives the intensities.

    Raises
    ------
    ValueError
        If it is a pyramid, has more axes, or its slices are times.
    """
    if layer.ndim not in (2, 3) or layer.multiscale:
        raise ValueError(
            f"The Labels layer {layer.name!r} has {layer.ndim} axes or is a pyramid, expected a "
            "plane or a stack. Measure its slices in the Segment dock, or take one out of it."
        )
    index = (0,) * (layer.ndim - 2)
    images = [one for one in layers if type(one).__name__ == "Image" and one.ndim == layer.ndim]
    shape = tuple(layer.data.shape)
    on_top = [one for one in images if spatial_shape(one) == shape and lie_alike(one, layer)]
    plane = plane_of(on_top[0] if on_top else layer, index=index)
    channels = channels_of(layers, on_top[0], plane) if on_top else []
    if index:
        voxel = voxel_of(layer, plane, 0)
        if voxel is None:
            raise ValueError(
                f"The slices of the Labels layer {layer.name!r} are times, which have no volume. "
                "Show tracks in the Segment dock, or take one time out of it."
            )
        return volumes_job(layer.data, channels, plane, 0, voxel)
    labels, pixel = layer.data, pixel_of(layer, plane)

    def job() -> Rows:
        window = slice(0, shape[0]), slice(0, shape[1])
        names = [name for of_one, _ in channels for name in of_one]
        read = [source.read(window) for _, source in channels]
        values = np.concatenate(read, axis=-1) if read else None
        rows = measure_objects(
            np.asarray(labels), values, pixel=pixel, channels=() if names == [""] else names
        )
        return named(rows, pixel.unit)

    return job
