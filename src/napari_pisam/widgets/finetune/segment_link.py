"""The Segment dock as the Fine-tune dock sees it, where it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QDockWidget

from napari_pisam.layers.proxies import unwrapped

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.widgets.segment import SegmentWidget

_PLUGIN, _DOCK = "napari-pisam", "Pi-SAM: Segment"


class DockedSegment:
    """What was committed in *Segment*, and its model.

    Parameters
    ----------
    widget : SegmentWidget
    """

    def __init__(self, widget: SegmentWidget) -> None:
        self._widget = widget

    def sessions(self) -> list[tuple[Any, Any, Any]]:
        """List (image layer, plane, session) of every plane that was worked on."""
        self._widget.controller.workspace.sync.flush()
        found = self._widget.controller.workspace.planes.sessions
        return [(image, plane, one) for image, of in found.items() for plane, one in of.items()]

    def list_results(self) -> None:
        """Offer new results in the dock's list of models."""
        self._widget.model_panel.models.list_results()

    def use(self, weights: Path, device: str) -> bool:
        """Choose a model in the dock's list, and load it, unless one is being loaded."""
        dock = self._widget.parent()
        if isinstance(dock, QDockWidget) and dock.isHidden():
            dock.show()
        if self._widget.loader.is_loading:
            return False
        panel = self._widget.model_panel
        panel.models.list_results()
        # A result has the name of its run, wherever it is shown.
        panel.models.choose_file(str(weights), weights.parent.name)
        panel.devices.setCurrentText(device)
        self._widget.loader.load(str(weights), device)
        return True


def find_segment(viewer: Any, *, open_it: bool = False) -> DockedSegment | None:
    """Find the Segment dock of a viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    open_it : bool
        Open it where it is not open.
    """
    from napari_pisam.widgets.segment import SegmentWidget

    viewer = unwrapped(viewer)
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, SegmentWidget):
            return DockedSegment(widget)
    if open_it:
        _, widget = viewer.window.add_plugin_dock_widget(_PLUGIN, _DOCK, tabify=True)
        return DockedSegment(widget)
    return None
