"""What a session has predicted: previews, commits that wait for one, many boxes.

The way down is session -> `Predicting` -> `Requests`; what comes back goes up the same way: a
request's `done` or `failed`, and from here the few calls of `Owner`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from napari_pisam.predict.workers import each
from napari_pisam.session.records import ModelRef, mask_of_start, same_prompts
from napari_pisam.session.requests import (
    Execute,
    Overtaken,
    Request,
    Requests,
    failure_sentence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.session.document import Document
    from napari_pisam.session.history import Change
    from napari_pisam.session.merge import CommitRule

BatchItem: TypeAlias = "tuple[int | None, Prompts]"
"""A box of *Segment all*: of an open object, or for a new one."""

# Undo shows the masks of the prompts before at once; older ones are predicted again.
_REMEMBERED_PIXELS = 64 << 20


class Predicts(Protocol):
    """The part of a `Predictor` that a session needs."""

    def predict(self, box: Any = ...) -> Mask:
        """Predict the mask of one object, of which all prompts are given."""

    def predict_many(self, boxes: Sequence[Prompts]) -> list[Mask]:
        """Predict one mask per box, which prompts are."""


class Owner(Protocol):
    """Whose predictions they are: told what comes of them."""

    def tell_busy(self, busy: bool) -> None:
        """Take note that there begins to be something to do, or that all is done."""

    def tell_previews(self, ids: Iterable[int]) -> None:
        """Take note that the masks of these objects changed."""

    def tell_failed(self, text: str) -> None:
        """Take note that something went wrong; a sentence for the user."""

    def attempt(self, change: Callable[[], Change]) -> Change | None:
        """Make a change of the document and tell it; None where it failed."""


class RememberedMasks:
    """The masks of the last prompts, up to so many pixels."""

    def __init__(self) -> None:
        self._masks: OrderedDict[Prompts, Mask] = OrderedDict()
        self._pixels = 0

    def clear(self) -> None:
        """Forget all."""
        self._masks.clear()
        self._pixels = 0

    def get(self, prompts: Prompts) -> Mask | None:
        """Return the mask of prompts, where it is remembered."""
        mask = self._masks.get(prompts)
        if mask is not None:
            self._masks.move_to_end(prompts)
        return mask

    def add(self, prompts: Prompts, mask: Mask) -> None:
        """Remember a mask, and forget the oldest for it."""
        if prompts in self._masks:
            return
        self._masks[prompts] = mask
        self._pixels += mask.crop.size
        while self._pixels > _REMEMBERED_PIXELS:
            _, oldest = self._masks.popitem(last=False)
            self._pixels -= oldest.crop.size


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


class Predicting:
    """Asks for masks and puts them into the document; main thread only.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background.
    document : Document
        The objects.
    owner : Owner
        Whom to tell.

    Attributes
    ----------
    tiles : (int, int) or None
        Of a large object that is being predicted: tiles done, tiles in all as far as is known.
    """

    def __init__(self, execute: Execute, document: Document, owner: Owner) -> None:
        self._requests = Requests(execute, owner.tell_busy)
        self._document = document
        self._owner = owner
        self._shape: tuple[int, int] = (0, 0)
        self._predictor: Any = None
        self._prepare: Callable[[Any], None] | None = None
        self._unnamed = 0
        # What has to be so for a prediction: this predictor with this image. Read and written by
        # the jobs alone, of which one runs at a time.
        self._setting = object()
        self._prepared: object | None = None
        self._remembered = RememberedMasks()
        self._to_commit: dict[int, CommitRule] = {}
        self._batch: _Batch | None = None
        self.tiles: tuple[int, int] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a predictor and an image."""
        return self._predictor is not None and self._prepare is not None

    @property
    def is_busy(self) -> bool:
        """Whether something is being predicted or waits for it."""
        return self._requests.is_busy

    @property
    def has_batch(self) -> bool:
        """Whether boxes are being segmented."""
        return self._batch is not None

    def set_predictor(self, predictor: Any, model: ModelRef | None) -> None:
        """Take another predictor, or none; nothing of the one before arrives any more."""
        self._predictor = predictor
        self._document.model = None
        if predictor is not None:
            self._unnamed += model is None
            unnamed = ModelRef(f"unnamed {self._unnamed}")
            self._document.model = unnamed if model is None else model
        self._change_setting()

    def set_image(self, shape: tuple[int, int], prepare: Callable[[Any], None]) -> None:
        """Take another image, (H, W) px; ``prepare(predictor)`` is called in the background."""
        self._shape, self._prepare = shape, prepare
        self._change_setting()

    def _change_setting(self) -> None:
        self._setting = object()
        self._remembered.clear()
        self.cancel()

    def _note_tiles(self, tiles: tuple[int, int] | None) -> None:
        # In the thread where it is predicted; whoever is interested looks now and then.
        self.tiles = tiles

    def drop_pending(self) -> None:
        """Call off the commits that wait for a mask, and the boxes that are not done yet."""
        self._to_commit.clear()
        if self._batch is not None:
            self._batch = None
            self._requests.drop_idle()

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
        """Ask for an open object's mask, at once where it is known; `kept`: nothing replaces it."""
        record, model = self._document.known(number), self._document.model
        prompts, epoch = record.view.prompts, record.epoch
        if prompts is None or record.view.committed:
            return
        try:
            start = mask_of_start(prompts, self._shape)
        except ValueError as error:
            self._owner.tell_failed(str(error))
            return
        if start is not None:
            self._requests.drop(number)
            self._receive(number, epoch, prompts, None, start)
            return
        if model is None or not self.is_ready:
            return
        if (remembered := self._remembered.get(prompts)) is not None:
            self._requests.drop(number)
            self._receive(number, epoch, prompts, model, remembered)
            return

        def done(mask: Mask) -> None:
            self._remembered.add(prompts, mask)
            self._receive(number, epoch, prompts, model, mask)

        def failed(error: BaseException) -> None:
            if isinstance(error, Overtaken):
                return
            self._to_commit.pop(number, None)
            self._owner.tell_failed(failure_sentence(error))

        def job() -> Callable[[], Any]:
            requests, since = self._requests, self._requests.epoch
            is_given_up = partial(requests.is_overtaken, since, but_waits=kept)
            return self._job(_one(prompts, is_given_up, self._note_tiles))

        request = Request(number, job, done, failed)
        (self._requests.submit_kept if kept else self._requests.submit)(request)

    def _job(self, work: Callable[[Any], Any]) -> Callable[[], Any]:
        predictor, prepare, setting = self._predictor, self._prepare, self._setting

        def job() -> Any:
            if self._prepared is not setting and prepare is not None:
                self._prepared = None
                prepare(predictor)
                self._prepared = setting
            return work(predictor)

        return job

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
        self._owner.tell_previews((number,))
        if rule is not None:
            self._requests.drop(number)
            self._commit(number, rule)

    def _commit(self, number: int, rule: CommitRule) -> None:
        try:
            self._owner.attempt(lambda: self._document.commit(number, rule))
        except ValueError as error:
            self._owner.tell_failed(str(error))

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
        # Workers elsewhere do several calls at a time.
        size = batch.size * getattr(self._predictor, "parallel", 1)
        chunk = batch.items[start : start + size]
        if not chunk:
            self._finish(batch)
            return
        stop, model = start + len(chunk), self._document.model

        def done(masks: list[Mask]) -> None:
            if self._batch is batch:
                is_last = stop >= len(batch.items)
                if not is_last:
                    # Asked for first: it is computed while this one is written and drawn.
                    self._next(batch, stop)
                self._write_chunk(batch, chunk, masks, model)
                if is_last:
                    self._finish(batch)

        def failed(error: BaseException) -> None:
            if self._batch is batch:
                self._batch = None
                self._owner.tell_failed(failure_sentence(error, "Segmenting the boxes"))

        asked = [one for _, one in chunk]

        def work(predictor: Any) -> list[Mask]:
            calls = [asked[k : k + batch.size] for k in range(0, len(asked), batch.size)]
            found = each(predictor, predictor.predict_many, calls)
            return [mask.without_logits() for masks in found for mask in masks]

        self._requests.submit_when_idle(Request("boxes", lambda: self._job(work), done, failed))

    def _write_chunk(
        self,
        batch: _Batch,
        chunk: Sequence[BatchItem],
        masks: Sequence[Mask],
        model: ModelRef | None,
    ) -> None:
        boxes = [
            (number, prompts, mask)
            for (number, prompts), mask in zip(chunk, masks, strict=True)
            if number is None or self._is_open_with(number, prompts)
        ]
        if boxes:
            document = self._document
            change = partial(document.commit_boxes, boxes, batch.rule, model, batch)
            self._write(batch, len(chunk), change)
        else:
            batch.report(len(chunk))

    def _is_open_with(self, number: int, prompts: Prompts) -> bool:
        """Whether an object still is what was asked for: it may have been edited meanwhile."""
        record = self._document.records.get(number)
        is_open = record is not None and not record.view.committed
        return is_open and record is not None and same_prompts(record.view.prompts, prompts)

    def _write(self, batch: _Batch, count: int, change: Callable[[], Change]) -> None:
        try:
            made = self._owner.attempt(change)
        except ValueError as error:
            made = None
            self._owner.tell_failed(str(error))
        if self._batch is not batch:
            return
        if made is None:
            # What is computed already for the next boxes is not waited for.
            self._batch = None
            self._requests.drop_idle()
            return
        records = (self._document.records.get(number) for number in made.ids)
        batch.left_open += sum(one is not None and not one.view.committed for one in records)
        batch.report(count)

    def _finish(self, batch: _Batch) -> None:
        if self._batch is batch:
            self._batch = None
            if text := batch.problem():
                self._owner.tell_failed(text)


def _one(
    prompts: Prompts,
    is_given_up: Callable[[], bool],
    note: Callable[[tuple[int, int] | None], None],
) -> Callable[[Any], Mask]:
    def watch(done: int, total: int) -> None:
        if is_given_up():
            raise Overtaken
        note((done, total))

    def work(predictor: Any) -> Mask:
        # What takes longer than a moment can be given up.
        is_large = getattr(predictor, "is_in_tiles", lambda prompts: False)(prompts)
        try:
            mask: Mask = predictor.predict(prompts, **({"progress": watch} if is_large else {}))
        finally:
            note(None)
        # The logits of many objects would fill the memory.
        return mask.without_logits()

    return work
