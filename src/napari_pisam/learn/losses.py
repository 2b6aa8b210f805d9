"""Segmentation losses on logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice loss, one value per mask.

    Parameters
    ----------
    logits : (B, 1, H, W) float
    target : (B, 1, H, W) float
        In [0, 1].
    valid : (B, 1, H, W) float
        1 where the frame holds image, 0 in its padding.

    Returns
    -------
    (B,) float
        ``1 - 2 |p t| / (|p| + |t|)``, smoothed by one pixel.
    """
    p = logits.sigmoid() * valid
    t = target * valid
    overlap = (p * t).flatten(1).sum(1)
    total = p.flatten(1).sum(1) + t.flatten(1).sum(1)
    return 1 - (2 * overlap + 1) / (total + 1)


def balanced_bce_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy, one value per mask, with half of the weight on hard pixels.

    A thin structure covers few pixels of a frame, so that the mean over all of them hardly knows
    it. Half of the loss is the mean over valid pixels; the other half weighs every pixel by how
    wrong it is (the normalised focal weight ``|t - p|``), as RITM's normalised focal loss does
    (Sofiiuk et al., 2021).

    Parameters
    ----------
    logits, target, valid
        As in `dice_loss`.

    Returns
    -------
    (B,) float
    """
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    with torch.no_grad():
        weight = (target - logits.sigmoid()).abs() * valid
    plain = bce.flatten(1).sum(1) / valid.flatten(1).sum(1)
    # Bounded from below, so that a solved mask does not keep a loss of order one.
    focal = (bce * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(
        min=1.0 + 0.01 * float(logits.shape[-1] * logits.shape[-2])
    )
    return plain + focal


def mask_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Dice plus balanced cross entropy, mean over the batch; shapes as in `dice_loss`."""
    return (dice_loss(logits, target, valid) + balanced_bce_loss(logits, target, valid)).mean()


def click_loss(logits: Tensor, points: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy at the clicked pixels: a click must be obeyed where it was made.

    Parameters
    ----------
    logits : (B, 1, H, W) float
    points : (B, n, 2) float
        (x, y), frame px, pixel centres at +0.5.
    labels : (B, n) int
        1 FG, 0 BG, -1 padding.

    Returns
    -------
    () float
        Mean over the clicks of each object, then over the objects, so that it does not depend on
        how a batch is divided; zero for an object without a click.
    """
    height, width = logits.shape[2:]
    shares = torch.stack([2 * points[..., 0] / width, 2 * points[..., 1] / height], dim=-1)
    grid = (shares - 1).unsqueeze(2).to(logits.dtype)
    sampled = F.grid_sample(logits, grid, align_corners=False).squeeze(-1).squeeze(1)
    real = labels >= 0
    bce = F.binary_cross_entropy_with_logits(
        sampled, labels.clamp(min=0).to(sampled.dtype), reduction="none"
    )
    return ((bce * real).sum(1) / real.sum(1).clamp(min=1)).mean()


def local_loss(
    logits: Tensor, target: Tensor, valid: Tensor, before: Tensor, around: Tensor
) -> Tensor:
    """Cross entropy near the newest clicks: what was wrong there is mended, what was right stays.

    Parameters
    ----------
    logits, target, valid
        As in `dice_loss`.
    before : (B, 1, H, W) bool
        The masks that the clicks were made on.
    around : (B, 1, H, W) bool
        Where the newest clicks are near.

    Returns
    -------
    () float
        Half the mean over pixels that were wrong, half that over pixels that were right, near the
        clicks of each object; then the mean over the objects. Zero for an object without.
    """
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    near = around & (valid > 0.5)
    wrong = before != (target > 0.5)
    halves = []
    for chosen in (near & wrong, near & ~wrong):
        weight = chosen.to(bce.dtype).flatten(1)
        halves.append((bce.flatten(1) * weight).sum(1) / weight.sum(1).clamp(min=1))
    return 0.5 * (halves[0] + halves[1]).mean()
