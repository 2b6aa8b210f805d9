"""A viewer's layers on one side, the session of the displayed plane on the other. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.segment.disk_labels import DiskLabels, has_labels
from napari_pisam.docks.segment.layer_choice import LayerChoice
from napari_pisam.docks.segment.planes import Planes
from napari_pisam.docks.segment.preview import (
    Preview,
    is_preview,
    keeping_selection,
    put_below_prompts,
    select_only,
)
from napari_pisam.docks.segment.prompt_sync import PromptSync
from napari_pisam.docks.segment.tools import TOOLS
from napari_pisam.layers.labels import new_labels_layer
from napari_pisam.layers.prompt_layers import copy_prompts, is_own, new_prompt_layers
from napari_pisam.layers.proxies import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.session.session import Execute, Session

NO_IMAGE = "There is nothing to segment yet. Open an image and choose it in the dock."


_READ_ONLY = (
    "{} was not made here: it is read and stays as it is. To draw on it, press Copy beside it."
)


# How an image is drawn, and what its values are.
_DRAWN = ("contrast_limits", "gamma", "colormap", "opacity", "blending", "visible")
# `set_data` is all that is heard of values that were changed in place.
_LOOKS = (*_DRAWN, "data", "set_data")


class Workspace:
    """Keeps a viewer's layers and a session per plane together, whatever the user does to either.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers are worked on.
    execute : Execute
        Runs a job in the background and delivers on the main thread.
    later : callable, optional
        ``later(call)`` calls it once napari has finished handling its event; at once by default.
    planes : Planes, optional
        Sessions to go on with.

    Attributes
    ----------
    changed : Signal()
        Anything that a dock shows may be different.
    objects_changed : Signal()
        The session's objects, or which one is current.
    busy_changed : Signal(bool)
        Whether something is being predicted.
    failed, hinted : Signal(str)
        A sentence that the user has to see, or that is good to know.
    model_wanted : Signal()
        There is something to predict and no model.
    """

    changed = Signal()
    objects_changed = Signal()
    busy_changed = Signal(bool)
    failed = Signal(str)
    hinted = Signal(str)
    model_wanted = Signal()

    def __init__(
        self,
        viewer: Any,
        execute: Execute,
        later: Callable[[Callable[[], None]], None] = lambda call: call(),
        planes: Planes | None = None,
    ) -> None:
        self.viewer = viewer = unwrapped(viewer)
        self.choice = LayerChoice(viewer, is_preview)
        self.planes = Planes(execute) if planes is None else planes
        self.preview = Preview(viewer)
        self.on_disk = DiskLabels(viewer)
        self.sync = PromptSync(self.planes, self.choice, later)
        self.switches_tools = True
        self._is_told_hidden = False
        self._session: Session | None = None
        self._later = later
        self._written: dict[Any, list[tuple[int, int, int, int]]] = {}
        self.choice.changed.connect(self._on_chosen)
        self.choice.listed.connect(self._tell_changed)
        self.planes.switched.connect(self._on_switched)
        self.planes.failed.connect(self._tell_failed)
        self.planes.said.connect(self._tell_hint)
        self.planes.channels.layers = viewer.layers
        self.planes.channels.changed.connect(self._on_channels)
        self._drawn_layers: list[Any] = []
        self.choice.listed.connect(self._follow_layers)
        self._follow_layers()
        self.sync.rejected.connect(self._tell_hint)
        self.sync.box_drawn.connect(self._on_box)
        viewer.dims.events.connect(self._on_dims)

    @property
    def session(self) -> Session | None:
        """The displayed plane's."""
        return self.planes.session

    def close(self) -> None:
        """Let go of the viewer; what is drawn and written stays."""
        self.viewer.dims.events.disconnect(self._on_dims)
        self._follow_image(self.planes.image, connect=False)
        self._listen(self._session, connect=False)
        self._session = None
        self.planes.switched.disconnect(self._on_switched)
        self.planes.failed.disconnect(self._tell_failed)
        self.planes.said.disconnect(self._tell_hint)
        self.planes.channels.changed.disconnect(self._on_channels)
        self._follow_layers(closing=True)
        self.sync.close()
        self.choice.close()
        self.planes.close()

    # -- layers -------------------------------------------------------------------------------

    def new_prompt_layers(self) -> None:
        """Add layers for boxes and clicks, and one for labels where none fits.

        Raises
        ------
        ValueError
            If there is no image, or no room for the labels.
        """
        image = self.choice["image"]
        if image is None:
            raise ValueError(NO_IMAGE)
        place = self.on_disk.place_of(image, self.planes.channels.axis_of(image))
        if self.planes.labels is None and (place is None or has_labels(place)):
            # On disk they are made with the first object, and not because somebody looks.
            self.new_labels()
        self.preview.prepare(image, self.planes.plane)
        axis = self.planes.channels.axis_of(image)
        shapes, points = new_prompt_layers(self.viewer, image, channel_axis=axis)
        self.choice.choose("boxes", shapes)
        self.choice.choose("clicks", points)
        self.take_tool("boxes")

    def new_labels(self) -> None:
        """Add a Labels layer for the image, on disk where it may be large, and commit to it.

        Raises
        ------
        ValueError
            If there is no image, or no room.
        """
        image = self.choice["image"]
        if image is None:
            raise ValueError(NO_IMAGE)
        place = self.on_disk.place_of(image, self.planes.channels.axis_of(image))
        if place is not None:
            try:
                self.labels_on_disk(place)
                return
            except (ValueError, OSError) as error:
                self._hint_later(
                    f"{error} The labels are in a temporary file now, which goes with napari."
                )
        elif self.on_disk.is_needed(image, self.planes.channels.axis_of(image)):
            self._hint_later(
                "The image is in no folder here, and its labels may be large: they are in a "
                "temporary file, which goes with napari. Files > Labels on disk has a folder."
            )
        self.choice.choose("labels", self.add_labels(image))

    def labels_on_disk(self, path: Path) -> None:
        """Commit to labels on disk, which are made where there are none yet.

        Raises
        ------
        ValueError, OSError
            If there is no image, or labels cannot be there.
        """
        image = self.choice["image"]
        if image is None:
            raise ValueError(NO_IMAGE)
        were_there = has_labels(path)
        with keeping_selection(self.viewer):
            layer = self.on_disk.open(image, path, self.planes.channels.axis_of(image))
            put_below_prompts(self.viewer, layer)
        self.choice.choose("labels", layer)
        what = "are those" if were_there else "are kept"
        self._hint_later(f"The labels {what} in {path}: what is written is on disk at once.")

    def _hint_later(self, text: str) -> None:
        # Objects that are being written tell of themselves first.
        self._later(lambda: self.hinted.emit(text))

    def add_labels(self, image: Any, data: Any = None, name: str | None = None) -> Any:
        """Add a Labels layer for an image; empty without `data`."""
        with keeping_selection(self.viewer):
            axis = self.planes.channels.axis_of(image)
            layer = new_labels_layer(self.viewer, image, name=name, data=data, channel_axis=axis)
            put_below_prompts(self.viewer, layer)
        return layer

    def copy_layer(self, role: str) -> None:
        """Draw on a copy of the layer that is chosen for boxes or clicks from now on."""
        layer = self.choice[role]
        if layer is not None and not is_own(layer):
            self.choice.choose(role, copy_prompts(self.viewer, layer))
            self.take_tool(role)

    def take_tool(self, tool: str) -> None:
        """Select the layer of one of `TOOLS`, in the mode that draws with it."""
        role, modes = TOOLS[tool]
        layer = self.choice[role]
        if layer is not None and not is_own(layer):
            self.hinted.emit(_READ_ONLY.format(layer.name))
        elif layer is not None and layer in self.viewer.layers:
            select_only(self.viewer, layer)
            layer.mode = modes[0]

    def _on_chosen(self, role: str) -> None:
        if role == "image":
            self.sync.flush()
            self.sync.forget_image()
            self._follow_image(self.planes.image, connect=False)
            self.planes.show(self.choice["image"], self.viewer.dims)
            self._follow_image(self.planes.image, connect=True)
        elif role == "labels":
            self.planes.set_labels_layer(self.choice["labels"])
            self.sync.set_targets()
        else:
            self.sync.attach()
            layer = self.choice[role]
            if layer is not None and not is_own(layer):
                self.hinted.emit(_READ_ONLY.format(layer.name))
        self.changed.emit()

    def _follow_image(self, image: Any, *, connect: bool) -> None:
        if image is None:
            return
        for name in (*_LOOKS, "projection_mode"):
            # Modes of projection came with napari 0.5.
            emitter = getattr(image.events, name, None)
            if emitter is not None:
                (emitter.connect if connect else emitter.disconnect)(self._on_look)

    def _follow_layers(self, *, closing: bool = False) -> None:
        """Notice how every image is drawn: several may be seen as one."""
        layers = [] if closing else list(self.choice.candidates["image"])
        for those, others, connect in (
            (self._drawn_layers, layers, False),
            (layers, self._drawn_layers, True),
        ):
            for layer in those:
                if layer in others:
                    continue
                for name in _LOOKS:
                    emitter = getattr(layer.events, name, None)
                    if emitter is not None:
                        (emitter.connect if connect else emitter.disconnect)(self._on_drawn)
        if layers != self._drawn_layers:
            self._drawn_layers = layers
            self.planes.mark_outdated(values=False)

    def _on_drawn(self, event: Any) -> None:
        """Look again at images that are seen as one, when one of them is drawn otherwise."""
        image, is_data = self.planes.image, event.type in ("data", "set_data")
        if image is None or event.source is image:
            return
        if not is_data:
            self.planes.mark_outdated(values=False)
            self.changed.emit()
        elif event.source in self.planes.channels.used_layers(image):
            self.planes.mark_outdated()

    def _on_channels(self, image: Any) -> None:
        if image is self.planes.image:
            self.sync.flush()
            self.planes.mark_outdated(values=False)
            self.planes.show(image, self.viewer.dims)
            self.changed.emit()

    def _tell_hidden(self) -> None:
        """Say once that what is segmented is not what is seen."""
        image = self.planes.image
        if image is not None and not image.visible and not self._is_told_hidden:
            self._is_told_hidden = True
            self.failed.emit(
                f"The image {image.name!r} is hidden, and it is the one that is segmented. Show "
                "it, or choose the image that you see."
            )

    def _on_look(self, event: Any) -> None:
        self.planes.mark_outdated(values=event.type not in _DRAWN)
        if event.type == "visible":
            self._is_told_hidden = False
        if event.type in _DRAWN:
            self._tell_changed()
        self._on_dims(event)

    def _on_dims(self, _event: Any) -> None:
        if self.planes.image is None:
            return
        self.sync.flush()
        self.planes.show(self.planes.image, self.viewer.dims)

    def _on_switched(self) -> None:
        session = self.planes.session
        if session is not self._session:
            self._listen(self._session, connect=False)
            self._session = session
            self._listen(session, connect=True)
        self.sync.attach()
        self._show_mask()
        self.busy_changed.emit(session is not None and session.is_busy)
        self.objects_changed.emit()
        self.changed.emit()

    def _listen(self, session: Session | None, *, connect: bool) -> None:
        if session is None:
            return
        for signal, callback in (
            (session.objects_changed, self._on_objects),
            (session.current_changed, self._on_objects),
            (session.mask_changed, self._on_mask),
            (session.labels_changed, self._on_labels),
            (session.busy_changed, self._tell_busy),
            (session.failed, self._tell_failed),
            (session.history_changed, self._tell_changed),
        ):
            if connect:
                signal.connect(callback)
            else:
                signal.disconnect(callback)

    # -- what the session says ----------------------------------------------------------------

    def _on_objects(self) -> None:
        if self._written:
            self._later(self._refresh_labels)
        self.sync.push()
        self._show_mask()
        self.objects_changed.emit()
        current = None if self.session is None else self.session.current
        has_prompts = current is not None and current.prompts is not None
        if has_prompts:
            self._tell_hidden()
        session = self.session
        if has_prompts and session is not None and session.live and session.model is None:
            self.model_wanted.emit()

    def _tell_busy(self, busy: bool) -> None:
        self.busy_changed.emit(busy)

    def _tell_failed(self, text: str) -> None:
        self.failed.emit(text)

    def _tell_hint(self, text: str) -> None:
        self.hinted.emit(text)

    def _tell_changed(self) -> None:
        self.changed.emit()

    def _on_mask(self, number: int) -> None:
        current = None if self.session is None else self.session.current
        if current is not None and current.id == number:
            self._show_mask()
        self.objects_changed.emit()

    def _on_labels(self, window: tuple[int, int, int, int]) -> None:
        # Drawn when the session has told all that was written in one go, a batch of objects too:
        # napari may have to draw the whole plane each time, half a second at 4,096 px.
        labels = self.planes.labels
        if labels is not None:
            self._written.setdefault(labels, []).append(window)

    def _refresh_labels(self) -> None:
        written, self._written = self._written, {}
        for labels, windows in written.items():
            self.planes.refresh_labels(labels, windows, self.viewer.dims)

    def _show_mask(self) -> None:
        current = None if self.session is None else self.session.current
        is_open = current is not None and not current.committed
        mask = current.mask if current is not None and is_open else None
        self.preview.show(self.planes.image, self.planes.plane, mask)

    def _on_box(self) -> None:
        if self.switches_tools and self.session is not None and self.session.live:
            self._later(lambda: self.take_tool("clicks"))
