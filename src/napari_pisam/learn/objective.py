"""The loss of one batch: prompts as users give them, then corrections by simulated clicks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from napari_pisam.images.crops import extent
from napari_pisam.learn.click_simulation import training_click, training_scribble
from napari_pisam.learn.corruption import decode_with_flaws, flaws
from napari_pisam.learn.encoding import set_training_mode
from napari_pisam.learn.losses import click_loss, local_loss, mask_loss
from napari_pisam.measure.click_rule import depth_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.encoding import FrozenEncoder
    from napari_pisam.model.pisam import EncodedImage, PiSam

Batch = dict[str, Any]

# Of the loss near the newest clicks: its weight, and how near, by the frame's side.
_LOCAL_WEIGHT = 0.5
_LOCAL_REACH = 1 / 8
# Below it is the radius of the largest disc in a fine object, by the side of a square as large as
# its box.
_FINE = 0.1


@dataclass(frozen=True)
class Draws:
    """Where the random choices of a step come from.

    Attributes
    ----------
    step
        What all objects of a step share, in every process: the kind of prompt, the rounds.
    objects
        One for each object, so that a batch may be divided among processes in any way.
    """

    step: np.random.Generator
    objects: Sequence[np.random.Generator]

    @classmethod
    def of(cls, seed: int, step: int, positions: Sequence[int]) -> Draws:
        """Derive the draws of a step and of its samples' positions in the stream."""
        return cls(
            np.random.default_rng((seed, 1, step)),
            [np.random.default_rng((seed, 2, position)) for position in positions],
        )


class Clicks:
    """The clicks of B objects, padded to a common number."""

    def __init__(self, batch: int) -> None:
        self.points: list[list[tuple[float, float]]] = [[] for _ in range(batch)]
        self.labels: list[list[int]] = [[] for _ in range(batch)]

    def add(self, i: int, click: tuple[int, int, bool] | None) -> None:
        """Add a (row, col, is foreground) click to object ``i``; ``None`` adds nothing."""
        if click is not None:
            row, col, sign = click
            self.points[i].append((col + 0.5, row + 0.5))
            self.labels[i].append(int(sign))

    def near(self, since: Sequence[int], side: int) -> NDArray[np.bool_]:
        """(B, 1, side, side) bool: what is near the clicks from number ``since[i]`` on."""
        ys, xs = np.ogrid[:side, :side]
        result = np.zeros((len(self.points), 1, side, side), dtype=np.bool_)
        for i, points in enumerate(self.points):
            for x, y in points[since[i] :]:
                result[i, 0] |= np.hypot(ys + 0.5 - y, xs + 0.5 - x) <= _LOCAL_REACH * side
        return result

    def tensors(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """(B, n, 2) float (x, y) frame px, and (B, n) int with -1 for padding; n >= 1."""
        n = max(1, *(len(points) for points in self.points))
        points = torch.zeros(len(self.points), n, 2)
        labels = torch.full((len(self.points), n), -1)
        for i, (own_points, own_labels) in enumerate(zip(self.points, self.labels, strict=True)):
            if own_points:
                points[i, : len(own_points)] = torch.tensor(own_points)
                labels[i, : len(own_labels)] = torch.tensor(own_labels)
        return points.to(device), labels.to(device)


def predicted(logits: Tensor) -> NDArray[np.bool_]:
    """(B, 1, S, S) logits -> (B, S, S) bool."""
    array: NDArray[np.bool_] = (logits.detach()[:, 0] > 0).cpu().numpy()
    return array


def iou(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """(B,) IoU of masks inside the valid part; all (B, 1, S, S)."""
    p, t = (logits > 0) & (valid > 0.5), mask > 0.5
    union = (p | t).flatten(1).sum(1).clamp(min=1)
    return (p & t).flatten(1).sum(1) / union


def is_fine(mask: NDArray[np.bool_]) -> bool:
    """Tell whether an object, (H, W) bool, is of thin lines or of many small pieces.

    The largest disc in it is small beside the box around it, which is what a network is asked by:
    a rod that lies in it from corner to corner is fine, an upright one fills it.
    """
    rows, cols = extent(mask) or (slice(0, 1), slice(0, 1))
    side = np.sqrt((rows.stop - rows.start) * (cols.stop - cols.start))
    return bool(depth_inside(mask[rows, cols]).max() < _FINE * side)


def _spoil(mask: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Logits (B, 1, S/4, S/4) of a wrong version of ``mask`` (B, 1, S, S), as a user might have."""
    small = F.interpolate(mask, scale_factor=0.25, mode="area")
    side = small.shape[-1]
    drawn = np.stack([rng.standard_normal((1, 8, 8)).astype(np.float32) for rng in rngs])
    noise = torch.from_numpy(drawn).to(mask.device)
    noise = F.interpolate(noise, (side, side), mode="bicubic")
    return ((small - 0.5 + 0.35 * noise) > 0).float() * 20 - 10


def batch_loss(
    model: PiSam, image: EncodedImage, batch: Batch, config: TrainConfig, draws: Draws
) -> Tensor:
    """Loss of one batch: first prompt, then the same objects corrected by simulated clicks.

    Only the last of several rounds of clicks is differentiated, so that many clicks cost little.

    Parameters
    ----------
    model
        In training mode.
    image
        The batch's images, encoded.
    batch
        From `to_batch`.
    config
        Shares of the prompts, number of clicks.
    draws
        Random choices.

    Returns
    -------
    () float
        A mean over the objects: the mean over processes with as many each is that of all.
    """
    mask, valid = batch["mask"], batch["valid"]
    truth, inside = (part[:, 0].cpu().numpy() > 0.5 for part in (mask, valid))
    clicks = Clicks(len(truth))
    draw = draws.step.random()
    if draw < config.clicks_only:
        # As many for every object: SAM's prompt encoder lets padding be seen.
        for _ in range(1 + int(draws.step.integers(3))):
            for i, rng in enumerate(draws.objects):
                clicks.add(i, training_click(np.zeros_like(truth[i]), truth[i], rng))
        points, labels = clicks.tensors(mask.device)
        decode = partial(model.decode, image, points=points, labels=labels)
    elif draw < config.clicks_only + config.mask_prompt:
        masks = _spoil(mask, draws.objects)
        decode = partial(model.decode, image, boxes=batch["box"], masks=masks)
    else:
        decode = partial(model.decode, image, boxes=batch["box"])
    if model.variant.fine_answer:
        # The answer that is learnt from an object is the one of its kind.
        kinds = [is_fine(one) for one in truth]
        decode = partial(decode, wants_fine=torch.tensor(kinds).to(mask.device))
    decoded = decode()
    fine = model.upscale(image, decoded)
    small = F.interpolate(mask, scale_factor=0.25, mode="area")
    small_valid = F.interpolate(valid, scale_factor=0.25, mode="nearest")
    loss = mask_loss(fine, mask, valid)
    loss = loss + 0.5 * mask_loss(decoded.coarse, small, small_valid)
    loss = loss + F.mse_loss(decoded.iou[:, 0], iou(fine.detach(), mask, valid))
    if model.variant.fine_answer:
        # What the other is worth for this object: before a click nothing else tells which is meant.
        other = iou(decoded.low_res[:, 1:].detach(), small, small_valid)
        loss = loss + F.mse_loss(decoded.iou[:, 1], other)
    if model.has_interactor:
        drawn = flaws(predicted(fine), truth, inside, draws.objects)
        if drawn.any():
            # Both signs of clicks are learnt only where both kinds of error are.
            decoded = decode_with_flaws(model, decode, drawn)
            with torch.no_grad():
                fine = model.upscale(image, decoded)
    boxes = None if draw < config.clicks_only else batch["box"]

    def correct(points: Tensor, labels: Tensor) -> Tensor:
        corrected = model.correct(image, decoded, points, labels, boxes=boxes)
        return model.upscale(image, corrected)

    return loss + _click_rounds(correct, fine, clicks, batch, (truth, inside), config, draws)


def _click_rounds(
    correct: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    clicks: Clicks,
    batch: Batch,
    where: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    config: TrainConfig,
    draws: Draws,
) -> Tensor:
    """Loss after rounds of simulated clicks, from which ``correct`` makes logits."""
    mask, valid = batch["mask"], batch["valid"]
    truth, inside = where
    # Few clicks most often: each further one is less likely.
    rounds = min(config.max_clicks, int(draws.step.geometric(config.fewer_clicks)))
    is_scribble = draws.step.random() < config.scribbles
    for r in range(rounds):
        before = logits.detach() > 0
        found = predicted(logits) & inside
        since = [len(points) for points in clicks.points]
        for i, rng in enumerate(draws.objects):
            # The last round's, so that it is what is learnt from.
            if is_scribble and r == rounds - 1:
                for place in training_scribble(found[i], truth[i], rng):
                    clicks.add(i, place)
            else:
                clicks.add(i, training_click(found[i], truth[i], rng))
        points, labels = clicks.tensors(logits.device)
        with torch.set_grad_enabled(r == rounds - 1):
            logits = correct(points, labels)
    around = torch.from_numpy(clicks.near(since, mask.shape[-1])).to(mask.device)
    loss = mask_loss(logits, mask, valid) + 0.1 * click_loss(logits, points, labels)
    return loss + _LOCAL_WEIGHT * local_loss(logits, mask, valid, before, around)


class Objective(nn.Module):
    """From a batch to its loss in one call, which is what distributed training can wrap.

    Parameters
    ----------
    model
        The network; its stages are called one by one inside.
    config
        Settings.
    frozen
        Computes or remembers what a frozen encoder says; ``None`` where the encoder trains too.
    """

    def __init__(self, model: PiSam, config: TrainConfig, frozen: FrozenEncoder | None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.frozen = frozen

    def train(self, mode: bool = True) -> Objective:
        """Set the mode of all that trains; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            set_training_mode(self.model, self.config)
        return self

    def forward(self, batch: Batch, step: int) -> Tensor:
        """Compute the loss of a batch at a step of the run, () float."""
        features = None if self.frozen is None else self.frozen.of(self.model)
        # Pictures of a batch are padded with black, the predictor's after the normalisation.
        image = self.model.encode(batch["image"], valid=batch["valid"], features=features)
        draws = Draws.of(self.config.seed, step, batch["position"].tolist())
        return batch_loss(self.model, image, batch, self.config, draws)
