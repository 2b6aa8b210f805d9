"""A session: objects with their prompts and masks in one image, and the labels they end up in.

To be used from the main thread only. Knows neither Qt nor napari, and imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.document import Document
from napari_pisam.session.history import Change
from napari_pisam.session.merge import CommitRule, LabelOverflowError
from napari_pisam.session.predicting import Predicting
from napari_pisam.session.records import (
    ModelRef,
    Record,
    SessionObject,
    SessionState,
    mask_from_label,
    same_prompts,
)
from napari_pisam.session.requests import Execute, failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike

    from napari_pisam.images.crops import Bbox
    from napari_pisam.measure.cleaning import Cleaning
    from napari_pisam.predict.mask import Mask
    from napari_pisam.session.numbers import LabelNumbers
    from napari_pisam.session.predicting import Predicts

__all__ = [
    "CommitRule",
    "Execute",
    "LabelOverflowError",
    "ModelRef",
    "Session",
    "SessionObject",
    "SessionState",
]

# What a store of labels may raise that is no mistake of the caller: disk, memory, its own errors.
_STORE_ERRORS = (OSError, MemoryError, RuntimeError)
_TOLD_AT_ONCE = 1000


class Session:
    """The objects of one image.

    Coordinates are (row, col) px in the image's own data space, pixel centres at integers.
    Methods raise ValueError for what cannot be done, and then change nothing; what fails on the
    way (a prediction, a disk) is told by `failed`, and then nothing has changed either.

    Parameters
    ----------
    execute : Execute
        ``execute(job, done, failed)`` runs ``job()`` in the background and calls ``done(result)``
        or ``failed(error)`` on the main thread.
    rule : CommitRule
        Whose a pixel is when an object is committed.

    Attributes
    ----------
    objects_changed : Signal()
        The list, prompts or committed flags.
    current_changed : Signal(int or None)
        The current object's number.
    mask_changed : Signal(int)
        An object's preview; its mask may be None now, or the object gone.
    labels_changed : Signal(tuple)
        (row0, col0, row1, col1) px, half open: the window of the labels that was written.
    busy_changed : Signal(bool)
        Whether something is being predicted.
    failed : Signal(str)
        What went wrong and what to do, for the user; no prompts are lost.
    history_changed : Signal()
        `can_undo` or `can_redo` may have changed.
    live : bool
        Whether a change of prompts asks for a mask; else only `predict_now` and `commit` do.
    rule : CommitRule
        For the commits to come; may be set.
    """

    objects_changed = Signal()
    current_changed = Signal(object)
    mask_changed = Signal(int)
    labels_changed = Signal(tuple)
    busy_changed = Signal(bool)
    failed = Signal(str)
    history_changed = Signal()

    def __init__(self, execute: Execute, *, rule: CommitRule = CommitRule.KEEP) -> None:
        self.live = True
        self.rule = CommitRule(rule)
        self._document = Document()
        self._predicting = Predicting(execute, self._document, self)
        self._shape: tuple[int, int] | None = None
        self._signature = ""
        self._objects: tuple[SessionObject, ...] | None = None
        self._told_current: int | None = None
        self._unfinished: Generator[None, None, bool] | None = None

    # -- what there is ------------------------------------------------------------------------

    @property
    def objects(self) -> tuple[SessionObject, ...]:
        """All objects, by number."""
        if self._objects is None:
            records = self._document.records
            self._objects = tuple(records[number].view for number in sorted(records))
        return self._objects

    @property
    def current(self) -> SessionObject | None:
        """The object that is being worked on."""
        number = self._document.current
        return None if number is None else self._document.records[number].view

    def get(self, id: int) -> SessionObject | None:  # noqa: A002
        """Return an object, or None where there is none of this number."""
        record = self._document.records.get(id)
        return None if record is None else record.view

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of the image, px, or None without one."""
        return self._shape

    @property
    def signature(self) -> str:
        """The image's, as given to `set_image`."""
        return self._signature

    @property
    def model(self) -> ModelRef | None:
        """What predicts now."""
        return self._document.model

    @property
    def labels(self) -> Any:
        """The labels that commits write into, or None."""
        return self._document.store.labels

    @property
    def has_content(self) -> bool:
        """Whether there is anything to keep: objects, or labels that were written or painted."""
        return bool(self._document.records or self._document.touched)

    @property
    def can_undo(self) -> bool:
        """Whether `undo` would do something."""
        return self._document.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether `redo` would do something."""
        return self._document.history.can_redo

    @property
    def first_id(self) -> int:
        """The number that the next new object gets; to be raised above labels that are there."""
        return self._document.next_id

    @first_id.setter
    def first_id(self, value: int) -> None:
        self._document.first_id = max(self._document.first_id, int(value))

    def needed_dtype(self, id: int | None = None) -> np.dtype[Any] | None:  # noqa: A002
        """Return the type that the labels need for an object, the current or next one by default.

        Returns
        -------
        numpy.dtype or None
            None where the labels hold it. Else convert them, `set_labels` the result, and commit.
        """
        number = self._document.current if id is None else id
        return self._document.store.needed_dtype(self.first_id if number is None else number)

    # -- what it works with -------------------------------------------------------------------

    def set_predictor(self, predictor: Predicts | None, model: ModelRef | None = None) -> None:
        """Take another predictor, or none.

        What is being predicted is dropped, previews become stale, prompts and labels stay; if
        `live`, the current object's mask is asked for.

        Parameters
        ----------
        predictor : Predictor or None
            What predicts from now on. It is given its image by the session.
        model : ModelRef, optional
            What it is, for session files; two predictors of the same one give the same masks.
        """
        self._predicting.set_predictor(predictor, model)
        self.tell_previews(self._document.refresh())
        self._ask_if_live(self._document.current)

    def set_image(
        self, shape: tuple[int, int], signature: str, prepare: Callable[[Any], None]
    ) -> None:
        """Take another image. All objects and the history are forgotten: save or ask before.

        Labels of another shape are let go of; set the new ones afterwards.

        Parameters
        ----------
        shape : (int, int)
            (H, W), px.
        signature : str
            See `PlaneIdentity`; may be empty, then `from_state` compares shapes alone.
        prepare : callable
            ``prepare(predictor)`` gives the image to a predictor; called in the background, before
            its first prediction in this image.
        """
        self.finish()
        self._shape = (int(shape[0]), int(shape[1]))
        self._signature = signature
        self._predicting.set_image(self._shape, prepare)
        gone = tuple(self._document.records)
        self._document.clear()
        labels = self.labels
        if labels is not None and tuple(labels.shape) != self._shape:
            self._document.store.replace(None, None, 0)
        self.first_id = self._document.store.first_free()
        self._tell(Change(gone))

    def set_labels(
        self, labels: Any, *, first_id: int | None = None, numbers: LabelNumbers | None = None
    ) -> None:
        """Choose the labels that commits write into, one window at a time.

        Objects and history stay: the array may be a converted copy of the one before.

        Parameters
        ----------
        labels : (H, W) integer array or None
            numpy, zarr, or anything that reads and writes windows.
        first_id : int, optional
            The least number for new objects. By default the first one above the labels' where
            that is quick to find (4 million px), else what it was.
        numbers : LabelNumbers, optional
            The numbers of all that these labels are a part of, a stack for example: no object is
            written with one of them. By default those of these labels.

        Raises
        ------
        ValueError
            If the shape is not the image's, or the dtype does not hold what is committed.
        """
        self.finish()
        committed = [one.id for one in self.objects if one.committed]
        self._document.set_labels(labels, self._shape, max(committed, default=0), numbers)
        self.first_id = self._document.store.first_free() if first_id is None else first_id

    # -- objects and their prompts ------------------------------------------------------------

    def new_object(self, prompts: Prompts | None = None, *, id: int | None = None) -> int:  # noqa: A002
        """Make an object and work on it; one step to undo.

        Parameters
        ----------
        prompts : Prompts, optional
            What it begins with.
        id : int, optional
            Its number, above 0 and not in use; `first_id` by default.

        Returns
        -------
        int
            Its number.
        """
        change = self._document.add(prompts, id)
        self._tell(change)
        self._ask_if_live(change.ids[0])
        return change.ids[0]

    def select(self, id: int | None) -> None:  # noqa: A002
        """Work on an object, or on none. Nothing to undo; a committed one stays committed."""
        if id is not None:
            self._document.known(id)
        self._document.current = id
        self._tell_current()
        self._ask_if_live(id)

    def set_prompts(self, id: int, prompts: Prompts | None) -> None:  # noqa: A002
        """Replace an object's prompts; one step to undo, nothing where they are the same.

        A committed object is reopened by that, which is a step of its own. If `live`, the mask is
        asked for; until it comes the mask of the older prompts stays, as stale.
        """
        record = self._document.known(id)
        if same_prompts(record.view.prompts, prompts):
            return
        if record.view.committed:
            self.reopen(id)
            if self._document.known(id).view.committed:
                return
        self._predicting.call_off_commit(id)
        change = self._document.set_prompts(id, prompts)
        if prompts is None:
            self._predicting.forget(id)
        self._tell(change)
        self._ask_if_live(id)

    def start_from_label(self, id: int, crop: ArrayLike, origin: tuple[int, int]) -> None:  # noqa: A002
        """Make an object of a label that is there, to correct it; one step to undo.

        Its pixels leave the labels and become the preview, and a mask prompt. Nothing is predicted
        before there is a click.

        Parameters
        ----------
        id : int
            The label. If that is a committed object, it is reopened.
        crop : (h, w) bool array
            Its pixels.
        origin : (int, int)
            (row, col) of ``crop[0, 0]`` in the image.

        Raises
        ------
        ValueError
            If there is no image, the crop has no pixel or reaches outside the image, or the
            number is 0 or in use.
        """
        if (record := self._document.records.get(id)) is not None and record.view.committed:
            self.reopen(id)
            return
        shape = self._image_shape()
        if id < 1 or record is not None:
            raise ValueError(
                f"Label {id} cannot be picked up: 0 is the background, and an object that is "
                "being worked on is not in the labels. Choose another label."
            )
        mask = MaskPrompt.from_any((crop, origin))
        prompts = Prompts(mask=mask).validated_for(shape)
        self.attempt(lambda: self._document.start(id, prompts, mask, shape))

    def adopt(self, objects: Sequence[tuple[int, Prompts, str]], *, commit: bool) -> bool:
        """Make objects of what was found elsewhere: masks, or boxes; one step to undo.

        Parameters
        ----------
        objects : sequence of (int, Prompts, str)
            A number, which is replaced where it is in use, prompts and a class each. A mask alone
            is the object's mask, nothing is predicted for it.
        commit : bool
            Whether they are written into the labels, each with a mask then; those that would get
            no pixel stay open.

        Returns
        -------
        bool
            Whether they are there; False if writing the labels failed.

        Raises
        ------
        ValueError
            If one lies outside of the image, or there are no labels that hold the numbers.
        """
        shape = self._image_shape()
        items = [(id_, prompts.validated_for(shape), name) for id_, prompts, name in objects]
        if commit:
            self._document.store.check(max((id_ for id_, *_ in items), default=0))
        rule = self.rule if commit else None
        return self.attempt(lambda: self._document.adopt(items, shape, rule)) is not None

    @property
    def class_name(self) -> str:
        """Class of the objects to come; empty for none."""
        return self._document.class_name

    @class_name.setter
    def class_name(self, name: str) -> None:
        self._document.class_name = name

    def set_class(self, ids: Iterable[int], class_name: str, group: object | None = None) -> None:
        """Say what kind of things objects are; one step to undo, nothing where it is the same.

        Edits of one `group` are undone together.
        """
        chosen = list(ids)
        self.attempt(lambda: self._document.set_class(chosen, class_name, group))

    # -- cleaning -----------------------------------------------------------------------------

    @property
    def cleaning(self) -> Cleaning:
        """What is done to masks when they are committed; may be set."""
        return self._document.cleaning

    @cleaning.setter
    def cleaning(self, value: Cleaning) -> None:
        self._document.cleaning = value

    def pixels(self, id: int) -> MaskPrompt | None:  # noqa: A002
        """Return what an object is now: its mask, or what the labels hold of it; None: nothing."""
        return self._document.pixels(id)

    def reshape(self, masks: Mapping[int, MaskPrompt | None]) -> bool:
        """Give objects other pixels, which become their prompts; one step to undo.

        Committed objects stay committed: by the rule of now, and never over others but with
        `OVERWRITE`.

        Parameters
        ----------
        masks : mapping of int to (MaskPrompt or None)
            By object; None: it goes. The first one is there; one that is not there yet is made, as
            open or committed as the first one.

        Returns
        -------
        bool
            Whether it was done; False if writing the labels failed.

        Raises
        ------
        ValueError
            If the first object is not there, or one would get no pixel.
        """
        shape = self._image_shape()
        for number in masks:
            self._predicting.forget(number)
        return self.attempt(lambda: self._document.reshape(masks, shape, self.rule)) is not None

    # -- commit, discard, reopen --------------------------------------------------------------

    def commit(self, id: int | None = None, *, confirmed: bool = True) -> bool:  # noqa: A002
        """Write an object's mask into the labels, in the mask's window only; one step to undo.

        Where the mask of the newest prompts is not there yet, the object is committed as soon as
        it has come; changing its prompts, `undo` or `cancel` call that off.

        Parameters
        ----------
        id : int, optional
            The current one by default.
        confirmed : bool
            Whether a mask that was carried here from another slice is the user's own from now on.

        Returns
        -------
        bool
            Whether it is committed now.

        Raises
        ------
        LabelOverflowError
            If its number does not fit the labels, see `needed_dtype`.
        ValueError
            If there is no such object, no labels or nothing to predict with, or if it would get no
            pixel.
        """
        record = self._chosen(id)
        number = record.view.id
        if record.view.committed:
            return True
        self._document.check(number)
        if record.is_current_mask:
            commit = partial(self._document.commit, number, self.rule, confirmed=confirmed)
            return self.attempt(commit) is not None
        if record.view.prompts is None:
            raise ValueError(f"Object {number} has no prompts. Draw a box or click on it.")
        if not self._predicting.is_ready:
            raise ValueError(f"Object {number} has no mask yet. Load a model first.")
        self._predicting.commit_when_ready(number, self.rule)
        return (view := self.get(number)) is not None and view.committed

    def discard(self, id: int | None = None) -> bool:  # noqa: A002
        """Remove an object and, if it is committed, its pixels; one step to undo.

        Returns
        -------
        bool
            Whether it is gone; False if writing the labels failed.
        """
        number = self._chosen(id).view.id
        self._predicting.forget(number)
        return self.attempt(lambda: self._document.discard((number,))) is not None

    def reopen(self, id: int) -> bool:  # noqa: A002
        """Pick up a committed object again, to correct it; one step to undo.

        Its pixels become the preview. Where they still are its own, the labels get back what was
        there before its commit. Where it was erased or painted by hand since, what the labels hold
        is the object from now on: a mask prompt, as with `start_from_label`.

        Returns
        -------
        bool
            Whether it is open; False if writing the labels failed.

        Raises
        ------
        ValueError
            If nothing is left of it in the labels.
        """
        if not self._document.known(id).view.committed:
            self.select(id)
            return True
        return self.attempt(lambda: self._document.reopen(id)) is not None

    def clear(self) -> None:
        """Remove all objects that are not committed; one step to undo."""
        numbers = [one.id for one in self.objects if not one.committed]
        self.cancel()
        if numbers:
            self.attempt(lambda: self._document.discard(numbers))

    # -- through a stack ----------------------------------------------------------------------

    def carry(
        self,
        id: int,  # noqa: A002
        mask: Mask | None,
        source: tuple[int, ...],
        *,
        rule: CommitRule,
        group: object,
        class_name: str = "",
    ) -> bool:
        """Write an object's mask that came from another slice, in place of what came before.

        Parameters
        ----------
        id : int
        mask : Mask or None
            None: the object is not in this slice.
        source : tuple of int
            See `SessionObject.source`.
        rule : CommitRule
            Whose the pixels are.
        group : object
            What is done with it, in this and in other sessions, is one step to undo.
        class_name : str
            What kind of thing it is.

        Returns
        -------
        bool
            Whether it was; False if writing the labels failed.

        Raises
        ------
        ValueError
            If there are no labels, or it would get no pixel.
        """
        known = self._document.records.get(id)
        new = None if mask is None else _of_mask(id, mask, source, class_name)
        gone: dict[int, MaskPrompt | None] = {} if known is None else {id: None}
        return self._exchange(gone, new, rule, group)

    def relabel(
        self,
        pixels: Mapping[int, MaskPrompt],
        id: int,  # noqa: A002
        *,
        group: object,
    ) -> bool:
        """Give the pixels of objects and labels to one object, which may be one of them.

        Parameters
        ----------
        pixels : mapping of int to MaskPrompt
            What they have in the labels.
        id : int
            Who gets them.
        group : object
            See `carry`.

        Returns
        -------
        bool
            Whether it was; False if writing the labels failed.

        Raises
        ------
        ValueError
            If there are no labels.
        """
        views = [record.view for n in pixels if (record := self._document.records.get(n))]
        scores = [view.mask.score for view in views if view.mask is not None]
        # Of several, it comes from nowhere else as it is.
        source = views[0].source if len(pixels) == len(views) == 1 else ()
        mask = mask_from_label(MaskPrompt.joined(list(pixels.values())), self._image_shape())
        kinds = {view.id: view.class_name for view in views if view.class_name}
        kind = kinds.get(id) or next(iter(kinds.values()), "")
        new = _of_mask(id, replace(mask, score=min(scores, default=1.0)), source, kind)
        return self._exchange(pixels, new, CommitRule.OVERWRITE, group)

    def _exchange(
        self,
        gone: Mapping[int, MaskPrompt | None],
        new: Record | None,
        rule: CommitRule,
        group: object,
    ) -> bool:
        for number in gone:
            self._predicting.forget(number)
        return self.attempt(lambda: self._document.exchange(gone, new, rule, group)) is not None

    def mark(self, group: object) -> None:
        """Let undoing take back a group here too, although nothing was written here."""
        self.attempt(lambda: self._document.exchange({}, None, self.rule, group))

    # -- undo and redo ------------------------------------------------------------------------

    @property
    def undo_group(self) -> object | None:
        """The group that `undo` would take back, None where that is something of no group."""
        entry = self._document.to_undo()
        return None if entry is None else entry.group

    @property
    def redo_group(self) -> object | None:
        """The group that `redo` would make again."""
        entry = self._document.history.next_redo(self._document.current)
        return None if entry is None else entry.group

    def undo_only(self, group: object) -> bool:
        """Take back what was done last if it is of a group; whether it was."""
        return self._repeat(self._document.undo, self.can_undo, group)

    def redo_only(self, group: object) -> bool:
        """Make again what was undone last if it is of a group; whether it was."""
        return self._repeat(self._document.redo, self.can_redo, group)

    def undo(self) -> bool:
        """Take back the current object's last prompt edit, or else what was done last of all.

        Returns
        -------
        bool
            Whether anything was undone; False too if writing the labels failed.
        """
        return self._repeat(self._document.undo, self.can_undo)

    def redo(self) -> bool:
        """Make again what was undone last, the current object's prompts first; see `undo`."""
        return self._repeat(self._document.redo, self.can_redo)

    def _repeat(
        self,
        step: Callable[[object | None], Change],
        is_possible: bool,
        group: object | None = None,
    ) -> bool:
        """Undo or redo once, or all of a group."""
        self._predicting.drop_pending()
        changes: list[Change] = []
        made = self._made(partial(step, group)) if is_possible else None
        while made is not None and (group is None or made.group is not None):
            changes.append(made)
            made = None if made.group is None else self._made(partial(step, made.group))
        if changes:
            # Told once: many boxes go back into their layer in one go.
            numbers = dict.fromkeys(number for change in changes for number in change.ids)
            self._tell(Change(tuple(numbers), tuple(w for one in changes for w in one.windows)))
            for number in numbers:
                self._ask_if_live(number)
        return bool(changes)

    # -- predictions --------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether something is being predicted or waits for it."""
        return self._predicting.is_busy

    def predict_now(self) -> None:
        """Ask for the current object's mask, `live` or not."""
        if self._document.current is not None:
            self._predicting.ask(self._document.current)

    def cancel(self) -> None:
        """Drop what waits and what runs, commits that wait for a mask, and *Segment all*."""
        self._predicting.cancel()

    @property
    def tiles(self) -> tuple[int, int] | None:
        """Tiles done and in all, while a large object is predicted; to be asked now and then."""
        return self._predicting.tiles

    def segment_all(
        self,
        boxes: Sequence[ArrayLike | Prompts],
        *,
        opened: Sequence[int] = (),
        progress: Callable[[int, int], None] | None = None,
        batch: int = 16,
    ) -> None:
        """Make an object of each box and commit it, in the background; one step to undo.

        Clicks on other objects come first, between two batches. `cancel` and `undo` stop it; what
        is committed by then stays or is undone. An object that would get no pixel stays open;
        `failed` says in the end how many did.

        Parameters
        ----------
        boxes : sequence of 4 floats or of Prompts
            (row_min, col_min, row_max, col_max) px, or prompts of a box alone.
        opened : sequence of int
            Open objects of a box and no clicks, to be predicted (where the mask of their box and
            this model is not there yet) and committed too.
        progress : callable, optional
            Called with (boxes done, boxes in all), first with 0 done.
        batch : int
            Boxes per prediction.

        Raises
        ------
        ValueError
            If a box is wrong or outside the image, something is missing, or it runs already.
        """
        shape = self._image_shape()
        if self._predicting.has_batch:
            raise ValueError("Boxes are being segmented already. Wait, or cancel that first.")
        ready, items = self._predicting.sort(opened)
        for number, box in enumerate(boxes, 1):
            try:
                prompts = box if isinstance(box, Prompts) else Prompts(box)
                items.append((None, prompts.validated_for(shape)))
            except ValueError as error:
                raise ValueError(f"Box {number}: {error}") from error
        if items and not self._predicting.is_ready:
            raise ValueError("There is no model to segment with. Load one first.")
        self._document.store.check(max([self.first_id + max(len(boxes), 1) - 1, *opened]))
        self._predicting.segment(items, ready, self.rule, batch, progress)

    # -- keep and restore ---------------------------------------------------------------------

    def touch_labels(self, bbox: Bbox) -> None:
        """Note that somebody else wrote a window of the labels, px: what is there now is kept."""
        self._document.touched.touch(bbox)

    def read_labels_again(self) -> None:
        """Note that the labels may be others wherever they were written or painted before."""
        self._document.touched.touch_all()

    def to_state(self) -> SessionState:
        """Return everything but the undo history; quick, and safe to write in another thread.

        Raises
        ------
        ValueError
            If there is no image.
        """
        self.finish()
        return self._document.state(self._image_shape(), self._signature, self.rule)

    def from_state(self, state: SessionState) -> None:
        """Take over a saved session in place of the objects and the history; labels stay.

        See `restore` for what a person does, which can be undone and writes the labels.

        Raises
        ------
        ValueError
            If it belongs to another image than the one that is set.
        """
        self.finish()
        self._check_fits(state)
        self._predicting.cancel()
        gone = tuple(self._document.records)
        self._document.take_over(state)
        self.rule = state.rule
        self.first_id = max(state.next_id, self._document.store.first_free())
        self._tell(Change(tuple({*gone, *self._document.records})))
        self._ask_if_live(self._document.current)

    def restore(self, state: SessionState) -> bool:
        """Go on with a saved session, in place of the objects that are here; one step to undo.

        The objects that are here leave the labels. Labels that are there otherwise stay, unless
        the rule of now is `OVERWRITE`.

        Returns
        -------
        bool
            Whether it was; False if writing the labels failed.

        Raises
        ------
        ValueError
            If it belongs to another image than the one that is set.
        """
        self.restoring(state)
        return self.finish()

    def restoring(self, state: SessionState) -> Generator[None, None, bool]:
        """Go on with a saved session in short steps; see `restore`.

        Nothing else waits for them: whoever does something meanwhile does the rest first.

        Raises
        ------
        ValueError
            As `restore`, now or with a step.
        """
        self._check_fits(state)
        self._predicting.cancel()
        self._unfinished = steps = self._restoring(state)
        # What is drawn meanwhile is another object.
        self.first_id = state.next_id
        self.objects_changed.emit()
        return steps

    def _restoring(self, state: SessionState) -> Generator[None, None, bool]:
        try:
            with self._document.store.edit():
                change = yield from self._document.restoring(state, self.rule)
        except _STORE_ERRORS as error:
            self.failed.emit(failure_sentence(error, "Writing the labels"))
            return False
        finally:
            self._unfinished = None
        yield from self._telling(change)
        self._ask_if_live(self._document.current)
        return True

    def finish(self) -> bool:
        """Do what is left of `restoring`; whether something was restored."""
        steps, self._unfinished = self._unfinished, None
        while steps is not None:
            try:
                next(steps)
            except StopIteration as end:
                return bool(end.value)
        return False

    # -- helpers ------------------------------------------------------------------------------

    def _check_fits(self, state: SessionState) -> None:
        shape = self._image_shape()
        is_known = bool(self._signature)
        if state.shape != shape or (is_known and state.signature != self._signature):
            raise ValueError(
                f"The session belongs to another image (of {state.shape} px, with other values); "
                f"this one has {shape}. Open the image that it was made with."
            )
        committed = [one.view.id for one in state.records if one.view.committed]
        if self.labels is not None:
            self._document.store.check(max(committed, default=0))

    def _ask_if_live(self, number: int | None) -> None:
        if self.live:
            self._predicting.ask_if_stale(number)

    def _image_shape(self) -> tuple[int, int]:
        if self._shape is None:
            raise ValueError("There is no image. Choose an image layer first.")
        return self._shape

    def _chosen(self, number: int | None) -> Record:
        chosen = self._document.current if number is None else number
        if chosen is None:
            raise ValueError("No object is selected. Select one of the list, or draw a new box.")
        return self._document.known(chosen)

    # -- what comes back, and what is told ----------------------------------------------------

    def attempt(self, change: Callable[[], Change]) -> Change | None:
        """Make a change of the document and tell it; None where writing the labels failed."""
        made = self._made(change)
        if made is not None:
            self._tell(made)
        return made

    def tell_busy(self, busy: bool) -> None:
        """Say whether something is being predicted."""
        self.busy_changed.emit(busy)

    def tell_failed(self, text: str) -> None:
        """Say what went wrong."""
        self.failed.emit(text)

    def tell_previews(self, ids: Iterable[int]) -> None:
        """Say that masks changed."""
        self._objects = None
        for number in ids:
            self.mask_changed.emit(number)

    def _made(self, change: Callable[[], Change]) -> Change | None:
        """Make a change that is to be told; None where writing the labels failed, which is told."""
        self.finish()
        try:
            with self._document.store.edit():
                return change()
        except _STORE_ERRORS as error:
            self.failed.emit(failure_sentence(error, "Writing the labels"))
            return None

    def _tell(self, change: Change) -> None:
        for _ in self._telling(change):
            pass

    def _telling(self, change: Change) -> Iterator[None]:
        self._objects = None
        for window in change.windows:
            self.labels_changed.emit(window)
        self.objects_changed.emit()
        for start in range(0, len(change.ids), _TOLD_AT_ONCE):
            yield
            self.tell_previews(change.ids[start : start + _TOLD_AT_ONCE])
        self._tell_current()
        self.history_changed.emit()

    def _tell_current(self) -> None:
        if self._document.current != self._told_current:
            self._told_current = self._document.current
            self.current_changed.emit(self._told_current)


def _of_mask(id_: int, mask: Mask, source: tuple[int, ...], class_name: str) -> Record:
    """Make an object of a mask, which is all its prompts."""
    prompts = Prompts(mask=MaskPrompt.from_any(mask))
    view = SessionObject(id_, prompts, mask.without_logits(), False, False, class_name, source)
    return Record(view, prompts)
