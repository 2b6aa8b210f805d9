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

# Logits that nothing learnt comes near, and the radius of a flaw by that of the object.
_FLAW = 20.0
_RADII = (0.15, 0.5)


def flaws(
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    rngs: Sequence[np.random.Generator],
) -> NDArray[np.float32]:
    """Draw a flaw for each mask that has no error of one kind.

    Parameters
    ----------
    found, truth, inside : (B, S, S) bool
        What was predicted, what is true, and which pixels are of the picture.
    rngs : sequence of B generators
        Used for the masks that get a flaw.

    Returns
    -------
    (B, S, S) float32
        To be added to the logits: a disc of -20 inside the true object if nothing of it is missed,
        one of +20 outside it if nothing is spilled; zero elsewhere.
    """
    drawn = np.zeros(found.shape, dtype=np.float32)
    ys, xs = np.ogrid[: found.shape[1], : found.shape[2]]
    for i, rng in enumerate(rngs):
        kinds = ((truth[i], ~found[i], -_FLAW), (~truth[i] & inside[i], found[i], _FLAW))
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
    model: PiSam, decode: Callable[[], Decoded], flaws: NDArray[np.float32]
) -> Decoded:
    """Decode with flaws in the coarse mask, which the object embedder sees too.

    Parameters
    ----------
    model : PiSam
        Of a ``"pisam"`` kind.
    decode : callable
        Decodes with ``model``.
    flaws : (B, S, S) float32
        From `flaws`.
    """
    full = torch.from_numpy(flaws).unsqueeze(1).to(model.device)
    # The strongest of a cell's, so that a flaw of one pixel is one of the cell.
    low, high = -F.max_pool2d(-full, 4), F.max_pool2d(full, 4)
    coarse = low + high

    def spoil(_: Any, given: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        feature, logits = given
        return feature, logits + coarse.to(logits.dtype)

    handle = model.mask_decoder.mask_aspp.register_forward_pre_hook(spoil)
    try:
        decoded = decode()
    finally:
        handle.remove()
    return replace(decoded, coarse=decoded.coarse + coarse.to(decoded.coarse.dtype))
