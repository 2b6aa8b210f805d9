"""Windows that follow the prompts: for networks that know objects best at a certain scale.

A network trained on crops around objects finds an object best where it fills the same share of the
frame as it did in training, and a small frame costs a fraction of a large one. A SAM, in contrast,
encodes its 1024-px frame once and reads every object from that.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.predict.preprocessing import Window, choose_window, stable_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.model.variants import Focus, Variant
    from napari_pisam.predict.prompts import Prompts

# Few sizes, so that images of equal size can be computed together and memory is used again.
FRAMES = (256, 384, 512, 768)
# A window of fewer px shows a few blurred blobs, whatever is in it.
_LEAST_SIDE = 32
# Clicks outside the box's window make it grow by this share of its side beyond them.
_CLICK_MARGIN = 1 / 16


def frame_for(length: int, largest: int) -> int:
    """Give the side of the smallest frame, of at most `largest` px, that shows `length` px."""
    return min((size for size in FRAMES if length <= size < largest), default=largest)


def focused_window(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None = None,
    frame: int = 1024,
    *,
    focus: Focus,
) -> Window:
    """Choose a square around a box or a mask, `focus.factor` times its longer side.

    It is read at native resolution where it has at most `frame` px, from a coarser level of the
    pyramid otherwise, and shown in a frame of about its own size, of at most `focus.frame` px.
    Clicks alone get `focus.click_window` px around them.

    Parameters
    ----------
    prompts, shape, levels, frame
        As for `choose_window`.
    focus : Focus
        Of the network's variant.

    Returns
    -------
    Window
        With the frame that it is to be shown in.
    """
    largest = min(focus.frame, frame)
    region = prompts.region
    if region is None:
        window = choose_window(prompts, shape, levels, min(focus.click_window, frame))
        return replace(window, frame=frame_for(max(window.reduced_shape), largest))
    low, high = np.array(region[:2]) + 0.5, np.array(region[2:]) + 0.5
    side = max(focus.factor * float((high - low).max()), _LEAST_SIDE)
    if len(prompts.points):
        centre = (low + high) / 2
        reach = (1 + 2 * _CLICK_MARGIN) * np.abs(prompts.points + 0.5 - centre).max()
        side = max(side, 2 * float(reach))
    if side > frame:
        margin = (focus.factor - 1) / 2
        window = choose_window(prompts, shape, levels, frame, margin=margin)
        return replace(window, frame=largest)
    ends = []
    for axis in (0, 1):
        # Not a px more for the rounding of factor * side.
        length = min(math.ceil(side - 1e-6), shape[axis])
        start = round((low[axis] + high[axis] - length) / 2)
        start = max(0, min(start, shape[axis] - length))
        ends.append((start, start + length))
    (row0, row1), (col0, col1) = ends
    size = frame_for(max(row1 - row0, col1 - col0), largest)
    return Window(0, row0, col0, row1, col1, frame=size)


def window_for(
    prompts: Prompts,
    shape: tuple[int, int],
    levels: Sequence[tuple[int, int]] | None,
    variant: Variant,
) -> Window:
    """Choose what a variant's network sees for some prompts; clicks inside do not move it."""
    if variant.focus is None:
        return stable_window(prompts, shape, levels, variant.frame)
    choose = partial(focused_window, focus=variant.focus)
    return stable_window(prompts, shape, levels, variant.frame, choose=choose)
