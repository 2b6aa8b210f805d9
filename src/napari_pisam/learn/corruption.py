"""Errors for the clicks to correct, where a mask has none of one kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_pisam.model.pisam import Decoded, PiSam

# Logits of a mask that is surely wrong, yet not beyond what clicks can mend; the radius of a flaw
# by that of the object.
_FLAW = 5.0
_RADII = (0.15, 0.5)


def flaws(
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    rngs: Sequence[np.random.Generator],
) -> NDArray[np.int8]:
    """Draw a flaw for each mask that has no error of one kind.

    Parameters
    ----------
    found, truth, inside : (B, S, S) bool
        What was predicted, what is true, and which pixels are of the picture.
    rngs : sequence of B generators
        Used for the masks that get a flaw.

    Returns
    -------
    (B, S, S) int8
        A disc of -1 inside the true object if nothing of it is missed, one of 1 outside it if
        nothing is spilled; 0 elsewhere.
    """
    drawn = np.zeros(found.shape, dtype=np.int8)
    ys, xs = np.ogrid[: found.shape[1], : found.shape[2]]
    for i, rng in enumerate(rngs):
        kinds = ((truth[i], ~found[i], -1), (~truth[i] & inside[i], found[i], 1))
        for where, wrong, value in kinds:
            if (where & wrong).any() or not where.any():
                continue
            rows, cols = np.nonzero(where)
            place = int(rng.integers(len(rows)))
            size = np.sqrt(truth[i].sum() / np.pi)
            radius = max(2.0, size * rng.uniform(*_RADII))
            disc = np.hypot(ys - rows[place], xs - cols[place]) <= radius
            drawn[i, disc & where] = value
    return drawn


def decode_with_flaws(
    model: PiSam, decode: Callable[[], Decoded], flaws: NDArray[np.int8]
) -> Decoded:
    """Decode with flaws in the coarse mask, which the object embedder sees too.

    Parameters
    ----------
    model : PiSam
        Of a ``"pisam"`` kind.
    decode : callable
        Decodes with ``model``.
    flaws : (B, S, S) int8
        From `flaws`.
    """
    full = torch.from_numpy(flaws).unsqueeze(1).to(model.device, torch.float32)
    # A flaw of one pixel is one of its cell.
    cells = F.max_pool2d(full, 4) - F.max_pool2d(-full, 4)

    def flawed(logits: torch.Tensor) -> torch.Tensor:
        return torch.where(cells == 0, logits, (_FLAW * cells).to(logits.dtype))

    def spoil(_: Any, given: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        feature, logits = given
        return feature, flawed(logits)

    handle = model.mask_decoder.mask_aspp.register_forward_pre_hook(spoil)
    try:
        decoded = decode()
    finally:
        handle.remove()
    return replace(decoded, coarse=flawed(decoded.coarse))
