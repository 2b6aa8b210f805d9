"""An opened image file as an Image layer: a new one, or in the place of another picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers.geometry import is_rgb, spatial_shape

if TYPE_CHECKING:
    from napari_pisam.images.image_files import ImageFile


@dataclass(frozen=True)
class Picture:
    """What a layer needs to show an image file; has what an Image layer has of it.

    Attributes
    ----------
    name : str
    data : array or list of arrays
        A list is a pyramid.
    rgb : bool
    contrast_limits : (float, float)
        The least and the largest value, as napari finds them.
    scale, units : tuple
        Of every axis; RGB is not counted.
    """

    name: str
    data: Any
    rgb: bool
    contrast_limits: tuple[float, float]
    scale: tuple[float, ...]
    units: tuple[str, ...]

    # What tells a layer from an array: see `image_source_of`.
    data_to_world = None

    @property
    def multiscale(self) -> bool:
        """Whether it is a pyramid."""
        return isinstance(self.data, list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, level 0; RGB is not counted."""
        return spatial_shape(self)


def picture_of(file: ImageFile, name: str) -> Picture:
    """Prepare an opened file to be shown; in any thread.

    Raises
    ------
    ValueError
        If it has no pixels, or cannot be read.
    """
    from napari.layers.utils.layer_utils import calc_data_range

    data, rgb = _samples_last(file)
    if 0 in file.shape:
        raise ValueError(f"{file.path} has shape {file.shape}, expected an image with pixels.")
    coarsest = data[-1] if isinstance(data, list) else data
    low, high = (float(value) for value in calc_data_range(coarsest, rgb=rgb))
    limits = (low, high) if np.isfinite((low, high)).all() and high > low else (low, low + 1)
    ndim = len((data[0] if isinstance(data, list) else data).shape) - rgb
    size, units = file.pixel_size
    extra = ndim - len(size) if size else ndim
    return Picture(
        name, data, rgb, limits, (1.0,) * extra + size, ("pixel",) * extra + _known(units)
    )


def _samples_last(file: ImageFile) -> tuple[Any, bool]:
    """Return an image's numbers as napari takes them, and whether the last axis is RGB."""
    data = file.data
    if "S" not in file.axes:
        return data, "Q" in file.axes and is_rgb(data)
    axis = file.axes.index("S")
    if isinstance(data, np.ndarray):
        data = np.moveaxis(data, axis, -1)[..., : file.samples]
        if file.samples == 1:
            return data[..., 0], False
        # Two samples, or five: one after the other, by a slider.
        return (data, True) if file.is_rgb else (np.moveaxis(data, -1, 0), False)
    return data, file.is_rgb and axis == len(file.axes) - 1


def _known(units: tuple[str, ...]) -> tuple[str, ...]:
    """Return units that napari knows, pixels for others."""
    import pint

    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    known = []
    for unit in units:
        try:
            registry.Unit(unit)
        except (ValueError, AttributeError, TypeError, pint.UndefinedUnitError):
            unit = "pixel"
        known.append(unit)
    return tuple(known)


def can_show_in(layer: Any, picture: Picture) -> bool:
    """Whether an Image layer can show a picture in the place of its own."""
    same = layer.rgb == picture.rgb and layer.multiscale == picture.multiscale
    return bool(same and layer.ndim == len(picture.shape))


def add_picture(viewer: Any, picture: Picture) -> Any:
    """Add an Image layer for a picture, below all others."""
    layer = viewer.add_image(
        picture.data,
        name=picture.name,
        rgb=picture.rgb,
        multiscale=picture.multiscale,
        scale=picture.scale,
        units=picture.units,
        **({} if picture.rgb else {"contrast_limits": picture.contrast_limits}),
    )
    viewer.layers.move(viewer.layers.index(layer), 0)
    return layer


def show_picture(layer: Any, picture: Picture, *, keep_contrast: bool = False) -> None:
    """Show another picture in an Image layer; its look stays.

    Parameters
    ----------
    layer : napari Image layer
        See `can_show_in`.
    picture : Picture
    keep_contrast : bool
        Whether the contrast limits stay, too: somebody chose them.
    """
    place_like(layer, picture.scale, picture.units)
    layer.data = picture.data
    layer.name = picture.name
    if not keep_contrast and not picture.rgb:
        layer.contrast_limits_range = picture.contrast_limits
        layer.contrast_limits = picture.contrast_limits


def place_like(layer: Any, scale: Any, units: Any) -> None:
    """Give a layer a scale and units where it has others; napari redraws for the same, too."""
    if not np.array_equal(layer.scale, scale):
        layer.scale = scale
    if [str(unit) for unit in layer.units] != [str(unit) for unit in units]:
        layer.units = units


def replace_labels(layer: Any, labels: Any, image: Any, name: str) -> None:
    """Show an image's labels in a Labels layer that had those of another image."""
    axes = range(image.ndim - len(labels.shape), image.ndim)
    place_like(layer, np.asarray(image.scale)[list(axes)], [image.units[axis] for axis in axes])
    layer.data = labels
    layer.name = name
    layer.features = {}
    layer.selected_label = 1
    # napari's own undo would paint strokes of the other image into these.
    getattr(layer, "_reset_history", lambda: None)()
