"""Segmentation losses on logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Of the published loss: points of each mask, how many times as many are drawn to choose from, and
# the share that is chosen for being uncertain.
_POINTS = 112**2
_OVERSAMPLING = 3
_UNCERTAIN = 0.75


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


def uncertain_points(logits: Tensor, valid: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Choose points of masks, most of them where the masks are unsure (PointRend).

    Three quarters are the most uncertain ones of three times as many; the rest lies anywhere
    (Kirillov et al., 2020; the numbers are Pi-SAM's).

    Parameters
    ----------
    logits : (B, 1, H, W) float
    valid : (B, 1, H, W) float
        1 where the frame holds image; points outside count as sure.
    rngs : sequence of B generators

    Returns
    -------
    (B, 112**2, 2) float
        (x, y) in [0, 1] of the frame.
    """
    chosen = int(_UNCERTAIN * _POINTS)
    total = _OVERSAMPLING * _POINTS + _POINTS - chosen
    drawn = np.stack([rng.random((total, 2), dtype=np.float32) for rng in rngs])
    points = torch.from_numpy(drawn).to(logits.device)
    pool, rest = points[:, : _OVERSAMPLING * _POINTS], points[:, _OVERSAMPLING * _POINTS :]
    with torch.no_grad():
        unsure = -_sampled(logits, pool).abs()
        unsure = unsure.masked_fill(_sampled(valid, pool) < 1, -torch.inf)
        best = unsure.topk(chosen, dim=1).indices
    pool = torch.gather(pool, 1, best.unsqueeze(-1).expand(-1, -1, 2))
    return torch.cat([pool, rest], dim=1)


def point_loss(
    logits: Tensor, target: Tensor, valid: Tensor, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """Binary cross entropy plus Dice on 112 x 112 points of each mask, as Pi-SAM was trained.

    Parameters
    ----------
    logits, target, valid
        As in `dice_loss`.
    rngs : sequence of B generators
        Draw the points.

    Returns
    -------
    () float
        Mean over the batch.
    """
    points = uncertain_points(logits.detach(), valid, rngs)
    # As a picture of one row, for the losses above.
    at = [_sampled(value, points)[:, None, None] for value in (logits, target, valid)]
    inside = (at[2] >= 1).to(at[0].dtype)
    bce = F.binary_cross_entropy_with_logits(at[0], at[1], reduction="none") * inside
    plain = bce.flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
    return (plain + dice_loss(at[0], at[1], inside)).mean()


def _sampled(value: Tensor, points: Tensor) -> Tensor:
    """Values (B, n) of (B, 1, H, W) at points (B, n, 2), bilinear."""
    grid = (2 * points - 1).unsqueeze(2).to(value.dtype)
    return F.grid_sample(value, grid, align_corners=False)[:, 0, :, 0]


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
