"""What a person can do in the Segment dock, as plain calls. No Qt.

Usable without the dock: from napari's console, or from a test with an executor of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from psygnal import Signal

from napari_pisam.docks.segment.handover import leave, take_up
from napari_pisam.docks.segment.picking import Picker
from napari_pisam.docks.segment.workspace import NO_IMAGE, Workspace
from napari_pisam.docks.segment.writing import commit, segment
from napari_pisam.layers import relabel_clicks, set_click_label, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.session.session import Execute, ModelRef, Session

_NO_OBJECT = "There is no current object. Draw a box around one, or click on it."


class SegmentController:
    """The commands of the Segment dock.

    What goes wrong is told by ``workspace.failed`` (or ``hinted``) and never raised: these are
    called by keys and buttons.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Whose layers are worked on.
    execute : Execute
        Runs a job in the background and delivers on the main thread.
    later : callable, optional
        ``later(call)`` calls it once napari has finished handling its event; at once by default.

    Attributes
    ----------
    workspace : Workspace
        Layers and sessions, and the signals that say what changed.
    foreground_changed : Signal(bool)
        The next click is FG, or BG.
    progressed : Signal(int, int)
        *Segment all boxes*: (done, in all).
    """

    foreground_changed = Signal(bool)
    progressed = Signal(int, int)

    def __init__(
        self,
        viewer: Any,
        execute: Execute,
        later: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        viewer = unwrapped(viewer)
        self._kept = kept = take_up(viewer)
        kept.relay.open(execute)
        self.workspace = Workspace(viewer, kept.relay, later, kept.planes)
        self.foreground = True
        self._picker = Picker(self.workspace, kept.relay)
        self._wants_prediction = self._wants_all = False  # as soon as there is a model

    @property
    def session(self) -> Session | None:
        """The displayed plane's."""
        return self.workspace.session

    def start(self) -> None:
        """Take the image that is there, and make prompt layers for it."""
        choice, layers = self.workspace.choice, self.workspace.viewer.layers
        for role in ("image", "labels", "boxes", "clicks"):
            known = self._kept.layers.get(role)
            layer = None if known is None else known()
            if layer is not None and layer in layers:
                choice.choose(role, layer)
        choice.choose_first_image()
        if choice["image"] is not None and choice["boxes"] is None and choice["clicks"] is None:
            self.new_prompt_layers()

    def close(self, *, viewer_stays: bool = False) -> None:
        """Let go of the viewer; what is drawn and written stays, the preview does not.

        Parameters
        ----------
        viewer_stays : bool
            Whether its layers may still be touched.
        """
        work = self.workspace
        if viewer_stays:
            work.sync.flush()
            work.preview.remove()
        self._kept.layers = {role: ref(one) for role, one in work.choice.current.items() if one}
        work.close()
        self._kept.relay.close()
        leave(work.viewer, self._kept)

    def new_prompt_layers(self) -> None:
        """Add layers for boxes and clicks, and one for labels where none fits."""
        self._do(self.workspace.new_prompt_layers)
        self.set_foreground(True)

    # -- clicks and predictions ---------------------------------------------------------------

    def set_foreground(self, foreground: bool) -> None:
        """Make the next click, or in napari's select mode the selected ones, FG or BG."""
        points = self.workspace.choice["clicks"]
        if points is not None:
            name = "FG" if foreground else "BG"
            if str(points.mode) == "select" and points.selected_data:
                relabel_clicks(points, sorted(points.selected_data), name)  # type: ignore[arg-type]
            set_click_label(points, name)  # type: ignore[arg-type]
        self.foreground = foreground
        self.foreground_changed.emit(foreground)

    def toggle_foreground(self) -> None:
        """Switch between FG and BG."""
        self.set_foreground(not self.foreground)

    def draw_box(self) -> None:
        """Take the tool that draws boxes."""
        self.workspace.take_tool("boxes")

    def set_live(self, live: bool) -> None:
        """Predict on every change, or on request; without it, boxes wait to be asked for."""
        self.workspace.planes.set_live(live)
        self.workspace.sync.set_targets()

    def set_rule(self, rule: str) -> None:
        """Choose whose a pixel is when an object is committed."""
        self.workspace.planes.set_rule(rule)

    def set_switches_tools(self, switches: bool) -> None:
        """Take the click tool after a box and the box tool after a commit, or leave tools alone."""
        self.workspace.switches_tools = switches

    def set_model(self, predictor: Any, model: ModelRef | None = None) -> None:
        """Predict with another model; prompts, labels and objects stay."""
        self.workspace.planes.set_predictor(predictor, model)
        wants_one, wants_all = self._wants_prediction, self._wants_all
        self._wants_prediction = self._wants_all = False
        if predictor is not None and self.session is not None:
            if wants_one:
                self.session.predict_now()
            if wants_all:
                self.segment_all()
        self.workspace.changed.emit()

    def predict(self) -> None:
        """Predict the current object now; a box that waits becomes one first."""
        session, sync = self._ready(), self.workspace.sync
        if session is None:
            return
        self.workspace.planes.freshen()
        current = session.current
        has_box = current and current.prompts and current.prompts.box
        if not has_box and sync.waiting.adopt(session.first_id if current is None else current.id):
            sync.pull()
        if session.current is None or session.current.prompts is None:
            self.workspace.hinted.emit(_NO_OBJECT)
        elif session.model is None:
            self._wants_prediction = True
            self.workspace.model_wanted.emit()
        else:
            session.predict_now()

    def cancel(self) -> None:
        """Stop what is being predicted, *Segment all boxes* too; what is committed stays."""
        self._wants_prediction = self._wants_all = False
        if self.session is not None:
            self.session.cancel()

    # -- objects ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write the current object into the labels and begin the next one."""
        session = self._ready()
        if session is None or session.current is None:
            if session is not None:
                self.workspace.hinted.emit(_NO_OBJECT)
            return
        number = session.current.id
        if self._do(lambda: commit(self.workspace, session, number)):
            one = session.get(number)
            # With its mask there and yet not written, writing failed: it stays the current one.
            if one is None or one.committed or one.stale or one.mask is None:
                self.next_object()

    def next_object(self) -> None:
        """Begin another object; the current one stays in the list."""
        session = self._ready()
        if session is not None:
            session.select(None)
            self.set_foreground(True)
            if self.workspace.switches_tools:
                self.draw_box()

    def discard(self) -> None:
        """Remove the current object."""
        session = self._ready()
        if session is None or session.current is None:
            self.workspace.hinted.emit(_NO_OBJECT)
        elif self._do(session.discard):
            self.next_object()

    def undo(self) -> None:
        """Take the last step back."""
        session = self._ready()
        if session is not None:
            self._do(session.undo)

    def redo(self) -> None:
        """Do again what was undone."""
        session = self._ready()
        if session is not None:
            self._do(session.redo)

    def pick(self, number: int) -> None:
        """Go on with an object of the list, or with a label that is there."""
        if self._ready() is not None:
            self._do(lambda: self._picker.pick(number))

    def pick_at_cursor(self) -> None:
        """Go on with the object under the mouse."""
        if self._ready() is not None:
            self._do(self._picker.pick_at_cursor)

    def pick_selected_label(self) -> None:
        """Go on with the label that is selected in the Labels layer."""
        labels = self.workspace.choice["labels"]
        if labels is not None:
            self.pick(int(labels.selected_label))

    def segment_all(self) -> None:
        """Predict and commit every box that has no clicks, many at once, `Live` or not."""
        session, sync = self._ready(), self.workspace.sync
        if session is None:
            return
        self.workspace.planes.freshen()
        waiting = list(sync.waiting.boxes)
        opened = [one.id for one in session.objects if one.is_only_box]
        if not waiting and not opened:
            self.workspace.hinted.emit(
                "There are no boxes. Turn Live off and draw some, or choose a layer that has them."
            )
        elif session.model is None:
            self._wants_all = True
            self.workspace.model_wanted.emit()
        else:
            work, told = self.workspace, self.progressed.emit
            self._do(lambda: segment(work, session, waiting, opened, told))

    # -- helpers ------------------------------------------------------------------------------

    def _ready(self) -> Session | None:
        """Give the session, with what was drawn up to now brought in."""
        self.workspace.sync.flush()
        if self.session is None:
            self.workspace.hinted.emit(self.workspace.planes.problem or NO_IMAGE)
        return self.session

    def _do(self, action: Callable[[], object]) -> bool:
        """Do something that may not be possible; whether it was."""
        try:
            action()
        except (ValueError, OSError, MemoryError) as error:
            self.workspace.failed.emit(str(error))
            return False
        return True
