"""One session for every plane of every image that is worked on. No Qt, and no torch."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_pisam.docks.segment.channels import Channels
from napari_pisam.layers.geometry import plane_of
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.label_drawing import refresh_labels_windows
from napari_pisam.layers.label_numbers import LayerNumbers
from napari_pisam.layers.labels import (
    LabelsPlane,
    finish_edits,
    labels_plane,
    painted_windows,
    plane_is_displayed,
    promote_labels,
)
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.session.classes import ClassList
from napari_pisam.session.requests import failure_sentence
from napari_pisam.session.session import CommitRule, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.images.crops import Bbox
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.session import Execute, ModelRef


class Planes:
    """The session of the displayed plane, and those of the planes that were displayed before.

    A session goes on living when another slice is shown, so that coming back to it finds its
    objects and its history. Only the displayed one has the predictor.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background and delivers on the main thread.

    Attributes
    ----------
    switched : Signal()
        Another session, or none, is the displayed one.
    changed : Signal(image, ImagePlane)
        There is something to be saved of a plane's session, displayed or not.
    failed, said : Signal(str)
        A sentence that the user has to see, or that is good to know.
    channels : Channels
        What is seen of an image.
    session : Session or None
        Of the displayed plane.
    image, plane : napari Image layer and ImagePlane, or None
        What is displayed.
    labels : LabelsPlane or None
        Where the session commits to.
    sessions : mapping
        Of every image to its sessions by plane.
    classes : ClassList
        What kinds of objects there are, in all images.
    problem : str
        Why there is no session; empty where there is nothing to say.
    """

    switched = Signal()
    changed = Signal(object, object)
    failed = Signal(str)
    said = Signal(str)

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self.sessions: WeakKeyDictionary[Any, dict[ImagePlane, Session]] = WeakKeyDictionary()
        self.classes = ClassList()
        self.classes.changed.connect(self._on_classes)
        self._source: ImageSource | None = None
        self._predictor: Any = None
        self._model: ModelRef | None = None
        self._labels_layer: Any = None
        self._numbers: LayerNumbers | None = None
        self._live, self._rule = True, CommitRule.KEEP
        self._cleaning = Cleaning()
        self.channels = Channels()
        self._is_outdated = self._has_new_values = False
        self._look: tuple[Any, ...] = ()
        self._undone = 0
        self._seen: tuple[tuple[float, float], ...] | None = None
        self.session: Session | None = None
        self.image: Any = None
        self.plane: ImagePlane | None = None
        self.labels: LabelsPlane | None = None
        self.problem = ""
        # What is drawn again of labels then was written here.
        self.is_refreshing = False

    def _on_classes(self) -> None:
        if self.image is not None and self.plane is not None:
            self.changed.emit(self.image, self.plane)

    # -- which plane --------------------------------------------------------------------------

    def show(self, image: Any, dims: Any) -> None:
        """Follow the viewer: take the session of the plane that it displays."""
        plane, problem = None, ""
        if image is not None:
            try:
                plane = plane_of(image, dims, channel_axis=self.channels.axis_of(image))
                if image is self.image and self.plane == plane:
                    if plane.projection != self.plane.projection:
                        self.mark_outdated()
                    # Sliders of other layers may have moved, or been added.
                    self.plane = plane
                    return
                image_source_of(image, plane)
            except ValueError as error:
                plane, problem = None, str(error)
        if plane is None and image is self.image and self.plane is None:
            self.problem = problem
            return
        self._leave()
        self.image, self.problem = image, problem
        if plane is not None:
            self.plane = plane
            self._take_source()
            self._enter(self.session_of(image, plane))
        self.switched.emit()

    def session_of(self, image: Any, plane: ImagePlane) -> Session:
        """Return the session of a plane, displayed or not; a new one where there is none."""
        of_image = self.sessions.setdefault(image, {})
        if plane not in of_image:
            session = Session(self._execute, rule=self._rule)
            session.cleaning = self._cleaning
            # What it is known by may take long to find out: see `Autosaver`.
            session.set_image(plane.size, "", self.prepare)
            of_image[plane] = session
            self._listen(image, plane, session)
        return of_image[plane]

    def forget(self, image: Any) -> None:
        """Drop an image's sessions, and what is known of the labels: both get other contents.

        To be called while no image is displayed.
        """
        self.sessions.pop(image, None)
        self._follow_numbers(None)

    def _listen(self, image: Any, plane: ImagePlane, session: Session) -> None:
        # The sessions go with the image; they must not keep it.
        of = weakref.ref(image)

        def tell(*_given: Any) -> None:
            if (alive := of()) is not None:
                self.changed.emit(alive, plane)

        for signal in (session.objects_changed, session.mask_changed, session.labels_changed):
            signal.connect(tell)

    def _take_source(self) -> None:
        """Look at the image as it is now: its values, and how it is seen.

        Raises
        ------
        ValueError
            If it is no image any more.
        """
        if self.plane is not None:
            self._source, self._look, self._seen = self.channels.see(self.image, self.plane)
            self._is_outdated = self._has_new_values = False

    def prepare(self, predictor: Any) -> None:
        """Show the displayed plane to a predictor; to be called where predictions are made."""
        if self._source is not None:
            predictor.set_image(self._source)

    def _enter(self, session: Session) -> None:
        session.live, session.rule = self._live, self._rule
        session.cleaning = self._cleaning
        # Numbers are given once in an image, whatever its planes.
        session.first_id = max(s.first_id for s in self.sessions[self.image].values())
        self.session = session
        self._attach_labels()
        if self._predictor is not None:
            self._give_predictor()

    def _leave(self) -> None:
        if self.session is not None:
            # Drops what is being predicted for a plane that nobody looks at.
            self.session.set_predictor(None)
        self.session = self.plane = self.labels = self._source = None

    def close(self) -> None:
        """Drop everything that waits, and the model; the sessions stay."""
        self._leave()
        self._follow_numbers(None)
        self._follow_painting(None)
        self.image = self._predictor = self._model = self._labels_layer = None

    # -- what all sessions share --------------------------------------------------------------

    def set_predictor(self, predictor: Any, model: ModelRef | None) -> None:
        """Take another predictor, or none."""
        self._predictor, self._model = predictor, model
        self._give_predictor()

    @property
    def predictor(self) -> Any:
        """What predicts, or None."""
        return self._predictor

    @property
    def rule(self) -> CommitRule:
        """Whose a pixel is when an object is committed."""
        return self._rule

    def _give_predictor(self) -> None:
        if self.session is not None:
            # Another contrast gives other pixels: with which one a mask was made is kept with it.
            model = self._model and replace(self._model, contrast_limits=self._seen)
            self.session.set_predictor(self._predictor, model)

    def set_live(self, live: bool) -> None:
        """Predict on every change of prompts, or on request."""
        self._live = live
        if self.session is not None:
            self.session.live = live

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Choose what is done to every mask when it is committed."""
        self._cleaning = cleaning
        if self.session is not None:
            self.session.cleaning = cleaning

    def set_rule(self, rule: str) -> None:
        """Choose whose a pixel is when an object is committed."""
        self._rule = CommitRule(rule)
        if self.session is not None:
            self.session.rule = self._rule

    def encode_ahead(self, source: ImageSource) -> None:
        """Let another image be encoded in the background, where that is of use."""
        if (encode := getattr(self._predictor, "encode_ahead", None)) is not None:
            self._execute(lambda: encode(source), _ignore, _ignore)

    @property
    def seen(self) -> str:
        """Which part of the image the network sees; empty without a plane."""
        return "" if self.plane is None else self.channels.describe(self.image, self.plane)

    def mark_outdated(self, *, values: bool = True) -> None:
        """Note that the image may look different: other values, or another look of the same."""
        self._is_outdated = True
        self._has_new_values |= values

    def freshen(self) -> None:
        """Before something is asked for: let it be predicted on the image as it looks now."""
        if not self._is_outdated or self.plane is None:
            return
        before, has_new_values = self._look, self._has_new_values
        try:
            self._take_source()
        except ValueError as error:
            self.failed.emit(str(error))
            return
        if self._look == before and not has_new_values:
            return
        if self._predictor is not None:
            self._give_predictor()
            if self._look != before:
                self.said.emit(
                    "The image looks different now (contrast, colours or channels): it is encoded "
                    "again, and masks are made from what you see."
                )

    # -- labels -------------------------------------------------------------------------------

    def set_labels_layer(self, layer: Any) -> None:
        """Commit to another Labels layer, or to none."""
        if layer is not None and layer is not self._labels_layer:
            self._finish_edits(layer)
        self._follow_painting(layer)
        self._labels_layer, self._undone = layer, _strokes_undone(layer)
        self._attach_labels()

    def _finish_edits(self, layer: Any) -> None:
        try:
            if finish_edits(layer):
                self.failed.emit(
                    f"napari ended while something was being written into {layer.name!r}. What was "
                    "half written was taken back: look whether the last object is missing."
                )
        except (ValueError, OSError, RuntimeError) as error:
            self.failed.emit(failure_sentence(error, "Taking back what was half written"))

    def _follow_painting(self, layer: Any) -> None:
        for one, connect in ((self._labels_layer, False), (layer, True)):
            for name, callback in (("paint", self._on_paint), ("set_data", self._on_redrawn)):
                emitter = None if one is None else getattr(one.events, name)
                if emitter is not None:
                    (emitter.connect if connect else emitter.disconnect)(callback)

    def _on_paint(self, event: Any) -> None:
        """Keep what a hand paints, too."""
        painted = painted_windows(event.value)
        for plane, session in tuple(self.sessions.get(self.image, {}).items()):
            labels = session.labels
            if isinstance(labels, LabelsPlane) and labels.layer is self._labels_layer:
                windows = [window for part in painted if (window := labels.window_of(part))]
                for window in windows:
                    session.touch_labels(window)
                if windows:
                    self.changed.emit(self.image, plane)

    def _on_redrawn(self, _event: Any) -> None:
        """Look again at what was painted; save it where napari took a stroke back, or redid it.

        Nothing else is heard of that, neither what nor where.
        """
        undone, self._undone = self._undone, _strokes_undone(self._labels_layer)
        if undone == self._undone:
            if self.session is not None and self.labels is not None:
                self.session.read_labels_again()
            return
        for plane, session in tuple(self.sessions.get(self.image, {}).items()):
            labels = session.labels
            if isinstance(labels, LabelsPlane) and labels.layer is self._labels_layer:
                session.read_labels_again()
                self.changed.emit(self.image, plane)

    def attach_labels_to(self, plane: ImagePlane, session: Session) -> None:
        """Let the session of a plane that may not be displayed commit to the labels.

        Raises
        ------
        ValueError
            If they do not fit.
        """
        if self._labels_layer is not None:
            labels = labels_plane(self._labels_layer, plane, self.image)
            numbers = None if self._numbers is None else self._numbers.numbers
            session.set_labels(labels, first_id=session.first_id, numbers=numbers)

    def _attach_labels(self) -> None:
        session, layer = self.session, self._labels_layer
        self.labels = None
        if session is None or self.plane is None:
            return
        try:
            if layer is not None:
                self.labels = labels_plane(layer, self.plane, self.image)
            self._follow_numbers(None if self.labels is None else layer)
            self._set_labels(session)
        except ValueError as error:
            self.labels = None
            session.set_labels(None, first_id=session.first_id)
            self.failed.emit(str(error))
            return

    def _set_labels(self, session: Session) -> None:
        numbers = None if self._numbers is None else self._numbers.numbers
        # What a large layer holds is known later, and only then counts.
        first = session.first_id if numbers is None else max(session.first_id, numbers.next())
        session.set_labels(self.labels, first_id=first, numbers=numbers)

    def _follow_numbers(self, layer: Any) -> None:
        """Know which numbers a Labels layer holds, from now on."""
        if self._numbers is not None and self._numbers.layer is layer:
            return
        if self._numbers is not None:
            self._numbers.close()
        self._numbers = None if layer is None else LayerNumbers(layer, self._execute)
        if self._numbers is not None:
            self._numbers.found.connect(self._on_numbers)
            self._numbers.failed.connect(self._on_numbers_failed)

    def _on_numbers(self) -> None:
        if self.session is not None and self._numbers is not None:
            self.session.first_id = self._numbers.numbers.next()
            self.switched.emit()

    def _on_numbers_failed(self, error: BaseException) -> None:
        self.failed.emit(failure_sentence(error, "Looking through the labels"))

    def when_numbered(self, call: Callable[[], None]) -> bool:
        """Call now, or when it is known which numbers the labels hold; whether it was now."""
        if self._numbers is None:
            call()
            return True
        return self._numbers.when_known(call)

    def widen_labels(self, largest: int) -> bool:
        """Make room for a number in the labels; whether that was necessary."""
        session, layer = self.session, self._labels_layer
        if session is None or layer is None or session.needed_dtype(largest) is None:
            return False
        promote_labels(layer, largest)
        self._set_labels(session)
        return True

    def refresh_labels(self, labels: Any, windows: list[Bbox], dims: Any) -> None:
        """Show what was written into windows of labels, which may be others than those of now."""
        plane = self.plane if labels is self.labels else None
        shown = plane is not None and plane_is_displayed(plane, self.image, dims)
        self.is_refreshing = True
        try:
            refresh_labels_windows(labels, windows, is_displayed=shown)
        finally:
            self.is_refreshing = False


def _ignore(_value: object) -> None:
    """Say nothing: what was not done ahead is done when it is needed."""


def _strokes_undone(layer: Any) -> int:
    """Count the strokes on Labels that napari could redo: another number after undo and redo.

    `_redo_history` is so in napari 0.4 to 0.9; where it is not, nothing is noticed.
    """
    return len(getattr(layer, "_redo_history", ()))
