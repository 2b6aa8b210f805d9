"""What a session does in the background: previews, commits that wait for one, many boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from napari_pisam.session.predictions import Predictions
from napari_pisam.session.records import is_only_mask, mask_from_label, same_prompts
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.session.document import Document
    from napari_pisam.session.history import Change
    from napari_pisam.session.merge import CommitRule
    from napari_pisam.session.records import ModelRef
    from napari_pisam.session.requests import Execute

BatchItem: TypeAlias = "tuple[int | None, Prompts]"
"""A box of *Segment all*: of an open object, or for a new one."""


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
    items: list[BatchItem]
    rule: CommitRule
    size: int
    progress: Callable[[int, int], None] | None
    total: int
    done: int = 0
    left_open: int = 0

    def report(self, more: int = 0) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total)

    def problem(self) -> str:
        if not self.left_open:
            return ""
        return (
            f"{self.left_open} of {self.total} boxes were not committed: other labels cover their "
            "objects, or nothing was found in them. They are open in the list. Choose another "
            "rule for where objects meet, click on them, or discard them."
        )


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

    def sort(self, opened: Sequence[int]) -> tuple[list[int], list[BatchItem]]:
        """Tell open objects that have the mask of their prompts from those to be predicted."""
        ready: list[int] = []
        items: list[BatchItem] = []
        for number in opened:
            record = self._document.known(number)
            if record.is_current_mask and not record.view.stale:
                ready.append(number)
            elif record.view.prompts is not None:
                items.append((number, record.view.prompts))
        return ready, items

    def segment(
        self,
        items: list[BatchItem],
        ready: Sequence[int],
        rule: CommitRule,
        size: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Predict boxes, `size` at a time, when there is nothing else to do, and commit them.

        Parameters
        ----------
        items : list of (int or None, Prompts)
            A box each, checked against the image: of an open object, or for a new one.
        ready : sequence of int
            Open objects that have their masks already.
        rule : CommitRule
            Whose the pixels are.
        size : int
            Boxes per call.
        progress : callable or None
            Called with (boxes done, boxes in all).
        """
        total = len(items) + len(ready)
        batch = self._batch = _Batch(items, rule, max(1, size), progress, total)
        batch.report()
        if ready:
            document = self._document
            self._write(batch, len(ready), partial(document.commit_open, ready, rule, batch))
        self._next(batch, 0)

    def _next(self, batch: _Batch, start: int) -> None:
        if self._batch is not batch:
            return
        chunk = batch.items[start : start + batch.size]
        if not chunk:
            self._finish(batch)
            return
        stop, model = start + len(chunk), self.predictions.model

        def done(masks: list[Mask]) -> None:
            if self._batch is not batch:
                return
            is_last = stop >= len(batch.items)
            if not is_last:
                # Asked for first: it is computed while this one is written and drawn.
                self._next(batch, stop)
            found = [
                (number, prompts, mask)
                for (number, prompts), mask in zip(chunk, masks, strict=True)
                if number is None or self._is_open_with(number, prompts)
            ]
            document = self._document
            if found:
                change = partial(document.commit_boxes, found, batch.rule, model, batch)
                self._write(batch, len(chunk), change)
            else:
                batch.report(len(chunk))
            if is_last:
                self._finish(batch)

        def failed(error: BaseException) -> None:
            if self._batch is batch:
                self._batch = None
                self._listener.failed(failure_sentence(error, "Segmenting the boxes"))

        boxes = [one.box for _, one in chunk if one.box is not None]
        self.predictions.ask_many(boxes, done, failed)

    def _is_open_with(self, number: int, prompts: Prompts) -> bool:
        """Whether an object still is what was asked for: it may have been edited meanwhile."""
        record = self._document.records.get(number)
        is_open = record is not None and not record.view.committed
        return is_open and record is not None and same_prompts(record.view.prompts, prompts)

    def _write(self, batch: _Batch, count: int, change: Callable[[], Change]) -> None:
        try:
            made = self._listener.attempt(change)
        except ValueError as error:
            made = None
            self._listener.failed(str(error))
        if self._batch is not batch:
            return
        if made is None:
            # What is computed already for the next boxes is not waited for.
            self._batch = None
            self._requests.drop_later()
            return
        records = (self._document.records.get(number) for number in made.ids)
        batch.left_open += sum(one is not None and not one.view.committed for one in records)
        batch.report(count)

    def _finish(self, batch: _Batch) -> None:
        if self._batch is batch:
            self._batch = None
            if text := batch.problem():
                self._listener.failed(text)
