"""Showing what was written to labels: the windows that changed, not the whole plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.images.crops import Bbox
    from napari_pisam.layers.labels import LabelsPlane

# What OpenGL takes as one texture nearly everywhere; napari shows larger planes reduced.
_TEXTURE = 16_384
# Pixels that the graphics card gets in one piece rather than in many small ones.
_ONE_PIECE = 1 << 20
# A picture reduced by more than this is no picture of the plane: the layer was not drawn yet.
_LARGEST_STEP = 64


def refresh_labels_windows(
    labels: LabelsPlane, windows: Sequence[Bbox], *, is_displayed: bool = False
) -> None:
    """Show what was written to windows.

    Parameters
    ----------
    labels : LabelsPlane
    windows : sequence of 4 int
        (row0, col0, row1, col1) each, half open.
    is_displayed : bool
        True if the viewer displays this very plane now. Then only the windows are sent to the
        graphics card where that can be; otherwise the displayed plane.
    """
    layer = labels.layer
    # 8 and 16 bits are what the card gets; others napari has to convert.
    is_plain = isinstance(layer.data, np.ndarray) and layer.data.dtype in (np.uint8, np.uint16)
    # Since napari 0.4.19.
    partial = getattr(layer.events, "labels_update", None)
    can_be = is_displayed and is_plain and layer.visible and not layer.contour
    if partial is None or not can_be:
        layer.refresh(extent=False, thumbnail=False)
    elif max(labels.shape) <= _TEXTURE:
        for row0, col0, row1, col1 in _joined(windows):
            partial(data=np.array(labels[row0:row1, col0:col1]), offset=[row0, col0])
    elif not _draw_reduced(labels, _joined(windows), partial):
        layer.refresh(extent=False, thumbnail=False)


def _draw_reduced(labels: LabelsPlane, windows: Sequence[Bbox], partial: Any) -> bool:
    """Send windows of a plane that is too large for one texture; whether that was possible.

    napari draws every second (third, ...) row and column of such a plane, and draws all of it
    anew when it is told of a part. So the texture is written here, as napari does it for smaller
    planes: `node._texture` is so in napari 0.5 to 0.9; where it is not, the plane is refreshed.
    """
    pictures = []
    for callback in partial.callbacks:
        if callback is labels.layer.events:
            continue  # all events of a layer are passed on to this
        # Who draws the layer listens to this event: one for each canvas.
        owner = callback[0]() if isinstance(callback, tuple) else None
        node = getattr(owner, "node", None)
        texture = getattr(node, "_texture", None)
        if node is None or texture is None or not hasattr(texture, "scale_and_set_data"):
            return False
        shape, sides = labels.shape, texture.shape[:2]
        steps = [-(-size // side) for size, side in zip(shape, sides, strict=True)]
        fits = [-(-size // step) for size, step in zip(shape, steps, strict=True)] == list(sides)
        if not fits or max(steps) > _LARGEST_STEP:
            return False
        pictures.append((node, texture, steps))
    for node, texture, (down, across) in pictures:
        for row0, col0, row1, col1 in windows:
            # The first row and column of the window that are drawn.
            top, left = -(-row0 // down), -(-col0 // across)
            part = labels[top * down : row1 : down, left * across : col1 : across]
            if part.size:
                texture.scale_and_set_data(np.array(part), offset=(top, left), copy=False)
        node.update()
    return bool(pictures)


def _joined(windows: Sequence[Bbox]) -> Sequence[Bbox]:
    """Leave out empty windows; one around all where that is little to send."""
    full = [window for window in windows if window[2] > window[0] and window[3] > window[1]]
    if len(full) < 2:
        return full
    corners = np.array(full)
    row0, col0 = (int(value) for value in corners[:, :2].min(axis=0))
    row1, col1 = (int(value) for value in corners[:, 2:].max(axis=0))
    return [(row0, col0, row1, col1)] if (row1 - row0) * (col1 - col0) <= _ONE_PIECE else full
