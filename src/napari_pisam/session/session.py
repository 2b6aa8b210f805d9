"""A session: objects with their prompts and masks in one image, and the labels they end up in.

To be used from the main thread only. Knows neither Qt nor napari, and imports no torch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.background import Background, Listener
from napari_pisam.session.history import Change
from napari_pisam.session.merge import CommitRule, LabelOverflowError
from napari_pisam.session.observed import ObservedDocument
from napari_pisam.session.records import ModelRef, SessionObject, SessionState, same_prompts
from napari_pisam.session.requests import Execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from napari_pisam.session.predictions import Predicts

__all__ = [
    "CommitRule",
    "Execute",
    "LabelOverflowError",
    "ModelRef",
    "Session",
    "SessionObject",
    "SessionState",
]


class Session(ObservedDocument):
    """The objects of one image.

    Coordinates are (row, col) px in the image's own data space, pixel centres at integers.
    Methods raise ValueError for what cannot be done, and then change nothing; what fails on the
    way (a prediction, a disk) is told by `failed`, and then nothing has changed either.

    What there is to see and to listen to (`objects`, `current`, `failed`, ...) is described at
    `ObservedDocument`.

    Parameters
    ----------
    execute : Execute
        ``execute(job, done, failed)`` runs ``job()`` in the background and calls ``done(result)``
        or ``failed(error)`` on the main thread.
    rule : CommitRule
        Whose a pixel is when an object is committed.

    Attributes
    ----------
    live : bool
        Whether a change of prompts asks for a mask; else only `predict_now` and `commit` do.
    """

    def __init__(self, execute: Execute, *, rule: CommitRule = CommitRule.KEEP) -> None:
        super().__init__(rule)
        self.live = True
        listener = Listener(
            self.busy_changed.emit, self._tell_previews, self._attempt, self.failed.emit
        )
        self._background = Background(execute, self._document, listener)

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
        self._background.cancel()
        self._background.predictions.set_predictor(predictor, model)
        self._document.model = self._background.predictions.model
        self._tell_previews(self._document.refresh())
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
            See `image_signature`.
        prepare : callable
            ``prepare(predictor)`` gives the image to a predictor; called in the background, before
            its first prediction in this image.
        """
        self._background.cancel()
        self._shape = (int(shape[0]), int(shape[1]))
        self._signature = signature
        self._background.set_shape(self._shape)
        self._background.predictions.set_image(prepare)
        gone = tuple(self._document.records)
        self._document.clear()
        labels = self.labels
        if labels is not None and tuple(labels.shape) != self._shape:
            self._document.store.labels = None
        self.first_id = self._document.store.largest() + 1
        self._tell(Change(gone))

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
        self._background.call_off_commit(id)
        change = self._document.set_prompts(id, prompts)
        if prompts is None:
            self._background.forget(id)
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
        self._attempt(lambda: self._document.start(id, prompts, mask, shape))

    # -- commit, discard, reopen --------------------------------------------------------------

    def commit(self, id: int | None = None) -> bool:  # noqa: A002
        """Write an object's mask into the labels, in the mask's window only; one step to undo.

        Where the mask of the newest prompts is not there yet, the object is committed as soon as
        it has come; changing its prompts, `undo` or `cancel` call that off.

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
        self._document.store.check(number)
        if record.is_current_mask:
            return self._attempt(lambda: self._document.commit(number, self.rule)) is not None
        if record.view.prompts is None:
            raise ValueError(f"Object {number} has no prompts. Draw a box or click on it.")
        if not self._background.predictions.is_ready:
            raise ValueError(f"Object {number} has no mask yet. Load a model first.")
        self._background.commit_when_ready(number, self.rule)
        return (view := self.get(number)) is not None and view.committed

    def discard(self, id: int | None = None) -> bool:  # noqa: A002
        """Remove an object and, if it is committed, its pixels; one step to undo.

        Returns
        -------
        bool
            Whether it is gone; False if writing the labels failed.
        """
        number = self._chosen(id).view.id
        self._background.forget(number)
        return self._attempt(lambda: self._document.discard((number,))) is not None

    def reopen(self, id: int) -> bool:  # noqa: A002
        """Pick up a committed object again, to correct it; one step to undo.

        Its pixels become the preview. Where they still are its own, the labels get back what was
        there before its commit.

        Returns
        -------
        bool
            Whether it is open; False if writing the labels failed.
        """
        if not self._document.known(id).view.committed:
            self.select(id)
            return True
        return self._attempt(lambda: self._document.reopen(id)) is not None

    def clear(self) -> None:
        """Remove all objects that are not committed; one step to undo."""
        numbers = [one.id for one in self.objects if not one.committed]
        self.cancel()
        if numbers:
            self._attempt(lambda: self._document.discard(numbers))

    # -- undo and redo ------------------------------------------------------------------------

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

    def _repeat(self, step: Callable[[object | None], Change], is_possible: bool) -> bool:
        """Undo or redo once, or all of a group."""
        self._background.drop_pending()
        changes: list[Change] = []
        made = self._made(partial(step, None)) if is_possible else None
        while made is not None:
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
        return self._background.predictions.requests.is_busy

    def predict_now(self) -> None:
        """Ask for the current object's mask, `live` or not."""
        if self._document.current is not None:
            self._background.ask(self._document.current)

    def cancel(self) -> None:
        """Drop what waits and what runs, commits that wait for a mask, and *Segment all*."""
        self._background.cancel()

    def segment_all(
        self,
        boxes: Sequence[ArrayLike],
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
        boxes : sequence of 4 floats
            (row_min, col_min, row_max, col_max) px.
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
        if self._background.has_batch:
            raise ValueError("Boxes are being segmented already. Wait, or cancel that first.")
        ready, items = self._background.sort(opened)
        for number, box in enumerate(boxes, 1):
            try:
                items.append((None, Prompts(box).validated_for(shape)))
            except ValueError as error:
                raise ValueError(f"Box {number}: {error}") from error
        if items and not self._background.predictions.is_ready:
            raise ValueError("There is no model to segment with. Load one first.")
        self._document.store.check(max([self.first_id + max(len(boxes), 1) - 1, *opened]))
        self._background.segment(items, ready, self.rule, batch, progress)

    # -- keep and restore ---------------------------------------------------------------------

    def from_state(self, state: SessionState) -> None:
        """Take over a saved session in place of the objects and the history; labels stay.

        To have its committed objects in new labels too, call `rewrite_labels` afterwards.

        Raises
        ------
        ValueError
            If it belongs to another image than the one that is set.
        """
        shape = self._image_shape()
        if (state.shape, state.signature) != (shape, self._signature):
            raise ValueError(
                f"The session belongs to another image (of {state.shape} px, with other values); "
                f"this one has {shape}. Open the image that it was made with."
            )
        committed = [one.view.id for one in state.records if one.view.committed]
        if self.labels is not None:
            self._document.store.check(max(committed, default=0))
        self._background.cancel()
        gone = tuple(self._document.records)
        self._document.restore(state.records, state.journal)
        self.rule = state.rule
        self.first_id = max(state.next_id, self._document.store.largest() + 1)
        known = state.current is None or state.current in self._document.records
        self._document.current = state.current if known else None
        self._tell(Change(tuple({*gone, *self._document.records})))
        self._ask_if_live(self._document.current)

    def _ask_if_live(self, number: int | None) -> None:
        if self.live:
            self._background.ask_if_stale(number)
