"""What is asked of a system, prompt by prompt; works on anything that has the predictor's calls."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import ndimage

from napari_pisam.images.crops import extent
from napari_pisam.measure.click_rule import Click, evaluation_click, innermost
from napari_pisam.measure.metrics import check_pair, iou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box

KINDS: Mapping[str, tuple[bool, ...]] = {
    "both": (True, False),
    "background": (False,),
    "foreground": (True,),
}
"""Which clicks are given (the paper's Table 7): True FG, False BG."""


class Segmenter(Protocol):
    """What is evaluated: a `Predictor`, a baseline, or anything alike."""

    def set_image(self, image: Any) -> None:
        """Choose the image: an array or an `ImageSource`."""

    def predict(self, box: Any = None, points: Any = None, labels: Any = None) -> Any:
        """Predict one object: a `Mask`, or an (H, W) bool array.

        All clicks of the object are given each time, (row, col) px, labels True for FG.
        """


@dataclass
class ClickRun:
    """One object, prompt after prompt.

    Attributes
    ----------
    ious : list of float
        IoU before the first click, after the first, and so on.
    clicks : list of (row, col, is foreground)
    obeyed : list of bool
        By click: whether its pixel has the asked value right afterwards.
    kept : list of bool
        By click: whether the pixels of all clicks so far have the asked values.
    seconds : list of float
        Time of each prediction.
    first, last : (H, W) bool array
        The masks before the first and after the last click.
    """

    first: NDArray[np.bool_]
    last: NDArray[np.bool_]
    ious: list[float]
    seconds: list[float]
    clicks: list[Click] = field(default_factory=list)
    obeyed: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)


def box_of(truth: NDArray[np.bool_]) -> Box:
    """Box of the outer edges of a mask's pixels: (row_min, col_min, row_max, col_max) px.

    Raises
    ------
    ValueError
        If the (H, W) bool mask is empty.
    """
    window = extent(truth)
    if window is None:
        raise ValueError("The mask is empty, expected an object. Leave this image out.")
    rows, cols = window
    return rows.start - 0.5, cols.start - 0.5, rows.stop - 0.5, cols.stop - 0.5


def predict_mask(system: Segmenter, box: Box | None, clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """Ask a system with a box and clicks; return the mask as (H, W) bool."""
    points = [(float(row), float(col)) for row, col, _ in clicks]
    labels = [sign for *_, sign in clicks]
    mask = system.predict(box=box, points=points or None, labels=labels or None)
    return np.asarray(mask.to_array() if hasattr(mask, "to_array") else mask, dtype=np.bool_)


def run_clicks(
    system: Segmenter,
    truth: NDArray[np.bool_],
    clicks: int,
    *,
    with_box: bool = True,
    signs: tuple[bool, ...] = (True, False),
) -> ClickRun:
    """Click where RITM's rule says until an object is right or the clicks are used up.

    Parameters
    ----------
    system : Segmenter
        With its image set.
    truth : (H, W) bool
        Not empty.
    clicks : int
        At most; 0: the box alone.
    with_box : bool
        Start from the object's box; otherwise from nothing, as the papers on clicks do.
    signs : tuple of bool
        Kinds of click that are given.

    Raises
    ------
    ValueError
        If the truth is empty, the system's mask has another shape, or nothing may be asked.
    """
    if not with_box and (clicks < 1 or True not in signs):
        raise ValueError("Without a box the first click is FG: expected clicks >= 1 and FG.")
    box = box_of(truth) if with_box else None
    seconds: list[float] = []
    mask = np.zeros_like(truth)
    if with_box:
        started = time.perf_counter()
        mask = predict_mask(system, box, [])
        seconds.append(time.perf_counter() - started)
        check_pair(mask, truth)
    run = ClickRun(mask, mask, [iou(mask, truth)], seconds)
    clicked = np.zeros_like(truth)
    for _ in range(clicks):
        click = evaluation_click(run.last, truth, clicked, signs=signs)
        if click is None:
            break
        clicked[click[:2]] = True
        run.clicks.append(click)
        started = time.perf_counter()
        run.last = predict_mask(system, box, run.clicks)
        run.seconds.append(time.perf_counter() - started)
        check_pair(run.last, truth)
        run.ious.append(iou(run.last, truth))
        answers = [bool(run.last[row, col]) == sign for row, col, sign in run.clicks]
        run.obeyed.append(answers[-1])
        run.kept.append(all(answers))
    return run


def shared_error_clicks(
    masks: Sequence[NDArray[np.bool_]], truth: NDArray[np.bool_], count: int
) -> list[Click]:
    """Clicks of the paper's Table 2: one in each of the largest errors that all systems make.

    The same clicks serve all systems, all at once. Where the paper draws a point of a component,
    this takes its innermost, so that the result is the same each time.

    Parameters
    ----------
    masks : sequence of (H, W) bool
        Each system's mask from the box.
    truth : (H, W) bool
    count : int
        At most.

    Returns
    -------
    list of (row, col, is foreground)
        From the largest error down; fewer where there are fewer errors.
    """
    found: list[tuple[int, Click]] = []
    for sign in (True, False):
        shared = truth if sign else ~truth
        for mask in masks:
            shared = shared & (mask != truth)
        labels, _ = ndimage.label(shared, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())[1:]
        places = ndimage.find_objects(labels)
        for number in np.argsort(-areas, kind="stable")[:count]:
            rows, cols = places[number]
            row, col = innermost(labels[rows, cols] == number + 1)
            found.append((int(areas[number]), (rows.start + row, cols.start + col, sign)))
    found.sort(key=lambda item: -item[0])
    return [click for _, click in found[:count]]


def select_worst(ious: Mapping[Any, Sequence[float]], count: int) -> list[Any]:
    """Select the objects with the smallest mean IoU over the systems.

    Parameters
    ----------
    ious : mapping of object to sequence of float
        Of each object, every system's IoU from the box.
    count : int
        How many.

    Returns
    -------
    list
        From the worst up; ties in the order given.
    """
    return sorted(ious, key=lambda key: float(np.mean(ious[key])))[:count]
