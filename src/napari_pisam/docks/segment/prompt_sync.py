"""Prompt layers and the session's prompts, kept the same in both directions. No Qt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.segment.drawn import (
    Drawn,
    WaitingBoxes,
    changed_shape,
    read_drawn,
    separated,
    targets,
    under_names,
)
from napari_pisam.layers.geometry import PlaneMap
from napari_pisam.layers.prompt_layers import (
    assign_features,
    is_own,
    remove_prompts,
    reuse_shapes,
    set_current_object,
    write_prompts,
)
from napari_pisam.layers.prompts import objects_of, read_shapes
from napari_pisam.predict.areas import BOX_USES, LINES, Use, outline_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_pisam.docks.segment.layer_choice import LayerChoice
    from napari_pisam.docks.segment.planes import Planes
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.session.session import Session

_PAST = {"added", "removed", "changed"}


class PromptSync:
    """Brings what is drawn into the session, and what the session undoes back into the layers.

    Parameters
    ----------
    planes : Planes
        Whose session and plane.
    choice : LayerChoice
        Whose boxes and clicks.
    later : callable
        ``later(call)`` calls it when napari has finished what it is doing: in the midst of a
        layer's own mouse callback its features are not complete yet.

    Attributes
    ----------
    box_drawn : Signal()
        The user drew a box and it became an object.
    rejected : Signal(str)
        Why something that was drawn is not used.
    """

    box_drawn = Signal()
    rejected = Signal(str)

    def __init__(
        self, planes: Planes, choice: LayerChoice, later: Callable[[Callable[[], None]], None]
    ) -> None:
        self._planes, self._choice, self._later = planes, choice, later
        self._layers: dict[str, Any] = {"boxes": None, "clicks": None}
        self._session: Session | None = None
        self._shown: dict[int, Drawn] = {}
        self._pushed: dict[int, Prompts] = {}
        self._is_waiting = self._is_syncing = False
        self.waiting = WaitingBoxes()
        # Whether the next shape is of the object at hand: a scribble, a further box, one for BG.
        self.adds = False
        # Who takes the next line that is drawn, as (row, col) px, in place of a scribble.
        self.line_taker: Callable[[list[tuple[float, float]]], None] | None = None

    # -- whose layers, whose session ----------------------------------------------------------

    def attach(self) -> None:
        """Take the layers and the session that are chosen now; objects keep their prompts."""
        for role, layer in self._layers.items():
            chosen = self._choice[role]
            if chosen is not layer:
                self._follow(layer, connect=False)
                self._follow(chosen, connect=True)
                self._layers[role] = chosen
        session = self._planes.session
        if session is not self._session:
            self.waiting.reset()
        self._shown, self._pushed = {}, {}
        self._session = session
        if session is None or not any(self._layers.values()):
            return
        # What is drawn already and belongs to nobody's object; the session's own come after it,
        # for an empty new layer must not empty the objects.
        self._shown = self._read()
        known = [one.prompts for one in session.objects]
        self._apply(
            {
                number: drawn
                for number, drawn in self._shown.items()
                if session.get(number) is None and not any(drawn.is_in(one) for one in known)
            }
        )
        self.push()

    def forget_image(self) -> None:
        """Take the open objects' prompts out of the layers: another image comes."""
        session = self._session
        if session is not None and self._planes.plane is not None:
            self._write(dict.fromkeys(one.id for one in session.objects))

    def close(self) -> None:
        """Stop listening to the layers."""
        for layer in self._layers.values():
            self._follow(layer, connect=False)
        self._session = None

    def _follow(self, layer: Any, *, connect: bool) -> None:
        if layer is None:
            return
        for emitter in (layer.events.data, layer.events.features):
            if connect:
                emitter.connect(self._on_change)
            else:
                emitter.disconnect(self._on_change)

    @contextmanager
    def _syncing(self) -> Iterator[None]:
        """Take no notice of what changes in the layers meanwhile."""
        self._is_syncing = True
        try:
            yield
        finally:
            self._is_syncing = False

    def _on_change(self, event: Any) -> None:
        # `data` is sent before a change too, and Points send it as a string or an enum.
        action = str(getattr(event, "action", "changed")).rsplit(".", 1)[-1].lower()
        if self._is_syncing or self._is_waiting or action not in _PAST:
            return
        self._is_waiting = True
        self._later(self.flush)

    def flush(self) -> None:
        """Bring in what was drawn and not looked at yet."""
        if self._is_waiting:
            self._is_waiting = False
            self.pull()

    # -- layers -> session --------------------------------------------------------------------

    def pull(self) -> None:
        """Bring in what was drawn, moved, relabelled or deleted."""
        session = self._session
        if session is None or self._is_syncing:
            return
        if self._take_line():
            return
        self._separate()
        renamed = self._renamed(session)
        before, self._shown = under_names(self._shown, renamed), self._read()
        drawn = under_names(self._shown, renamed)
        numbers = drawn.keys() | before.keys()
        changed = {n: drawn.get(n, Drawn()) for n in numbers if drawn.get(n) != before.get(n)}
        if changed:
            self._planes.freshen()
        self._apply(changed)
        self.push()

    def _take_line(self) -> bool:
        """Give a line that was just drawn to whom it is meant for; whether there was one."""
        shapes, plane = self._own("boxes"), self._planes.plane
        if self.line_taker is None or shapes is None or plane is None:
            return False
        drawn = read_shapes(self._planes.image, plane, shapes, []).scribbles
        fresh = [one for one in drawn if one.click.after is None]
        if not fresh:
            return False
        taker, self.line_taker = self.line_taker, None
        with self._syncing():
            shapes.remove([fresh[-1].row])
        taker(list(fresh[-1].click.stroke[0]))
        return True

    def _renamed(self, session: Session) -> dict[int, int]:
        """Return the numbers of now, by those that somebody's own layers still say.

        An object gets another number where the labels have its own.
        """
        if all(is_own(layer) for layer in self._layers.values() if layer is not None):
            return {}
        return {
            number: one.id
            for number, drawn in self._shown.items()
            for one in session.objects
            if session.get(number) is None and drawn.is_in(one.prompts)
        }

    def _read(self) -> dict[int, Drawn]:
        image, plane = self._planes.image, self._planes.plane
        shapes, points = self._layers["boxes"], self._layers["clicks"]
        if plane is None:
            return {}
        found = read_drawn(image, plane, shapes, points)
        self.waiting.read(found.waiting, shapes)
        for text in found.ignored:
            self.rejected.emit(text)
        return found.objects

    def _separate(self) -> None:
        shapes, session, plane = self._own("boxes"), self._session, self._planes.plane
        if shapes is None or session is None or plane is None:
            return
        points = self._layers["clicks"]
        features = separated(self._planes.image, plane, shapes, session.first_id, points)
        if features is not None:
            with self._syncing():
                # The next scribble's place is not known before it is there.
                unknown = {"after": -1} if "after" in features else None
                assign_features(shapes, features, unknown)

    def _apply(self, changed: dict[int, Drawn]) -> None:
        session = self._session
        if session is None:
            return
        has_box = False
        with self._syncing():
            for number in sorted(changed):
                has_box |= self._apply_one(session, number, changed[number])
        if has_box:
            self.box_drawn.emit()

    def _apply_one(self, session: Session, number: int, drawn: Drawn) -> bool:
        """Bring in one object's prompts; whether that gave a new box."""
        known = session.get(number)
        was_committed = known is not None and known.committed
        if was_committed and session.reopen(number):
            known = session.get(number)
            drawn = drawn.after(None if known is None else known.prompts)
        before = None if known is None else known.prompts
        drawn = self._with_unwritten(drawn, before)
        try:
            prompts = drawn.prompts(None if before is None else before.mask)
            if known is None and prompts is not None:
                session.new_object(prompts, id=number)
            elif known is not None:
                if session.current is not known and not known.committed:
                    session.select(number)
                session.set_prompts(number, prompts)
        except ValueError as error:
            # It stays in the layer: the next click may make it whole.
            self.rejected.emit(str(error))
            return False
        if prompts is not None and not was_committed:
            self._pushed[number] = prompts
        else:
            # The layers do not show it yet, or not any more.
            self._pushed.pop(number, None)
        if prompts is None or (prompts.region is None and not prompts.areas):
            return False
        return before is None or (before.region, before.areas) != (prompts.region, prompts.areas)

    def adopt(self, number: int) -> None:
        """Make the last waiting box the one of an object."""
        if self._own("boxes") is not None:
            if self.waiting.adopt(number):
                self.pull()
        elif self.waiting.boxes and self._session is not None and not self._session.get(number):
            self._session.new_object(self.waiting.prompts[-1], id=number)

    def change_shapes(self, use: str) -> bool:
        """Make the selected shapes, or the last one of the current object, something else to it.

        Parameters
        ----------
        use : str
            One of `SHAPE_USES`.

        Returns
        -------
        bool
            Whether there is any.
        """
        self.flush()
        shapes, session, plane = self._own("boxes"), self._session, self._planes.plane
        if shapes is None or session is None or plane is None:
            return False
        image, is_changed = self._planes.image, False
        for row in self._chosen_shapes(shapes, session):
            found = read_drawn(image, plane, shapes, self._layers["clicks"])
            drawn = read_shapes(image, plane, shapes, [])
            kind = str(shapes.shape_type[row])
            places = PlaneMap(image, plane, shapes).to_image(shapes.data[row])
            vertices = places if kind in LINES else outline_of(kind, places)
            changed = changed_shape(found, drawn, row, vertices, use)
            if changed is not None and session.get(changed[0]) is not None:
                self._apply(dict([changed]))
                is_changed = True
            elif row in self.waiting.rows and use in BOX_USES:
                with self._syncing():
                    reuse_shapes(shapes, [row], Use(use))
                self._shown, is_changed = self._read(), True
        # What the layer shows is what was before.
        self._pushed.clear()
        self.push()
        return is_changed

    @staticmethod
    def _chosen_shapes(shapes: Any, session: Session) -> list[int]:
        if str(shapes.mode) in ("select", "direct") and shapes.selected_data:
            return sorted(shapes.selected_data)
        current, owners = session.current, objects_of(shapes, len(shapes.data))
        own = [row for row, owner in enumerate(owners) if current and owner == current.id]
        return own[-1:]

    def _own(self, role: str) -> Any:
        """Return the layer of a role where it may be written to: not somebody's annotations."""
        layer = self._layers[role]
        return layer if is_own(layer) else None

    def _with_unwritten(self, drawn: Drawn, before: Prompts | None) -> Drawn:
        """Add what an object has and a layer that is only read cannot show."""
        if before is None:
            return drawn
        box, strokes, areas, answer = drawn.box, drawn.strokes, drawn.areas, drawn.answer
        if box is None and self._layers["boxes"] is not None and not self._own("boxes"):
            box, areas = before.box, list(before.areas)
        if box == before.box and not self._own("boxes"):
            # Asked for since: it cannot be written there.
            answer = before.answer
        if not strokes and self._layers["clicks"] is not None and not self._own("clicks"):
            strokes = before.strokes
        return Drawn(box, strokes, areas, answer)

    # -- session -> layers --------------------------------------------------------------------

    def push(self) -> None:
        """Show what the session has: after undo, commit, or when an object is picked up again."""
        session = self._session
        if session is None or self._is_syncing or self._is_drawing:
            return
        wanted = {one.id: one.prompts for one in session.objects if not one.committed}
        self._write(
            {
                number: wanted.get(number)
                for number in wanted.keys() | self._pushed.keys()
                if wanted.get(number) is not self._pushed.get(number)
            }
        )
        with self._syncing():
            taken = {one.prompts.box for one in session.objects if one.prompts is not None}
            if self.waiting.show(self._layers["boxes"], taken):
                self._shown = self._read()
        self._pushed = {number: given for number, given in wanted.items() if given is not None}
        self.set_targets()

    @property
    def _is_drawing(self) -> bool:
        """Whether a box is half drawn: napari loses it where others go meanwhile; then it is told.

        `_is_creating` is so in napari 0.4 to 0.9; where it is not, a key during a drag loses a box.
        """
        return bool(getattr(self._layers["boxes"], "_is_creating", False))

    def _write(self, wanted: dict[int, Prompts | None]) -> None:
        if not wanted or not any(self._layers.values()):
            return
        image, plane = self._planes.image, self._planes.plane
        with self._syncing():
            shapes, points = self._own("boxes"), self._own("clicks")
            remove_prompts(image, shapes, points, [n for n in wanted if wanted[n] is None], plane)
            for number in sorted(wanted):
                if wanted[number] is not None:
                    write_prompts(image, shapes, points, number, wanted[number], plane)
            self._shown = self._read()

    def set_targets(self) -> None:
        """Say whose the next box and the next click will be."""
        if self._session is None:
            return
        box, click = targets(self._session, adds=self.adds)
        with self._syncing():
            set_current_object(self._own("boxes"), None, box)
            set_current_object(None, self._own("clicks"), click)
