"""Which layer plays which role, through everything that can happen to a layer list. No Qt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.layers.proxies import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROLES = ("image", "boxes", "clicks", "labels")
_KINDS = {"image": "Image", "boxes": "Shapes", "clicks": "Points", "labels": "Labels"}


class LayerChoice:
    """The layer for each role of `ROLES`.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers.
    is_helper : callable
        Whether a layer is one that only shows something, such as the preview.

    Attributes
    ----------
    changed : Signal(str)
        Another layer (or none) plays this role.
    listed : Signal()
        The layers to choose from, or their names, are others.
    """

    changed = Signal(str)
    listed = Signal()

    def __init__(self, viewer: Any, is_helper: Callable[[Any], bool]) -> None:
        self._layers = unwrapped(viewer.layers)
        self._is_helper = is_helper
        self._current: dict[str, Any] = dict.fromkeys(ROLES)
        self._is_paused = False
        events = self._layers.events
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        events.reordered.connect(self._on_listed)
        events.renamed.connect(self._on_listed)

    def close(self) -> None:
        """Stop following the layer list."""
        events = self._layers.events
        for emitter, callback in (
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.reordered, self._on_listed),
            (events.renamed, self._on_listed),
        ):
            emitter.disconnect(callback)

    def __getitem__(self, role: str) -> Any:
        """Return the layer of a role, or None."""
        return self._current[role]

    @property
    def current(self) -> Mapping[str, Any]:
        """The layer of every role."""
        return dict(self._current)

    @property
    def candidates(self) -> dict[str, list[Any]]:
        """The layers that can play each role, the topmost first."""
        from napari import layers

        kinds = {role: getattr(layers, kind) for role, kind in _KINDS.items()}
        return {
            role: [
                layer
                for layer in reversed(self._layers)
                # Labels are images to napari's classes, not to a person.
                if isinstance(layer, kind)
                and not self._is_helper(layer)
                and (role != "image" or not isinstance(layer, layers.Labels))
            ]
            for role, kind in kinds.items()
        }

    def choose(self, role: str, layer: Any) -> None:
        """Choose the layer of a role, or none."""
        layer = unwrapped(layer)
        if layer is not self._current[role]:
            self._current[role] = layer
            self.changed.emit(role)
            self.listed.emit()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take no image by itself meanwhile: somebody is changing layers."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def choose_first_image(self) -> None:
        """Take the selected image, or else the topmost one, where none is chosen."""
        if self._is_paused:
            return
        found = self.candidates["image"]
        if self._current["image"] is None and found:
            active = self._layers.selection.active
            self.choose("image", active if active in found else found[0])

    def _on_inserted(self, _event: Any) -> None:
        self.choose_first_image()
        self.listed.emit()

    def _on_removed(self, event: Any) -> None:
        for role, layer in self._current.items():
            if layer is event.value:
                self.choose(role, None)
        self.listed.emit()

    def _on_listed(self, _event: Any) -> None:
        self.listed.emit()
