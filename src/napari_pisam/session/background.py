"""What a session does in the background: previews, commits that wait for one, many boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_pisam.session.predictions import Predictions
from napari_pisam.session.records import is_only_mask, mask_from_label, same_prompts
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.session.document import Change, Document
    from napari_pisam.session.merge import CommitRule
    from napari_pisam.session.records import ModelRef
    from napari_pisam.session.requests import Execute


@dataclass(frozen=True)
class Listener:
    """Whom to tell what happened.

    Attributes
    ----------
    busy : callable
        Called with whether there is something to do, when that changes.
    previews : callable
        Called with the objects whose mask changed.
    attempt : callable
        Called with a change of the document to be made and told; gives what it changed, or None
        where it failed.
    failed : callable
        Called with a sentence for the user.
    """

    busy: Callable[[bool], None]
    previews: Callable[[tuple[int, ...]], None]
    attempt: Callable[[Callable[[], Change]], Change | None]
    failed: Callable[[str], None]


@dataclass(eq=False)
class _Batch:
    prompts: list[Prompts]
    rule: CommitRule
    size: int
    progress: Callable[[int, int], None] | None
    done: int = 0

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.done, len(self.prompts))


class Background:
    """Asks for masks and puts them into the document; main thread only.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background.
    document : Document
        The objects.
    listener : Listener
        Whom to tell.
    """

    def __init__(self, execute: Execute, document: Document, listener: Listener) -> None:
        self.predictions = Predictions(execute, listener.busy, self._receive, self._fail)
        self._requests = self.predictions.requests
        self._document = document
        self._listener = listener
        self._shape: tuple[int, int] = (0, 0)
        self._to_commit: dict[int, CommitRule] = {}
        self._batch: _Batch | None = None

    @property
    def has_batch(self) -> bool:
        """Whether boxes are being segmented."""
        return self._batch is not None

    def set_shape(self, shape: tuple[int, int]) -> None:
        """Note the image's (H, W), px."""
        self._shape = shape

    def drop_pending(self) -> None:
        """Call off the commits that wait for a mask, and the boxes that are not done yet."""
        self._to_commit.clear()
        if self._batch is not None:
            self._batch = None
            self._requests.drop_later()

    def cancel(self) -> None:
        """Drop everything that waits, and the result of what runs."""
        self.drop_pending()
        self._requests.invalidate()

    def forget(self, number: int) -> None:
        """Drop what waits for an object, its commit too."""
        self._to_commit.pop(number, None)
        self._requests.drop(number)

    # -- one object ---------------------------------------------------------------------------

    def ask_if_stale(self, number: int | None) -> None:
        """Ask for an open object's mask unless it has the one of its prompts."""
        record = None if number is None else self._document.records.get(number)
        if record is not None and (record.view.stale or record.view.mask is None):
            self.ask(record.view.id)

    def ask(self, number: int, *, kept: bool = False) -> None:
        """Ask for an open object's mask; `kept`: nothing may take its place."""
        record = self._document.known(number)
        prompts = record.view.prompts
        if prompts is None or record.view.committed:
            return
        if is_only_mask(prompts) and prompts.mask is not None:
            self._requests.drop(number)
            mask = mask_from_label(prompts.mask, self._shape)
            self._receive(number, record.epoch, prompts, None, mask)
        else:
            self.predictions.ask(number, record.epoch, prompts, kept=kept)

    def call_off_commit(self, number: int) -> None:
        """Do not commit an object when its mask comes."""
        self._to_commit.pop(number, None)

    def commit_when_ready(self, number: int, rule: CommitRule) -> None:
        """Ask for the mask of an object's newest prompts and commit the object when it is there."""
        self._to_commit[number] = rule
        self.ask(number, kept=True)

    def _receive(
        self, number: int, epoch: int, prompts: Prompts, model: ModelRef | None, mask: Mask
    ) -> None:
        record = self._document.records.get(number)
        if record is None or record.view.committed or record.epoch != epoch:
            return
        is_newest = same_prompts(prompts, record.view.prompts)
        if not is_newest and record.is_current_mask and not record.view.stale:
            # The newest was known already; an older one that was on its way is not shown any more.
            return
        self._document.set_mask(number, mask, prompts, model)
        rule = self._to_commit.pop(number, None) if is_newest else None
        self._listener.previews((number,))
        if rule is not None:
            self._requests.drop(number)
            self._commit(number, rule)

    def _commit(self, number: int, rule: CommitRule) -> None:
        try:
            self._listener.attempt(lambda: self._document.commit(number, rule))
        except ValueError as error:
            self._listener.failed(str(error))

    def _fail(self, number: int, error: BaseException) -> None:
        self._to_commit.pop(number, None)
        self._listener.failed(failure_sentence(error))

    # -- many boxes ---------------------------------------------------------------------------

    def segment(
        self,
        prompts: list[Prompts],
        rule: CommitRule,
        size: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Predict boxes, `size` at a time, when there is nothing else to do, and commit them.

        Parameters
        ----------
        prompts : list of Prompts
            A box each, checked against the image.
        rule : CommitRule
            Whose the pixels are.
        size : int
            Boxes per call.
        progress : callable or None
            Called with (boxes done, boxes in all).
        """
        self._batch = _Batch(prompts, rule, max(1, size), progress)
        self._batch.report()
        self._next(self._batch)

    def _next(self, batch: _Batch) -> None:
        if self._batch is not batch:
            return
        chunk = batch.prompts[batch.done : batch.done + batch.size]
        if not chunk:
            self._batch = None
            return
        model = self.predictions.model

        def done(masks: list[Mask]) -> None:
            if self._batch is not batch:
                return
            found = list(zip(chunk, masks, strict=True))
            try:
                made = self._listener.attempt(
                    lambda: self._document.commit_boxes(found, batch.rule, model, batch)
                )
            except ValueError as error:
                made = None
                self._listener.failed(str(error))
            if made is None:
                self._batch = None
                return
            batch.done += len(chunk)
            batch.report()
            self._next(batch)

        def failed(error: BaseException) -> None:
            if self._batch is batch:
                self._batch = None
                self._listener.failed(failure_sentence(error, "Segmenting the boxes"))

        boxes = [one.box for one in chunk if one.box is not None]
        self.predictions.ask_many(boxes, done, failed)
