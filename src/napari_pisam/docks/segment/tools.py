"""Which tool is in the hand, and what a click or a drag with it means. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_pisam.docks.segment.layer_choice import LayerChoice

_MODES = {"boxes": "add_rectangle", "clicks": "add"}
TOOLS = {
    "boxes": ("boxes", ("add_rectangle",)),
    "clicks": ("clicks", ("add",)),
    "scribble": ("boxes", ("add_path", "add_polyline", "add_line")),
    "outline": ("boxes", ("add_polygon_lasso", "add_polygon")),
}
"""By tool: on which layer it draws, and in which of its modes; the first one is taken."""
# How far a hand moves while it clicks, px of the screen; napari's own measure for points.
_STILL = 5.0


class Tools:
    """Follows the selected layer and its mode, and listens to the mouse on boxes and clicks.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose selection.
    choice : LayerChoice
        Whose boxes and clicks.

    Attributes
    ----------
    changed : Signal()
        Another tool, or none, is in the hand.
    clicked : Signal(object)
        A plain click with the box tool, at world coordinates; the tiny box that napari made of it
        is gone already.
    panned : Signal()
        A drag with the click tool: it moved the view.
    """

    changed = Signal()
    clicked = Signal(object)
    panned = Signal()

    def __init__(self, viewer: Any, choice: LayerChoice) -> None:
        self._selection, self._choice = viewer.layers.selection, choice
        self._followed: dict[str, Any] = {"boxes": None, "clicks": None}
        # napari compares callbacks by identity, and a bound method is another one each time.
        self._presses: dict[str, Callable[[Any, Any], Iterator[None]]] = {
            "boxes": self._on_box_press,
            "clicks": self._on_click_press,
        }
        choice.changed.connect(self._on_chosen)
        self._selection.events.active.connect(self._tell)

    @property
    def role(self) -> str:
        """What a drag or a click on the canvas makes, one of `TOOLS`; else empty."""
        for tool, (role, modes) in TOOLS.items():
            layer = self._choice[role]
            if layer is not None and layer is self._selection.active and str(layer.mode) in modes:
                return tool
        return ""

    def close(self) -> None:
        """Let go of the layers."""
        self._choice.changed.disconnect(self._on_chosen)
        self._selection.events.active.disconnect(self._tell)
        for role in self._followed:
            self._follow(role, None)

    def _on_chosen(self, role: str) -> None:
        if role in self._followed:
            self._follow(role, self._choice[role])
        self.changed.emit()

    def _tell(self, _event: Any = None) -> None:
        self.changed.emit()

    def _follow(self, role: str, layer: Any) -> None:
        before, self._followed[role] = self._followed[role], layer
        if before is layer:
            return
        if before is not None:
            before.events.mode.disconnect(self._on_mode)
            if self._presses[role] in before.mouse_drag_callbacks:
                before.mouse_drag_callbacks.remove(self._presses[role])
        if layer is not None:
            layer.events.mode.connect(self._on_mode)
            layer.mouse_drag_callbacks.append(self._presses[role])

    def _on_mode(self, _event: Any) -> None:
        # After napari's own, which has to have finished the box first.
        for role, layer in self._followed.items():
            if layer is not None and layer.mouse_drag_callbacks[-1:] != [self._presses[role]]:
                layer.mouse_drag_callbacks.remove(self._presses[role])
                layer.mouse_drag_callbacks.append(self._presses[role])
        self.changed.emit()

    def _on_box_press(self, layer: Any, event: Any) -> Iterator[None]:
        if str(layer.mode) != _MODES["boxes"]:
            return
        start, count = np.array(event.pos), len(layer.data)
        yield
        while event.type == "mouse_move":
            yield
        if _distance(start, event.pos) < _STILL and len(layer.data) == count > 0:
            layer.remove([count - 1])
            self.clicked.emit(tuple(event.position))

    def _on_click_press(self, layer: Any, event: Any) -> Iterator[None]:
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if str(layer.mode) == _MODES["clicks"] and _distance(start, event.pos) >= _STILL:
            self.panned.emit()


def _distance(start: Any, stop: Any) -> float:
    return float(np.hypot(*(np.asarray(stop)[:2] - start[:2])))
