"""A finished result in a napari window: image, labels, boxes and clicks."""

from __future__ import annotations

from importlib import util
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.layers.style import BOX_COLOR, COLORS, SYMBOLS, click_look, keep_lines_thin
from napari_pisam.system import has_display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box


def can_show() -> bool:
    """Whether there is a display and napari to open a window with."""
    return has_display() and all(util.find_spec(name) is not None for name in ("napari", "qtpy"))


def show_result(
    image: NDArray[Any],
    boxes: Sequence[Box],
    clicks: Sequence[tuple[float, float, bool]],
    labels: NDArray[np.integer[Any]],
) -> None:
    """Open napari with an image, its prompts and its labels, and wait until it is closed.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array
        What was segmented.
    boxes : sequence of 4 floats
        (row_min, col_min, row_max, col_max) px.
    clicks : sequence of (float, float, bool)
        (row, col) px, and whether it is FG.
    labels : (H, W) integer array
        The result.
    """
    import napari

    add_result(napari.Viewer(title="napari-pisam demo"), image, boxes, clicks, labels)
    napari.run()


def add_result(
    viewer: Any,
    image: NDArray[Any],
    boxes: Sequence[Box],
    clicks: Sequence[tuple[float, float, bool]],
    labels: NDArray[np.integer[Any]],
) -> None:
    """Add the four layers of `show_result` to a viewer: image, labels, clicks, boxes."""
    import pandas as pd  # type: ignore[import-untyped]

    viewer.add_image(image, name="image")
    viewer.add_labels(labels, name="labels", opacity=0.4)
    names = ["FG" if click[2] else "BG" for click in clicks]
    points = viewer.add_points(
        np.array([click[:2] for click in clicks], dtype=np.float64).reshape(-1, 2),
        name="clicks",
        features=pd.DataFrame({"label": pd.Categorical(names, categories=list(COLORS))}),
        **click_look(max(labels.shape)),
    )
    points.border_color = [COLORS[name] for name in names] or COLORS["FG"]
    points.symbol = [SYMBOLS[name] for name in names] or SYMBOLS["FG"]
    shapes = viewer.add_shapes(
        [np.reshape(box, (2, 2)) for box in boxes] or None,
        ndim=2,
        shape_type="rectangle",
        edge_color=BOX_COLOR,
        face_color="transparent",
        name="boxes",
        features=pd.DataFrame({"object": np.arange(1, len(boxes) + 1)}),
    )
    keep_lines_thin(shapes)
