"""The mask that is being corrected, as a Labels layer no larger than the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers.prompt_layers import prompt_axes
from napari_pisam.layers.transforms import transform_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.mask import Mask

PREVIEW_COLOR = "#f0e442"
"""Yellow: neither a click's colour nor the boxes', and seen beside both by the colour-blind."""


def new_preview_layer(
    viewer: Any, image: Any, plane: ImagePlane, *, name: str = "Pi-SAM preview"
) -> Any:
    """Add a Labels layer for `show_preview`; empty, and not to be edited by hand.

    Returns
    -------
    napari.layers.Labels
    """
    from napari.utils.colormaps import DirectLabelColormap

    axes = prompt_axes(image, plane.channel_axis)
    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent", 1: PREVIEW_COLOR}
    layer = viewer.add_labels(
        np.zeros((1,) * len(axes), dtype=np.uint8),
        name=name,
        opacity=0.5,
        colormap=DirectLabelColormap(color_dict=colors),
        **transform_of(image, axes),
    )
    layer.editable = False
    return layer


def show_preview(layer: Any, image: Any, plane: ImagePlane, mask: Mask | None) -> None:
    """Show a mask, or nothing.

    The layer's data become the mask's window, and its translation the window's place: a mask in
    an image of any size costs what the object costs.

    Parameters
    ----------
    layer : napari Labels layer
        From `new_preview_layer`.
    image : napari Image layer
        Where the mask lies; never changed.
    plane : ImagePlane
        Of the image.
    mask : Mask or None
    """
    axes = prompt_axes(image, plane.channel_axis)
    crop, corner = np.zeros((1, 1), dtype=np.uint8), (0, 0)
    if mask is not None and mask.crop.size:
        crop, corner = mask.crop.view(np.uint8), (mask.bbox[0], mask.bbox[1])
    origin = [0 if index is None else index for index in plane.index]
    origin[plane.axes[0]], origin[plane.axes[1]] = corner
    place = transform_of(image, axes, origin)
    data = _in_layer(crop, plane)[(0,) * (len(plane.shape) - len(axes))]
    # One drawing for both: the mask must never be seen at the last one's place.
    if "translate" in place:
        layer.translate = place["translate"]
    else:
        layer.affine = place["affine"]
    layer.data = data
    # New data make a layer editable again.
    layer.editable = False


def _in_layer(crop: NDArray[np.uint8], plane: ImagePlane) -> NDArray[np.uint8]:
    """Give the crop the image's axes: one index of those that are sliced, all channels."""
    rows, cols = plane.axes
    block = crop if rows < cols else crop.T
    shape = [1] * len(plane.shape)
    shape[rows], shape[cols] = crop.shape
    block = block.reshape(shape)
    if plane.channel_axis is not None:
        block = np.repeat(block, plane.shape[plane.channel_axis], axis=plane.channel_axis)
    return block
