"""The layer that shows the mask that is being corrected. No Qt."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_pisam.layers.preview import color_preview, color_unlike, new_preview_layer, show_preview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.mask import Mask

NAME = "Pi-SAM preview"


@dataclass(frozen=True)
class PreviewLook:
    """How the preview is drawn.

    Attributes
    ----------
    opacity : float
        0 to 1.
    outline : bool
        Whether only its edge is shown.
    color : str
        One of `PREVIEW_COLORS`, or empty for one that differs from the image's colormap.
    """

    opacity: float = 0.6
    outline: bool = False
    color: str = ""


def is_preview(layer: Any) -> bool:
    """Whether a layer only shows a preview."""
    return str(layer.name).startswith(NAME)


@contextmanager
def keeping_selection(viewer: Any) -> Iterator[None]:
    """Let new layers not become the selected one: the user is drawing on another."""
    before = set(viewer.layers.selection)
    active = viewer.layers.selection.active
    try:
        yield
    finally:
        kept = [layer for layer in before if layer in viewer.layers]
        if kept:
            viewer.layers.selection = set(kept)
            if active in kept:
                viewer.layers.selection.active = active


def select_only(viewer: Any, layer: Any) -> None:
    """Select a layer and no other.

    In one step, which napari draws once: by `selection.active` there are moments without any layer
    and without its controls.
    """
    selection = viewer.layers.selection
    if set(selection) != {layer}:
        selection.symmetric_difference_update(set(selection) ^ {layer})


def put_below_prompts(viewer: Any, layer: Any) -> None:
    """Leave boxes and clicks above a layer, to be seen and to be caught by the mouse."""
    layers = viewer.layers
    above = [i for i, one in enumerate(layers) if type(one).__name__ in {"Shapes", "Points"}]
    if above and above[0] < layers.index(layer):
        layers.move(layers.index(layer), above[0])


class Preview:
    """Makes the preview layer when there is something to show, again where it was deleted.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where it is shown.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layer: Any = None
        self._image: Any = None
        self._axes: tuple[tuple[int, int], int | None] | None = None
        self._shown: tuple[Any, ImagePlane, Mask] | None = None
        self._look = PreviewLook()
        self._color = ""
        self.is_visible = True

    def show(self, image: Any, plane: ImagePlane | None, mask: Mask | None) -> None:
        """Show a mask of an image's plane, or nothing."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer, self._shown = None, None
        if mask is None or plane is None:
            # Emptied and not removed: this may be called while napari removes layers itself.
            if self._layer is not None and self._shown is not None:
                show_preview(self._layer, *self._shown[:2], None)
            self._shown = None
            return
        self.prepare(image, plane)
        # Asked for at every turn; drawn when it is another one.
        if self._shown is None or self._shown[1] != plane or self._shown[2] is not mask:
            show_preview(self._layer, image, plane, mask)
            self._shown = image, plane, mask

    def prepare(self, image: Any, plane: ImagePlane | None) -> None:
        """Make the layer, empty, where there is none that fits: better than with the first mask.

        napari needs a tenth of a second for a new layer.
        """
        if plane is None:
            return
        axes = plane.axes, plane.channel_axis
        if self._layer is not None and (image is not self._image or axes != self._axes):
            self.remove()
        if self._layer is None or self._layer not in self._viewer.layers:
            with keeping_selection(self._viewer):
                self._layer = new_preview_layer(self._viewer, image, plane, name=NAME)
                put_below_prompts(self._viewer, self._layer)
            self._follow(image)
            self._axes, self._shown, self._color = axes, None, color_unlike(image)
            self.apply()

    def _follow(self, image: Any) -> None:
        """Listen to an image's colormap from now on, and to no other's."""
        if image is not self._image:
            if self._image is not None:
                self._image.events.colormap.disconnect(self._on_colormap)
            if image is not None:
                image.events.colormap.connect(self._on_colormap)
            self._image = image

    def _on_colormap(self, _event: Any) -> None:
        self.apply()

    def apply(self) -> None:
        """Make the layer look as it was chosen, and show or hide it."""
        if self._layer is None or self._image is None:
            return
        self._layer.opacity = self._look.opacity
        self._layer.contour = 1 if self._look.outline else 0
        self._layer.visible = self.is_visible
        color = self._look.color or color_unlike(self._image)
        if color != self._color:
            color_preview(self._layer, color)
            self._color = color

    def set_look(self, look: PreviewLook) -> None:
        """Choose how it is drawn."""
        self._look = look
        self.apply()

    def toggle(self) -> None:
        """Show it or hide it."""
        self.is_visible = not self.is_visible
        self.apply()

    def remove(self) -> None:
        """Take the layer away."""
        if self._layer is not None and self._layer in self._viewer.layers:
            with keeping_selection(self._viewer):
                self._viewer.layers.remove(self._layer)
        self._layer = None
        self._follow(None)
