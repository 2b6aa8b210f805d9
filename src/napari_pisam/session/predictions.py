"""Masks asked for in the background: which predictor, which image, what is already known."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from napari_pisam.session.records import ModelRef
from napari_pisam.session.requests import Execute, Request, Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.prompts import Box, Prompts

# Undo shows the masks of the prompts before at once; older ones are predicted again.
_REMEMBERED_PIXELS = 64 << 20


class Predicts(Protocol):
    """The part of a `Predictor` that a session needs."""

    def predict(
        self, box: Any = ..., points: Any = ..., labels: Any = ..., mask: Any = ...
    ) -> Mask:
        """Predict the mask of one object."""

    def predict_many(self, boxes: Any) -> list[Mask]:
        """Predict one mask per box."""


class Predictions:
    """Asks for masks; to be used from the main thread only.

    Parameters
    ----------
    execute : Execute
        Runs a job in the background.
    busy : callable
        Called with whether there is anything to do, when that changes.
    done : callable
        Called with (object, its epoch, prompts, model, mask without logits).
    failed : callable
        Called with (object, error).
    """

    def __init__(
        self,
        execute: Execute,
        busy: Callable[[bool], None],
        done: Callable[[int, int, Prompts, ModelRef, Mask], None],
        failed: Callable[[int, BaseException], None],
    ) -> None:
        self.requests = Requests(execute, busy)
        self.model: ModelRef | None = None
        self._done = done
        self._failed = failed
        self._predictor: Any = None
        self._prepare: Callable[[Any], None] | None = None
        self._unnamed = 0
        # What has to be so for a prediction: this predictor with this image. Read and written by
        # the jobs alone, of which one runs at a time.
        self._setting = object()
        self._prepared: object | None = None
        self._known: OrderedDict[Prompts, Mask] = OrderedDict()
        self._known_pixels = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is a predictor and an image."""
        return self._predictor is not None and self._prepare is not None

    def set_predictor(self, predictor: Any, model: ModelRef | None) -> None:
        """Take another predictor, or none; nothing of the one before arrives any more."""
        self._predictor = predictor
        self.model = None
        if predictor is not None:
            self._unnamed += model is None
            self.model = ModelRef(f"unnamed {self._unnamed}") if model is None else model
        self._change_setting()

    def set_image(self, prepare: Callable[[Any], None]) -> None:
        """Take another image; ``prepare(predictor)`` is called in the background."""
        self._prepare = prepare
        self._change_setting()

    def _change_setting(self) -> None:
        self._setting = object()
        self._known.clear()
        self._known_pixels = 0
        self.requests.invalidate()

    def ask(self, key: int, epoch: int, prompts: Prompts, *, kept: bool = False) -> None:
        """Ask for a mask; at once where it is known.

        Parameters
        ----------
        key, epoch : int
            The object and its epoch, given back with the mask.
        prompts : Prompts
            What to predict.
        kept : bool
            Whether later requests may not take its place.
        """
        model = self.model
        if model is None or not self.is_ready:
            return
        known = self._known.get(prompts)
        if known is not None:
            self._known.move_to_end(prompts)
            self.requests.drop(key)
            self._done(key, epoch, prompts, model, known)
            return

        def done(mask: Mask) -> None:
            self._remember(prompts, mask)
            self._done(key, epoch, prompts, model, mask)

        request = Request(
            key, lambda: self._job(_one(prompts)), done, lambda error: self._failed(key, error)
        )
        if kept:
            self.requests.submit_kept(request)
        else:
            self.requests.submit(request)

    def ask_many(
        self,
        boxes: Sequence[Box],
        done: Callable[[list[Mask]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Ask for the masks of boxes in one call, when there is nothing else to do."""

        def work(predictor: Any) -> list[Mask]:
            return [mask.without_logits() for mask in predictor.predict_many(list(boxes))]

        self.requests.submit_later(Request("boxes", lambda: self._job(work), done, failed))

    def _job(self, work: Callable[[Any], Any]) -> Callable[[], Any]:
        predictor, prepare, setting = self._predictor, self._prepare, self._setting

        def job() -> Any:
            if self._prepared is not setting and prepare is not None:
                self._prepared = None
                prepare(predictor)
                self._prepared = setting
            return work(predictor)

        return job

    def _remember(self, prompts: Prompts, mask: Mask) -> None:
        if prompts in self._known:
            return
        self._known[prompts] = mask
        self._known_pixels += mask.crop.size
        while self._known_pixels > _REMEMBERED_PIXELS:
            _, oldest = self._known.popitem(last=False)
            self._known_pixels -= oldest.crop.size


def _one(prompts: Prompts) -> Callable[[Any], Mask]:
    def work(predictor: Any) -> Mask:
        mask: Mask = predictor.predict(prompts.box, prompts.points, prompts.labels, prompts.mask)
        # The logits of many objects would fill the memory.
        return mask.without_logits()

    return work
