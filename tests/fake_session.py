"""What a session needs from outside, without a network, threads or time."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np

from napari_pisam.predict.areas import Answer
from napari_pisam.predict.mask import Mask
from napari_pisam.session.session import CommitRule, Session
from napari_pisam.session.storage import ImageView, SavedPlane, SessionFile, save_planes

SHAPE = (24, 30)
RADIUS = 3.0


def drawn(shape, prompts):
    """The (H, W) bool answer of the fake: box or mask, FG discs added, BG discs taken away.

    What is fine in it is a third of that.
    """
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    result = np.zeros(shape, dtype=bool)
    if prompts.box is not None:
        r0, c0, r1, c1 = prompts.box
        result |= (rows >= r0) & (rows <= r1) & (cols >= c0) & (cols <= c1)
    elif prompts.mask is not None:
        r0, c0, r1, c1 = prompts.mask.bbox
        result[r0:r1, c0:c1] = prompts.mask.crop
    if prompts.answer is Answer.FINE:
        result &= (rows + cols) % 3 == 0
    for (row, col), label in zip(prompts.points, prompts.labels, strict=True):
        result[(rows - row) ** 2 + (cols - col) ** 2 <= RADIUS**2] = label
    return result


def mask_of(array, score=0.5):
    """A tight `Mask` of a whole image's array."""
    shape = array.shape
    rows, cols = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
    if not rows.size:
        return Mask(shape, (0, 0, 0, 0), np.zeros((0, 0), bool), score, (0, 0, *shape))
    bbox = (int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    crop = array[bbox[0] : bbox[2], bbox[1] : bbox[3]].copy()
    return Mask(shape, bbox, crop, score, (0, 0, *shape))


class FakePredictor:
    """Answers with `drawn`; raises what is put into `errors`, one at each call."""

    likelier = Answer.SOLID

    def __init__(self, shape=SHAPE):
        self.shape = shape
        self.calls = []
        self.errors = []

    def predict(self, box=None, points=None, labels=None, mask=None):
        from napari_pisam.predict.prompts import Prompts

        if self.errors:
            raise self.errors.pop(0)
        prompts = box if isinstance(box, Prompts) else Prompts(box, points, labels, mask)
        self.calls.append(prompts)
        found = mask_of(drawn(self.shape, prompts))
        return replace(found, answer=prompts.answer or self.likelier)

    def predict_many(self, boxes):
        return [self.predict(box) for box in boxes]


def at_once(job, done, failed):
    """Run in the foreground."""
    try:
        result = job()
    except Exception as error:  # noqa: BLE001
        failed(error)
    else:
        done(result)


class ByHand:
    """Runs when told to, the oldest job first."""

    def __init__(self):
        self.jobs = []

    def __call__(self, job, done, failed):
        self.jobs.append((job, done, failed))

    def step(self):
        at_once(*self.jobs.pop(0))

    def run(self):
        while self.jobs:
            self.step()


class Clock:
    """Time that passes only here: jobs take `duration` seconds."""

    def __init__(self, duration):
        self.duration = duration
        self.now = 0.0
        self._events = []

    def at(self, time, call):
        heapq.heappush(self._events, (time, len(self._events), call))

    def __call__(self, job, done, failed):
        self.at(self.now + self.duration, lambda: at_once(job, done, failed))

    def run(self):
        while self._events:
            self.now, _, call = heapq.heappop(self._events)
            call()


def fake_session(execute=at_once, *, labels=None, rule=CommitRule.KEEP, shape=SHAPE):
    """A session with an image, labels and a fake predictor, and what it said of failures."""
    session = Session(execute, rule=rule)
    failures = []
    session.failed.connect(failures.append)
    session.failures = failures
    session.set_image(shape, "fake", lambda predictor: None)
    session.set_labels(np.zeros(shape, np.uint16) if labels is None else labels)
    session.predictor = FakePredictor(shape)
    session.set_predictor(session.predictor)
    return session


def save_session(path, session, view=None, transforms=None):
    """Write a session, or its state, to a file of one plane."""
    state = session.to_state() if hasattr(session, "to_state") else session
    plane = SavedPlane(state, ImageView() if view is None else view)
    save_planes(path, SessionFile((plane,), transforms=transforms))
