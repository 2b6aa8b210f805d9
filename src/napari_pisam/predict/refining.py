"""Crude masks made better: the network's own mask of the object that a crude one shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_pisam.images.crops import around, seen_in
from napari_pisam.measure.click_rule import depth_inside, evaluation_click
from napari_pisam.measure.metrics import iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.predict.prompts import MaskPrompt, Prompts

_MOST_CLICKS = 3
# Of the sides of a crude mask's box, on each side: coins that were shrunk by 5 px come to 0.93
# of IoU with it and to 0.75 without, those of rough polygons to 0.95 and 0.97.
_MARGIN = 0.05
# Nearer to the crude outline than this share of the object's radius, the network is right.
_BAND = 0.25
# With less in common with the crude mask, the network has found something else.
_SAME = 0.5


def refined(predictor: Predictor, prompts: Prompts) -> Mask | None:
    """Predict the object that a crude mask shows.

    Asked for by a box a little larger than the mask, or the one that is given, and by the clicks
    that are given. Where the answer differs from the crude mask far from its outline, it is
    clicked there as somebody would who has the crude mask before the eyes: at most three times, by
    RITM's rule. SAM and HQ-SAM get the crude mask as a hint, too.

    Parameters
    ----------
    predictor : Predictor
        With the image set.
    prompts : Prompts
        With a mask.

    Returns
    -------
    Mask or None
        Without logits; None where what is found has little in common with the crude mask.

    Raises
    ------
    ValueError
        If there is no mask, or it lies outside of the image.
    """
    crude = prompts.mask
    if crude is None:
        raise ValueError("There is no mask to refine. Give prompts with one.")
    hint = crude if predictor.model.variant.focus is None else None
    box = prompts.region if prompts.box not in (None, crude.box) else _with_margin(crude)
    shape = predictor.shape
    asked = replace(prompts, box=box, mask=hint)
    asked = asked if shape is None else asked.validated_for(shape)
    best: tuple[float, Mask] | None = None
    for _ in range(_MOST_CLICKS + 1):
        mask = predictor.predict(asked).without_logits()
        window = around([one.bbox for one in (crude, mask) if one.crop.size])
        truth, found = (seen_in(window, one.crop, one.bbox) for one in (crude, mask))
        agreement = iou(found, truth)
        if best is None or agreement > best[0]:
            best = agreement, mask
        click = evaluation_click(np.where(_near_edge(truth), truth, found), truth)
        if click is None:
            break
        place = click[0] + window[0], click[1] + window[1]
        asked = asked.with_clicks([place], [click[2]])
    return best[1] if best is not None and best[0] >= _SAME else None


def _with_margin(crude: MaskPrompt) -> Box:
    """Return a box a little larger than a crude mask, which may be too small."""
    row0, col0, row1, col1 = crude.box
    down, across = _MARGIN * (row1 - row0), _MARGIN * (col1 - col0)
    return row0 - down, col0 - across, row1 + down, col1 + across


def _near_edge(truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    reach = _BAND * float(np.sqrt(truth.sum() / np.pi))
    inside = depth_inside(truth)
    outside = ndimage.distance_transform_edt(~truth)
    return np.asarray(np.where(truth, inside, outside) <= reach)
