"""What layers say to those who measure objects, and the table that a Labels layer keeps of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers.geometry import is_rgb, plane_of
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.labels import lie_alike
from napari_pisam.layers.transforms import placement_of, unit_ratio
from napari_pisam.measure.regions import Pixel, measure_objects, with_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.geometry import ImagePlane

_SHORT = {"pixel": "px", "micrometer": "um", "nanometer": "nm", "millimeter": "mm"}
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
    unit = _SHORT.get(str(of_rows), str(of_rows))
    if unit == "px" and (height, width) != (1.0, 1.0):
        unit = "units"
    return Pixel(height, width * unit_ratio(of_cols, of_rows), unit)


def channels_of(
    layers: Iterable[Any], image: Any, plane: ImagePlane
) -> list[tuple[tuple[str, ...], ImageSource]]:
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


def measuring_job(layer: Any, layers: Iterable[Any]) -> Callable[[], dict[int, dict[str, float]]]:
    """Return a job that measures a flat Labels layer, for a worker; names have their units.

    Parameters
    ----------
    layer : napari Labels layer
    layers : iterable of napari layer
        The viewer's: the first Image layer that lies on the same pixels gives the intensities.

    Raises
    ------
    ValueError
        If it is a stack.
    """
    if layer.ndim != 2 or layer.multiscale:
        raise ValueError(
            f"The Labels layer {layer.name!r} is a stack or a pyramid. Measure its slices in the "
            "Segment dock, or take one out of it."
        )
    plane = plane_of(layer)
    labels, pixel = layer.data, pixel_of(layer, plane)
    shape = tuple(labels.shape)
    images = [one for one in layers if type(one).__name__ == "Image" and one.ndim == 2]
    on_top = [one for one in images if plane_of(one).size == shape and lie_alike(one, layer)]
    pictures = channels_of(layers, on_top[0], plane_of(on_top[0])) if on_top else []

    def job() -> dict[int, dict[str, float]]:
        window = slice(0, shape[0]), slice(0, shape[1])
        names = [name for of_one, _ in pictures for name in of_one]
        read = [source.read(window) for _, source in pictures]
        values = np.concatenate(read, axis=-1) if read else None
        rows = measure_objects(
            np.asarray(labels), values, pixel=pixel, channels=() if names == [""] else names
        )
        return {
            number: {with_unit(name, pixel.unit): value for name, value in row.items()}
            for number, row in rows.items()
        }

    return job
