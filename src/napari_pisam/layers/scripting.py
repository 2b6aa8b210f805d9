"""Segmentation in one call, for napari's console and for scripts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.label_formats.annotations import painted
from napari_pisam.layers.geometry import PlaneMap, plane_of, spatial_shape
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.prompts import prompts_from_layers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.predict.prompts import Prompts


def segment_layers(
    image_layer: Any,
    *,
    shapes: Any = None,
    points: Any = None,
    predictor: Predictor | None = None,
    model: str | Path = "tiny",
    dims: Any = None,
    channel_axis: int | None = None,
) -> NDArray[np.integer[Any]]:
    """Segment everything that is boxed or clicked on in a plane of an image.

    Parameters
    ----------
    image_layer : napari Image layer, array or list of arrays
        Any transform, number of axes or kind of array. Only the windows that the prompts need
        are read; nothing is changed.
    shapes : napari Shapes layer, optional
        A box for each shape; see `prompts_from_layers`. Feature ``object`` (int): its label.
    points : napari Points layer, optional
        Clicks: features ``label`` (FG or BG; see `is_foreground`) and ``object``. A click without
        an object belongs to the box that holds it, or else to the nearest one within reach; see
        `clicks_by_object`.
    predictor : Predictor, optional
        To use one again: its image becomes this one. A new one by default.
    model : str or Path
        What a new predictor is made of: a variant's name, or a checkpoint file.
    dims : napari.components.Dims, optional
        ``viewer.dims``, for the plane that is displayed. Without it, rows and columns are the
        last two axes, and the plane is the one in which all prompts lie.
    channel_axis : int, optional
        An axis of channels that are seen together.

    Returns
    -------
    (H, W) integer array
        The object's number where an object is, 0 elsewhere; uint16, or uint32 where a number
        needs it. Where objects overlap, the one of the smaller number stays.

    Raises
    ------
    ValueError
        If there is no usable prompt, if it is not known whose a click is or whether it is FG, or
        if there is no such plane, model or channel axis.

    Warns
    -----
    UserWarning
        For every other prompt that is not used, with the reason.
    """
    plane = _plane(image_layer, shapes, points, dims, channel_axis)
    found = prompts_from_layers(image_layer, shapes, points, dims=plane)
    if found.unclear:
        raise ValueError("\n".join(found.unclear))
    for reason in found.ignored:
        warnings.warn(reason, UserWarning, stacklevel=2)
    if not found.prompts:
        raise ValueError(
            "There are no prompts on this plane of the image, expected at least a box or an FG "
            "click. Pass shapes=..., points=... or both; dims=viewer.dims for another plane."
        )
    view = image_source_of(image_layer, plane)
    if predictor is None:
        from napari_pisam.predict.predictor import Predictor as NewPredictor

        predictor = NewPredictor(model)
    predictor.set_image(view.source)
    masks = _predict(predictor, found.prompts)
    return painted({n: (mask.bbox[:2], mask.crop) for n, mask in masks.items()}, view.source.shape)


def _predict(predictor: Predictor, prompts: Mapping[int, Prompts]) -> dict[int, Mask]:
    """Predict every object, those with nothing but a box together."""
    boxed = {number: one for number, one in prompts.items() if one.is_only_box}
    masks: dict[int, Mask] = {}
    if boxed:
        found = predictor.predict_many(list(boxed.values()))
        masks = dict(zip(boxed, found, strict=True))
    for number, one in prompts.items():
        if number not in masks:
            masks[number] = predictor.predict(one).without_logits()
    return {number: masks[number] for number in prompts}


def _plane(image: Any, shapes: Any, points: Any, dims: Any, channel_axis: int | None) -> ImagePlane:
    """Find the plane that is displayed, or without a viewer the one in which all prompts lie."""
    shape = spatial_shape(image)
    if dims is not None or len(shape) == 2:
        return plane_of(image, dims, channel_axis=channel_axis)
    start = plane_of(
        image,
        channel_axis=channel_axis,
        index=(0,) * (len(shape) - 2 - (channel_axis is not None)),
    )
    places: set[tuple[int, ...]] = set()
    for layer in (shapes, points):
        if layer is None or not len(layer.data):
            continue
        vertices = layer.data if layer is points else np.concatenate(list(layer.data))
        places |= PlaneMap(image, start, layer).planes(vertices)
    if len(places) != 1:
        return plane_of(image, channel_axis=channel_axis)
    return plane_of(image, channel_axis=channel_axis, index=places.pop())
