"""The mask that is being corrected, as a Labels layer no larger than the mask."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import seen_in
from napari_pisam.layers.prompt_layers import prompt_axes
from napari_pisam.layers.transforms import transform_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.mask import Mask

PREVIEW_COLORS = {
    # Neither a click's colour nor the boxes', and seen beside both by the colour-blind.
    "yellow": "#f0e442",
    "magenta": "#ff40ff",
    "cyan": "#40ffff",
}
"""What a preview can be drawn in; the first one suits grey and RGB images."""

# Of the circle of hues; below it, two colours are hard to tell where one is half transparent.
_DISTINCT = 0.25
# Less colourful samples of a colormap (saturation times value) have no hue that is seen.
_COLOURFUL = 0.3
_WINDOW = "napari_pisam_window"
# Around a mask, and what an empty preview may still cover.
_MARGIN_PX = 16
_EMPTY_PIXELS = 1 << 22


def new_preview_layer(
    viewer: Any, image: Any, plane: ImagePlane, *, name: str = "Pi-SAM preview"
) -> Any:
    """Add a Labels layer for `show_preview`; empty, and not to be edited by hand.

    Returns
    -------
    napari.layers.Labels
    """
    axes = prompt_axes(image, plane.channel_axis)
    layer = viewer.add_labels(
        np.zeros((1,) * len(axes), dtype=np.uint8),
        name=name,
        opacity=0.5,
        **transform_of(image, axes),
    )
    color_preview(layer, color_unlike(image))
    layer.editable = False
    return layer


def color_preview(layer: Any, color: str) -> None:
    """Draw a preview in one of `PREVIEW_COLORS`."""
    from napari.utils.colormaps import DirectLabelColormap

    colors: dict[int | None, Any] = {0: "transparent", 1: PREVIEW_COLORS[color]}
    layer.colormap = DirectLabelColormap(color_dict={None: "transparent"} | colors)


def color_unlike(image: Any) -> str:
    """Return the name of a preview's colour that is not one of an Image layer's colormap."""
    if image.rgb:
        return next(iter(PREVIEW_COLORS))
    # What is dark shows no hue, and most of a picture is.
    samples = np.asarray(image.colormap.map(np.linspace(0.25, 1, 16)), dtype=np.float64)
    seen = [colorsys.rgb_to_hsv(*sample[:3]) for sample in samples]
    hues = [hue for hue, saturation, value in seen if saturation * value >= _COLOURFUL]

    def distance(name: str) -> float:
        text = PREVIEW_COLORS[name]
        red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
        own = colorsys.rgb_to_hsv(red, green, blue)[0]
        # The first of those that are far enough, else the farthest.
        return min([_DISTINCT, *(0.5 - abs(abs(hue - own) - 0.5) for hue in hues)])

    return max(PREVIEW_COLORS, key=distance)


def show_preview(layer: Any, image: Any, plane: ImagePlane, mask: Mask | None) -> None:
    """Show a mask, or nothing.

    The layer's data are a window around the mask, and its translation the window's place: a mask
    in an image of any size costs what the object costs.

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
    key = (0,) * (len(plane.shape) - len(axes))
    window = _window(layer, plane, mask)
    nothing = np.zeros((0, 0), dtype=np.bool_), (0, 0, 0, 0)
    crop, bbox = nothing if mask is None else (mask.crop, mask.bbox)
    block = seen_in(window, crop, bbox).astype(np.uint8)
    data = _in_layer(block, plane)[key]
    origin = [0 if index is None else index for index in plane.index]
    origin[plane.axes[0]], origin[plane.axes[1]] = window[:2]
    place = transform_of(image, axes, origin)
    name = "translate" if "translate" in place else "affine"
    is_here = np.array_equal(np.asarray(getattr(layer, name)), np.asarray(place[name]))
    layer.metadata[_WINDOW] = plane, window
    if is_here and layer.data.shape == data.shape:
        # A layer that stays where it is costs a tenth of one that napari has to place anew.
        layer.data[...] = data
        layer.refresh(extent=False, thumbnail=False)
        return
    # One drawing for both: the mask must never be seen at the last one's place.
    setattr(layer, name, place[name])
    layer.data = np.array(data)
    # New data make a layer editable again.
    layer.editable = False


def _window(layer: Any, plane: ImagePlane, mask: Mask | None) -> Bbox:
    """Return the part of the plane that the layer covers: as before where the mask fits into that.

    A little more than the mask, for clicks to change it, and never many times as much.
    """
    before, window = layer.metadata.get(_WINDOW, (None, (0, 0, 1, 1)))
    if mask is None or not mask.crop.size:
        area = (window[2] - window[0]) * (window[3] - window[1])
        return window if before == plane and area <= _EMPTY_PIXELS else (0, 0, 1, 1)
    row0, col0, row1, col1 = mask.bbox
    more = _MARGIN_PX + max(row1 - row0, col1 - col0) // 4
    height, width = plane.size
    around = (
        max(row0 - more, 0),
        max(col0 - more, 0),
        min(row1 + more, height),
        min(col1 + more, width),
    )
    holds = window[0] <= row0 and window[1] <= col0 and window[2] >= row1 and window[3] >= col1
    area = (window[2] - window[0]) * (window[3] - window[1])
    wanted = (around[2] - around[0]) * (around[3] - around[1])
    return window if before == plane and holds and area <= 4 * wanted else around


def _in_layer(crop: NDArray[np.uint8], plane: ImagePlane) -> NDArray[np.uint8]:
    """Return the crop with the image's axes: one index of those that are sliced, all channels."""
    rows, cols = plane.axes
    block = crop if rows < cols else crop.T
    shape = [1] * len(plane.shape)
    shape[rows], shape[cols] = crop.shape
    block = block.reshape(shape)
    if plane.channel_axis is not None:
        block = np.repeat(block, plane.shape[plane.channel_axis], axis=plane.channel_axis)
    return block
