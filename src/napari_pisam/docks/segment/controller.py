"""What a person can do in the Segment dock, as plain calls. No Qt.

Usable without the dock: from napari's console, or from a test with an executor of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from psygnal import Signal

from napari_pisam.docks.segment.cleaning import STEPS, clean, merge, split_along
from napari_pisam.docks.segment.handover import leave, take_up
from napari_pisam.docks.segment.hints import PANNED, still_open
from napari_pisam.docks.segment.picking import Picker, object_at, place_of_cursor
from napari_pisam.docks.segment.preview import PreviewLook
from napari_pisam.docks.segment.stacks import Stacks
from napari_pisam.docks.segment.tools import Tools
from napari_pisam.docks.segment.view import centre_view
from napari_pisam.docks.segment.workspace import NO_IMAGE, Workspace
from napari_pisam.docks.segment.writing import commit, segment
from napari_pisam.layers.prompt_layers import (
    is_own,
    prompt_axes,
    relabel_clicks,
    relabel_shapes,
    set_click_label,
    set_shape_kind,
)
from napari_pisam.layers.proxies import unwrapped
from napari_pisam.predict.areas import Answer, Use
from napari_pisam.session.records import same_prompts
from napari_pisam.session.session import LabelOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.measure.cleaning import Cleaning
    from napari_pisam.predict.propagation import EndOfObject
    from napari_pisam.session.session import Execute, ModelRef, Session, SessionObject

_NO_OBJECT = "There is no current object. Draw a box around one, or click on it."

_NO_BOX = (
    "Object {} has no box of its own, or starts from a mask or an outline: only what a box holds "
    "has two answers. Click where it is wrong."
)

_ONE_ANSWER = "This model gives one answer to a box. Click where it is wrong instead."

_NO_SHAPE = (
    "There is no shape of an open object. Draw one, or select some with napari's arrow tool in the "
    "layer of boxes."
)


class _Picked:
    """An object that was taken out of the labels to be corrected, as it was then."""

    def __init__(self, session: Session, number: int) -> None:
        self.session, self.number = session, number
        self._mask: Any = None
        self._prompts: Any = None

    def note(self) -> None:
        """Note how it is now, if it is there: a label of a large image is looked for first."""
        one = self.session.get(self.number)
        if one is not None and one.prompts is not None:
            self._mask, self._prompts = one.mask, one.prompts

    @property
    def is_left(self) -> bool:
        """Whether something else is being worked on now."""
        current = self.session.current
        there = self.session.get(self.number) is not None
        return there and (current is None or current.id != self.number)

    @property
    def is_unchanged(self) -> bool:
        """Whether it is out of the labels still, with the mask and the prompts that it had."""
        one = self.session.get(self.number)
        if one is None or one.committed or one.mask is None or one.prompts is None:
            return False
        if self._prompts is None:
            return one.prompts.is_only_start
        return one.mask is self._mask and same_prompts(one.prompts, self._prompts)


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
    kept : Handover
        What the viewer's next dock goes on with.
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
        self.kept = kept = take_up(viewer)
        kept.relay.open(execute)
        self.workspace = Workspace(viewer, kept.relay, later, kept.planes)
        self.workspace.switches_tools = kept.switches_tools
        self.workspace.planes.set_cleaning(kept.cleaning)
        self.workspace.preview.set_look(kept.look)
        self.tools = Tools(self.workspace.viewer, self.workspace.choice)
        self.stacks = Stacks(self.workspace, kept.relay)
        self.stacks.end = kept.end
        self.foreground = True
        self._use = Use.BOX
        self._later = later
        self._picker = Picker(self.workspace, kept.relay)
        self._picked: _Picked | None = None
        self._image: Any = None
        self._shown_session: Session | None = None
        work = self.workspace
        self._connections = (
            (self.tools.changed, self._on_tool),
            (self.tools.clicked, self._on_plain_click),
            (self.tools.panned, self._on_panned),
            (work.choice.changed, self._on_chosen),
            (work.planes.switched, self._on_switched),
            (work.objects_changed, self._on_objects),
        )
        for signal, callback in self._connections:
            signal.connect(callback)
        self._wants_prediction = self._wants_all = False  # as soon as there is a model
        self._wants_stack: Callable[[], object] | None = None

    @property
    def session(self) -> Session | None:
        """The displayed plane's."""
        return self.workspace.session

    def start(self) -> None:
        """Take the image that is there, and make prompt layers for it."""
        choice, layers = self.workspace.choice, self.workspace.viewer.layers
        for role in ("image", "labels", "boxes", "clicks"):
            known = self.kept.layers.get(role)
            layer = None if known is None else known()
            if layer is not None and layer in layers:
                choice.choose(role, layer)
        self._follow_image()

    def close(self, *, viewer_stays: bool = False) -> None:
        """Let go of the viewer; what is drawn and written stays, the preview does not.

        Parameters
        ----------
        viewer_stays : bool
            Whether its layers may still be touched.
        """
        work = self.workspace
        self.stacks.stop()
        if viewer_stays:
            work.sync.flush()
            self.put_back()
            work.preview.remove()
        for signal, callback in self._connections:
            signal.disconnect(callback)
        self.tools.close()
        self.kept.layers = {role: ref(one) for role, one in work.choice.current.items() if one}
        work.close()
        self.kept.relay.close()
        leave(work.viewer, self.kept)

    # -- following the viewer -----------------------------------------------------------------

    def _on_chosen(self, role: str) -> None:
        choice = self.workspace.choice
        if role != "image":
            return
        if choice["image"] is None and self._image not in self.workspace.viewer.layers:
            # What is in them is of an image that is gone; the next one gets labels of its own.
            choice.choose("labels", None)
        self._later(self._follow_image)

    def _follow_image(self) -> None:
        """Take an image where there is none, and have layers that fit it."""
        choice, before = self.workspace.choice, self._image
        is_unwanted = before is not None and before in self.workspace.viewer.layers
        if choice["image"] is None and not is_unwanted:
            choice.choose_first_image()
        image, plane = choice["image"], self.workspace.planes.plane
        self._image = image
        if image is None:
            return
        axes = prompt_axes(image, None if plane is None else plane.channel_axis)
        for role in ("boxes", "clicks"):
            # With channels that come first, or without them.
            if choice[role] is not None and choice[role].ndim not in (len(axes), image.ndim):
                choice.choose(role, None)
        if choice["boxes"] is None and choice["clicks"] is None:
            self.new_prompt_layers()

    def _on_switched(self) -> None:
        """Have the tool that the plane's session needs, where one of the tools is in the hand."""
        session, before = self.session, self._shown_session
        self._shown_session = session
        if session is before:
            return
        current = None if before is None else before.current
        if session is not None and session.current is None and current is not None:
            if session.get(current.id) is not None:
                # In this slice, too.
                session.select(current.id)
        self._later(self.put_back)
        if session is not None and self.tools.role and self.workspace.switches_tools:
            self.take_fitting_tool()

    def take_fitting_tool(self) -> None:
        """Take the click tool where there is an object to correct, else the box tool."""
        current = None if self.session is None else self.session.current
        is_open = current is not None and current.prompts is not None
        is_live = self.session is not None and self.session.live
        self.workspace.take_tool("clicks" if is_open and is_live else "boxes")

    def _on_panned(self) -> None:
        self.workspace.hinted.emit(PANNED)

    def _on_plain_click(self, position: Any) -> None:
        """Make the FG click that it is: of the open object that is there, or of another one."""
        session, work = self._ready(), self.workspace
        points, plane = work.choice["clicks"], work.planes.plane
        if session is None or not is_own(points) or plane is None:
            return
        if self.stacks.merging is not None:
            self.pick_at_cursor()
            return
        current = session.current
        if current is not None:
            place = place_of_cursor(work.viewer, work.planes.image, plane)
            if place is None or not _is_within(session, current, place):
                session.select(None)
        self.set_foreground(True)
        points.add([points.world_to_data(position)])
        work.sync.flush()
        if work.switches_tools and session.live:
            self._later(self.take_fitting_tool)

    def new_prompt_layers(self) -> None:
        """Add layers for boxes and clicks, and one for labels where none fits."""
        self._do(self.workspace.new_prompt_layers)
        self.set_foreground(True)

    # -- clicks and predictions ---------------------------------------------------------------

    def set_foreground(self, foreground: bool) -> None:
        """Make the next click, or in napari's select mode the selected ones, FG or BG."""
        points = self.workspace.choice["clicks"]
        if is_own(points):
            name = "FG" if foreground else "BG"
            if str(points.mode) == "select" and points.selected_data:
                relabel_clicks(points, sorted(points.selected_data), name)  # type: ignore[arg-type]
            set_click_label(points, name)  # type: ignore[arg-type]
        shapes = self.workspace.choice["boxes"]
        if is_own(shapes) and str(shapes.mode) == "select" and shapes.selected_data:
            relabel_shapes(shapes, sorted(shapes.selected_data), "FG" if foreground else "BG")
        self.foreground = foreground
        self._on_tool()
        self.foreground_changed.emit(foreground)

    def toggle_foreground(self) -> None:
        """Switch between FG and BG."""
        self.set_foreground(not self.foreground)

    def draw_box(self) -> None:
        """Take the tool that draws boxes; make the layer for them where there is none."""
        self.draw("box")

    def draw(self, what: str) -> None:
        """Take the tool that draws something; make the layer for it where there is none.

        Parameters
        ----------
        what : {"box", "part", "not_here", "scribble", "outline"}
            A box of an object; a further one of the object at hand; one that it is not in; a line
            along it, FG or BG; an outline that is an object.
        """
        choice = self.workspace.choice
        if choice["image"] is not None and choice["boxes"] is None:
            self.new_prompt_layers()
        if what != "scribble":
            self.set_foreground(what != "not_here")
        self._use = Use.PART if what == "part" else Use.BOX
        self.workspace.take_tool(what if what in ("scribble", "outline") else "boxes")
        self._on_tool()

    def change_shapes(self, use: str) -> None:
        """Make the selected shapes, or the current object's last one, something else to it.

        Parameters
        ----------
        use : {"box", "solid", "fine", "part", "outline", "scribble", "not_here"}
        """
        session, sync = self._ready(), self.workspace.sync
        if session is not None and not sync.change_shapes(use):
            self.workspace.hinted.emit(_NO_SHAPE)

    def ask_for_other_answer(self) -> None:
        """Have the current object be the thin lines in its box, or what is solid in it again."""
        session = self._ready()
        current = None if session is None else session.current
        if session is None or current is None or current.prompts is None:
            if session is not None:
                self.workspace.hinted.emit(_NO_OBJECT)
            return
        if not _gives_two_answers(self.workspace.planes.predictor):
            self.workspace.hinted.emit(_ONE_ANSWER)
        else:
            self._do(lambda: self._ask_for_other_answer(session, current.id))

    def _ask_for_other_answer(self, session: Session, number: int) -> None:
        # What was painted into its label by hand is a mask to start from then.
        session.reopen(number)
        current = session.get(number)
        prompts = None if current is None else current.prompts
        if current is None or prompts is None or prompts.box is None or prompts.has_start:
            self.workspace.hinted.emit(_NO_BOX.format(number))
            return
        shown = prompts.answer or (None if current.mask is None else current.mask.answer)
        wanted = Answer.FINE if shown is None else shown.other
        session.set_prompts(number, prompts.with_answer(wanted))

    def take_click_tool(self) -> None:
        """Take the click tool; a scribble tool in the hand stays: FG and BG are its, too."""
        if self.tools.role != "scribble":
            self.workspace.take_tool("clicks")

    def _on_tool(self) -> None:
        """Have what is drawn next be what the tool in the hand, and FG or BG, say."""
        shapes, tool = self.workspace.choice["boxes"], self.tools.role
        sync = self.workspace.sync
        is_added = not self.foreground or tool == "scribble" or self._use is Use.PART
        if tool != "scribble":
            sync.line_taker = None
        if sync.adds != is_added:
            sync.adds = is_added
            sync.set_targets()
        if is_own(shapes):
            use = Use.OUTLINE if tool == "outline" else self._use
            set_shape_kind(shapes, "FG" if self.foreground else "BG", use)

    def set_live(self, live: bool) -> None:
        """Predict on every change, or on request; without it, boxes wait to be asked for."""
        self.kept.live = live
        self.workspace.planes.set_live(live)
        self.workspace.sync.set_targets()

    def set_rule(self, rule: str) -> None:
        """Choose whose a pixel is when an object is committed."""
        self.kept.rule = rule
        self.workspace.planes.set_rule(rule)

    def set_switches_tools(self, switches: bool) -> None:
        """Take the click tool after a box and the box tool after a commit, or leave tools alone."""
        self.kept.switches_tools = self.workspace.switches_tools = switches

    def set_look(self, opacity: float, outline: bool, color: str) -> None:
        """Choose how the preview is drawn, see `PreviewLook`."""
        self.kept.look = PreviewLook(opacity, outline, color)
        self.workspace.preview.set_look(self.kept.look)

    def set_model(self, predictor: Any, model: ModelRef | None = None) -> None:
        """Predict with another model; prompts, labels and objects stay."""
        self.stacks.stop()
        self.workspace.planes.set_predictor(predictor, model)
        wants_one, wants_all, stack = self._wants_prediction, self._wants_all, self._wants_stack
        self._wants_prediction, self._wants_all, self._wants_stack = False, False, None
        if predictor is not None and self.session is not None:
            if wants_one:
                self.session.predict_now()
            if wants_all:
                self.segment_all()
            if stack is not None:
                stack()
        self.workspace.changed.emit()

    def predict(self) -> None:
        """Predict the current object now; a box that waits becomes one first."""
        session, sync = self._ready(), self.workspace.sync
        if session is None:
            return
        self.workspace.planes.freshen()
        current = session.current
        has_box = current and current.prompts and current.prompts.box
        if not has_box:
            sync.adopt(session.first_id if current is None else current.id)
        if session.current is None or session.current.prompts is None:
            self.workspace.hinted.emit(_NO_OBJECT)
        elif session.model is None:
            self._wants_prediction = True
            self.workspace.model_wanted.emit()
        else:
            session.predict_now()

    def cancel(self) -> None:
        """Stop what is being predicted, *Segment all boxes* too; what is committed stays."""
        self._wants_prediction, self._wants_all, self._wants_stack = False, False, None
        self.stacks.stop()
        # Workers elsewhere hear of it; what runs here ends by itself.
        getattr(self.workspace.planes.predictor, "cancel", lambda: None)()
        if self.session is not None:
            if self.session.tiles is not None:
                self.workspace.hinted.emit(
                    "Cancelled. Predict, or the next click, goes on; tiles that are done are kept."
                )
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
            if one is not None and one.committed:
                self._do(lambda: self.stacks.corrected(number))

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
            self._do(lambda: self.stacks.undo(session))

    def redo(self) -> None:
        """Do again what was undone."""
        session = self._ready()
        if session is not None:
            self._do(lambda: self.stacks.redo(session))

    # -- through a stack ----------------------------------------------------------------------

    def set_end(self, end: EndOfObject) -> None:
        """Choose when an object is taken to have ended."""
        self.kept.end = self.stacks.end = end

    def propagate(self, direction: int, first: int = 0, last: int | None = None) -> None:
        """Carry the current object through the stack; see `Stacks.propagate`."""
        session = self._through_stack()
        if session is None:
            return
        if session.model is None and session.current is not None:
            self._wants_stack = lambda: self.propagate(direction, first, last)
            self.workspace.model_wanted.emit()
        else:
            self.workspace.planes.freshen()
            self._do(lambda: self.stacks.propagate(direction, first, last))

    def split(self) -> None:
        """Make the current object another one from the displayed slice on."""
        if self._through_stack() is not None:
            self._do(self.stacks.split)

    def begin_merge(self) -> None:
        """Wait for the object to be picked that is the same one as the current object."""
        if self._through_stack() is not None and self._do(self.stacks.begin_merge):
            self.workspace.take_tool("boxes")

    def merge(self, number: int) -> None:
        """Make an object, in all slices, the one that was current at `begin_merge`."""
        if self._ready() is not None:
            self._do(lambda: self.stacks.merge(number))

    def show_tracks(self) -> None:
        """Show how the labels move as a Tracks layer."""
        self._do(self.stacks.show_tracks)

    def save_tracks(self, path: Path) -> None:
        """Write how the labels move to a CSV file."""
        self._do(lambda: self.stacks.save_tracks(path))

    def save_volumes(self, path: Path) -> None:
        """Write what objects measure through the stack to a CSV file."""
        self._do(lambda: self.stacks.save_volumes(path))

    def _through_stack(self) -> Session | None:
        """Return the session, with what was picked up and not changed in the labels again."""
        session = self._ready()
        current = None if session is None else session.current
        self.put_back()
        if session is not None and current is not None and session.current is None:
            session.select(current.id)
        return session

    # -- objects of the list ------------------------------------------------------------------

    def show(self, number: int) -> None:
        """Select an object of the list and bring it into the middle of the view.

        It stays as it is, in the labels if it is committed; the next click on the canvas corrects
        it.
        """
        if self.stacks.merging is not None:
            self.merge(number)
            return
        session, work = self._ready(), self.workspace
        one = None if session is None else session.get(number)
        if session is None or one is None or work.planes.plane is None:
            return
        session.select(number)
        bounds = one.mask.bbox if one.mask is not None else one.prompts and one.prompts.box
        if bounds:
            centre_view(work.viewer, work.planes.image, work.planes.plane, bounds)
        self.set_foreground(True)
        if work.switches_tools:
            work.take_tool("clicks")

    def pick(self, number: int) -> None:
        """Go on with an object of the list, or with a label that is there.

        Left unchanged it goes back into the labels.
        """
        if self.stacks.merging is not None:
            self.merge(number)
            return
        session = self._ready()
        if session is None:
            return
        one = session.get(number)
        if one is not None and not one.committed:
            self._do(lambda: self._picker.pick(number))
            return
        self.put_back()
        self._picked = _Picked(session, number)
        if self._do(lambda: self._picker.pick(number)):
            self._picked.note()

    def pick_at_cursor(self) -> None:
        """Go on with the object under the mouse."""
        session, planes = self._ready(), self.workspace.planes
        if session is None or planes.plane is None:
            return
        place = place_of_cursor(self.workspace.viewer, planes.image, planes.plane)
        number = None if place is None else object_at(session, planes.labels, place)
        if number is None:
            self.workspace.hinted.emit("There is no object under the mouse.")
        else:
            self.pick(number)

    def put_back(self) -> None:
        """Write an object that was picked up and not changed into the labels again."""
        picked, self._picked = self._picked, None
        if picked is None or not picked.is_unchanged:
            return
        labels = self.workspace.choice["labels"]
        write = partial(picked.session.commit, picked.number, confirmed=False)
        if self._do(write) and labels is not None:
            if picked.session is not self.session:
                # Nobody listens to it any more.
                labels.refresh()

    def before_export(self) -> None:
        """Put back what was not changed, and say which objects the labels do not have."""
        work = self.workspace
        work.sync.flush()
        self.put_back()
        planes = work.planes.sessions.get(work.planes.image, {})
        missing = [one for session in planes.values() for one in session.objects]
        text = still_open([one.id for one in missing if not one.committed])
        if text:
            work.failed.emit(text)

    def _on_objects(self) -> None:
        picked = self._picked
        if picked is not None and picked.is_left:
            self._later(self.put_back)

    def clean(self, name: str, numbers: Sequence[int] = ()) -> None:
        """Tidy objects up, see `STEPS`; each is one step of undo.

        Parameters
        ----------
        name : str
            Of the step.
        numbers : sequence of int
            Of which objects; by default the current one.
        """
        session = self._ready()
        if session is None:
            return
        current = [] if session.current is None else [session.current.id]
        chosen, step = list(numbers) or current, next(one for one in STEPS if one.name == name)
        if not chosen:
            self.workspace.hinted.emit(_NO_OBJECT)
        elif name == "split":
            session.select(chosen[-1])
            self.draw("scribble")
            self.workspace.sync.line_taker = partial(self._split, session, chosen[-1])
            self.workspace.hinted.emit(f"Draw a line across object {chosen[-1]}, past both edges.")
        else:
            call = partial(merge, session, chosen)
            if name != "merge":
                call = partial(clean, session, chosen, step.cleaning)
            self._do(lambda: self._reshaped(session, chosen, call))

    def _split(self, session: Session, number: int, line: list[tuple[float, float]]) -> None:
        if self.workspace.switches_tools:
            self._later(self.take_fitting_tool)
        call = partial(split_along, session, number, line)
        self._do(lambda: self._reshaped(session, [number], call))

    def _reshaped(self, session: Session, numbers: list[int], call: Callable[[], None]) -> None:
        """Make a change; labels that are too narrow for a new number are widened first."""
        try:
            call()
        except LabelOverflowError as error:
            if not self.workspace.planes.widen_labels(error.value):
                raise
            call()
        if session.get(numbers[0]) is not None:
            session.select(numbers[0])

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Choose what is done to every mask when it is committed."""
        self.kept.cleaning = cleaning
        self.workspace.planes.set_cleaning(cleaning)

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
        waiting = sync.waiting.prompts
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
        """Return the session, with what was drawn up to now brought in."""
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


def _gives_two_answers(predictor: Any) -> bool:
    """Whether a box can have either of two answers; so where nobody knows it."""
    model = getattr(predictor, "model", None)
    return model is None or bool(model.variant.fine_answer)


def _is_within(session: Session, current: SessionObject, place: tuple[int, int]) -> bool:
    """Whether a pixel is in an open object's box or mask."""
    box = None if current.committed or current.prompts is None else current.prompts.box
    if box is not None and box[0] <= place[0] <= box[2] and box[1] <= place[1] <= box[3]:
        return True
    return object_at(session, None, place) == current.id
