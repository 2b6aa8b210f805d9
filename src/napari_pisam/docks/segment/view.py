"""Where the viewer looks. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_pisam.layers.geometry import ImagePlane


def centre_view(
    viewer: Any, image: Any, plane: ImagePlane, bounds: tuple[float, float, float, float]
) -> None:
    """Bring a part of an image's plane into the middle of the canvas; the zoom stays.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari Image layer
    plane : ImagePlane
        Of the image, displayed now.
    bounds : 4 floats
        (row0, col0, row1, col1) px.
    """
    place = [0.0 if index is None else float(index) for index in plane.index]
    place[plane.axes[0]] = (bounds[0] + bounds[2]) / 2
    place[plane.axes[1]] = (bounds[1] + bounds[3]) / 2
    world = image.data_to_world(place)
    first = viewer.dims.ndim - len(world)
    camera = getattr(viewer, "scene", viewer).camera
    shown = [float(world[axis - first]) for axis in viewer.dims.displayed[-2:]]
    camera.center = (*camera.center[:-2], *shown)
