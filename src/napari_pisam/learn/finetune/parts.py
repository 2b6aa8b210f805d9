"""The objects of a run: which train and which validate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Part = Literal["training", "validation", "unused"]
Origin = Literal["session", "layers", "folder"]


@dataclass(frozen=True)
class ObjectRow:
    """One object, as a line of the table that the user sees.

    Attributes
    ----------
    image : str
        Name of its image.
    label : int
    box : (int, int, int, int)
        (row_min, col_min, row_max, col_max), half open, px.
    area : int
        Px.
    clicks : int
        How many of the user's clicks are known.
    origin : {"session", "layers", "folder"}
    part : {"training", "validation", "unused"}
    note : str
        Why it is unused; empty otherwise.
    """

    image: str
    label: int
    box: tuple[int, int, int, int]
    area: int
    clicks: int = 0
    origin: Origin = "layers"
    part: Part = "training"
    note: str = ""


def split(rows: Sequence[ObjectRow], fraction: float = 0.25, seed: int = 0) -> list[ObjectRow]:
    """Choose the objects that validate: whole images, or one side of the only image.

    Parameters
    ----------
    rows : sequence of ObjectRow
        Those that are ``"unused"`` stay so.
    fraction : float
        Share of the objects that is to validate; what is possible comes close.
    seed : int
        Another seed, another choice of images.

    Returns
    -------
    list of ObjectRow
        The same objects in the same order. Neither part is empty.

    Raises
    ------
    ValueError
        If there are fewer than two objects, or the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The share for validation is {fraction}, expected one between 0 and 1.")
    usable = [i for i, row in enumerate(rows) if row.part != "unused"]
    if len(usable) < 2:
        count = f"only one object ({rows[usable[0]].image!r}, {rows[usable[0]].label})"
        small = sum(row.note != "" for row in rows)
        raise ValueError(
            f"There is {count if usable else 'no object'} to learn from"
            f"{f'; {small} more are too small' if small else ''}. Two are needed at least, one to "
            "train on and one to tell whether that helped; a dozen is a good start."
        )
    images = sorted({rows[i].image for i in usable})
    if len(images) > 1:
        held = _by_image([rows[i].image for i in usable], fraction, seed)
    else:
        held = _by_region(np.array([rows[i].box for i in usable]), fraction)
    parts: dict[int, Part] = {
        i: "validation" if validates else "training"
        for i, validates in zip(usable, held, strict=True)
    }
    return [
        row if parts.get(i, row.part) == row.part else replace(row, part=parts[i])
        for i, row in enumerate(rows)
    ]


def _by_image(names: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Draw images until their objects are about the fraction; the best of some draws."""
    counts = Counter(names)
    images, wanted = sorted(counts), fraction * len(names)
    rng = np.random.default_rng(seed)
    best: tuple[float, set[str]] | None = None
    for _ in range(50):
        order = [images[i] for i in rng.permutation(len(images))]
        sums = np.cumsum([counts[name] for name in order])[:-1]
        size = int(np.argmin(np.abs(sums - wanted)))
        miss = float(abs(sums[size] - wanted))
        # Of draws that are as good, the first: the seed decides.
        if best is None or miss < best[0] - 0.5:
            best = miss, set(order[: size + 1])
    chosen = set() if best is None else best[1]
    return [name in chosen for name in names]


def _by_region(boxes: NDArray[np.int64], fraction: float) -> list[bool]:
    """Cut the image straight, so that few objects touch the cut and about the fraction is beyond.

    Boxes are (n, 4), (row_min, col_min, row_max, col_max).
    """
    n = len(boxes)
    size = np.arange(1, n)  # objects on the near side
    best: tuple[float, NDArray[np.int64], int] | None = None
    for axis in (0, 1):
        order = np.argsort(boxes[:, axis] + boxes[:, axis + 2], kind="stable")
        ends = np.maximum.accumulate(boxes[order, axis + 2])[:-1]
        starts = np.minimum.accumulate(boxes[order, axis][::-1])[::-1][1:]
        overlap = np.maximum(0, ends - starts) / max(1, int(np.ptp(boxes[:, [axis, axis + 2]])))
        cost = np.abs((n - size) / n - fraction) + 2 * overlap
        place = int(np.argmin(cost))
        if best is None or cost[place] < best[0]:
            best = float(cost[place]), order, int(size[place])
    held = np.zeros(n, bool)
    if best is not None:
        held[best[1][best[2] :]] = True
    return [bool(value) for value in held]


def check_split(rows: Sequence[ObjectRow]) -> list[str]:
    """Say what is wrong with a split that the user changed; empty where nothing is."""
    parts = Counter(row.part for row in rows)
    problems = []
    if not parts["training"]:
        problems.append("No object is left to train on. Give some the part 'training'.")
    if not parts["validation"]:
        problems.append(
            "No object is left to validate on: nobody would know whether training helped. Give "
            "one at least the part 'validation'."
        )
    return problems


def dividing_cut(
    training: Sequence[tuple[int, int, int, int]], validation: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, bool] | None:
    """Find a straight cut between the objects of one image that train and those that validate.

    Parameters
    ----------
    training, validation : sequence of (int, int, int, int)
        Boxes, (row_min, col_min, row_max, col_max), half open.

    Returns
    -------
    (int, int, bool) or None
        Axis, place (px; the far side starts there), and whether the near side trains. None where
        no straight cut divides them.
    """
    train, held = np.array(training), np.array(validation)
    for axis in (0, 1):
        for near, far, trains in ((train, held, True), (held, train, False)):
            end, start = int(near[:, axis + 2].max()), int(far[:, axis].min())
            if end <= start:
                return axis, (end + start) // 2, trains
    return None
