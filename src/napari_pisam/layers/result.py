"""A finished result in a napari window: image, labels, boxes and clicks."""

from __future__ import annotations

from importlib import util
from typing import TYPE_CHECKING, Any

from napari_pisam.layers.prompt_layers import new_prompt_layers, write_prompts
from napari_pisam.system import has_display

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_pisam.predict.prompts import Prompts


def can_show() -> bool:
    """Whether there is a display and napari to open a window with."""
    return has_display() and all(util.find_spec(name) is not None for name in ("napari", "qtpy"))


def show_result(
    image: NDArray[Any], prompts: Mapping[int, Prompts], labels: NDArray[np.integer[Any]]
) -> None:
    """Open napari with an image, its prompts and its labels, and wait until it is closed.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array
        What was segmented.
    prompts : mapping of int to Prompts
        By object.
    labels : (H, W) integer array
        The result.
    """
    import napari

    add_result(napari.Viewer(title="napari-pisam demo"), image, prompts, labels)
    napari.run()


def add_result(
    viewer: Any,
    image: NDArray[Any],
    prompts: Mapping[int, Prompts],
    labels: NDArray[np.integer[Any]],
) -> None:
    """Add the four layers of `show_result` to a viewer: image, labels, clicks, boxes."""
    shown = viewer.add_image(image, name="image")
    viewer.add_labels(labels, name="labels", opacity=0.4)
    shapes, points = new_prompt_layers(viewer, shown)
    for number, one in prompts.items():
        write_prompts(shown, shapes, points, number, one)
    shapes.name, points.name = "boxes", "clicks"
