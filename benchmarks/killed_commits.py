"""Kill a process that writes objects into zarr labels, and look for halves of objects.

`faults_in_files.py` counts what comes of it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_pisam.layers.labels import LabelsPlane, finish_edits
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.merge import CommitRule
from napari_pisam.session.numbers import LabelNumbers
from napari_pisam.session.session import ModelRef, Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AUTOSAVES = "NAPARI_PISAM_AUTOSAVE"
# So large that it is not looked through for numbers at every commit; one slice is written.
SHAPE = (60, 240, 320)
CHUNKS = (1, 16, 16)
SLICE = 7


class Boxes:
    """Answers with the box."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def predict(self, box: Any, *_others: Any) -> Mask:
        """Fill it."""
        row0, col0, row1, col1 = (int(edge) for edge in getattr(box, "box", box))
        crop = np.ones((row1 - row0, col1 - col0), dtype=np.bool_)
        return Mask(self.shape, (row0, col0, row1, col1), crop, 0.9, (0, 0, *self.shape))

    def predict_many(self, boxes: list[Any]) -> list[Mask]:
        """Fill them."""
        return [self.predict(box) for box in boxes]


def session_on(data: Any) -> Session:
    """Work on one slice of a stack of labels."""
    session = Session(lambda job, done, _failed: done(job()))
    session.set_image(SHAPE[1:], "", lambda _predictor: None)
    plane = LabelsPlane(SimpleNamespace(data=data), (1, 2), (SLICE, None, None))
    session.set_labels(plane, numbers=LabelNumbers(lambda: data))
    session.set_predictor(Boxes(SHAPE[1:]), ModelRef("boxes"))  # type: ignore[arg-type]
    return session


def edit(session: Session, rng: random.Random) -> None:
    """Do one of the things that write labels; the same ones for the same numbers."""
    session.rule = rng.choice(list(CommitRule))
    committed = [one.id for one in session.objects if one.committed]
    what = rng.choice(["commit"] * 4 + ["boxes", "discard", "reopen", "undo", "redo"])
    boxes = []
    for _ in range(4):
        top, left = rng.randrange(0, 140), rng.randrange(0, 200)
        boxes.append((top, left, top + rng.randint(20, 99), left + rng.randint(20, 99)))
    if what == "commit" or (what in ("discard", "reopen") and not committed):
        number = session.new_object(Prompts(boxes[0]))
        try:
            session.commit(number)
        except ValueError:  # other objects cover it
            session.discard(number)
    elif what == "boxes":
        session.segment_all(boxes)
    elif what == "discard":
        session.discard(rng.choice(committed))
    elif what == "reopen":
        number = rng.choice(committed)
        try:
            session.reopen(number)
            session.commit(number)
        except ValueError:
            session.clear()
    else:
        getattr(session, what)()


def work(path: Path, seed: int, autosaves: str) -> None:
    """Edit until killed."""
    # Children have the environment of when the first one was made.
    os.environ[AUTOSAVES] = autosaves
    session, rng = session_on(zarr.open_array(path, mode="r+")), random.Random(seed)
    while True:
        edit(session, rng)


def states(seed: int) -> Iterator[Any]:
    """Return what the labels are after each edit, worked out in memory."""
    data, rng = np.zeros(SHAPE, np.uint16), random.Random(seed)
    session, seen = session_on(data), [data[SLICE].copy()]
    session.history_changed.connect(lambda: seen.append(data[SLICE].copy()))
    while True:
        yield from seen
        seen.clear()
        edit(session, rng)


def killed_commit(folder: Path, rng: random.Random, zarr_format: int = 3) -> tuple[bool, bool]:
    """Kill a process in the midst of many edits, and open the labels as the dock does.

    Returns
    -------
    taken_back : bool
        Whether something was half written.
    is_whole : bool
        Whether the labels are now as they were between two edits, and stay so.
    """
    seed = rng.randrange(1 << 30)
    path = folder / f"{seed}.zarr"
    labels = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "uint16", "zarr_format": zarr_format}
    data = zarr.create_array(path, **labels)  # type: ignore[arg-type]
    # Not forked: zarr has a thread by now.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zarr", "napari_pisam.layers", "napari_pisam.session.session"])
    writer = context.Process(target=work, args=(path, seed, os.environ[AUTOSAVES]), daemon=True)
    writer.start()
    while writer.is_alive() and not any(_chunks(path)):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.4))
    writer.kill()
    writer.join()
    layer = SimpleNamespace(data=data, refresh=lambda: None)
    taken_back = finish_edits(layer)
    found = data[SLICE]
    is_elsewhere = len(list(_chunks(path, "*"))) > len(list(_chunks(path)))
    is_whole = any(np.array_equal(found, state) for state in islice(states(seed), 1000))
    stays = not finish_edits(layer) and np.array_equal(found, data[SLICE])
    return taken_back, is_whole and stays and not is_elsewhere


def _chunks(path: Path, index: int | str = SLICE) -> Iterator[Path]:
    """List the files of a slice's chunks."""
    yield from path.glob(f"{index}.*.*")
    yield from path.glob(f"c/{index}/*/*")
