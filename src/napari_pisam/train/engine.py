"""The training loop of the whole network: one step, one validation, one run."""

from __future__ import annotations

import copy
import csv
import json
import logging
import math
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader

from napari_pisam.model.checkpoint import load_into, read_checkpoint
from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import get_variant
from napari_pisam.train.click_simulation import evaluation_click, training_click
from napari_pisam.train.compose import load_bank
from napari_pisam.train.dataset import TrainingSamples, ValidationSamples
from napari_pisam.train.losses import click_loss, mask_loss
from napari_pisam.train.store import load_images

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_pisam.model.pisam import Decoded, EncodedImage, PiSam
    from napari_pisam.train.config import TrainConfig

log = logging.getLogger(__name__)

Batch = dict[str, Any]


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

    def tensors(self) -> tuple[Tensor, Tensor]:
        """(B, n, 2) float (x, y) frame px, and (B, n) int with -1 for padding; n >= 1."""
        n = max(1, *(len(points) for points in self.points))
        points = torch.zeros(len(self.points), n, 2)
        labels = torch.full((len(self.points), n), -1)
        for i, (own_points, own_labels) in enumerate(zip(self.points, self.labels, strict=True)):
            if own_points:
                points[i, : len(own_points)] = torch.tensor(own_points)
                labels[i, : len(own_labels)] = torch.tensor(own_labels)
        return points, labels


def _spoil(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Logits (B, 1, S/4, S/4) of a wrong version of ``mask`` (B, 1, S, S), as a user might have."""
    small = F.interpolate(mask, scale_factor=0.25, mode="area")
    side = small.shape[-1]
    noise = torch.from_numpy(rng.standard_normal((mask.shape[0], 1, 8, 8)).astype(np.float32))
    noise = F.interpolate(noise, (side, side), mode="bicubic")
    return ((small - 0.5 + 0.35 * noise) > 0).float() * 20 - 10


def _predicted(logits: Tensor) -> NDArray[np.bool_]:
    array: NDArray[np.bool_] = (logits.detach()[:, 0] > 0).cpu().numpy()
    return array


def train_step(model: PiSam, batch: Batch, config: TrainConfig, rng: np.random.Generator) -> Tensor:
    """Loss of one batch: first prompt, then the same objects corrected by simulated clicks.

    Only the last of several rounds of clicks is differentiated, so that many clicks cost little.
    """
    mask, valid = batch["mask"], batch["valid"]
    truth = mask[:, 0].numpy() > 0.5
    count = len(truth)
    image = model.encode(batch["image"])
    clicks = Clicks(count)
    draw = rng.random()
    if draw < config.clicks_only:
        for i in range(count):
            for _ in range(1 + int(rng.integers(3))):
                clicks.add(i, training_click(np.zeros_like(truth[i]), truth[i], rng))
        points, labels = clicks.tensors()
        decoded = model.decode(image, points=points, labels=labels)
    elif draw < config.clicks_only + config.mask_prompt:
        decoded = model.decode(image, boxes=batch["box"], masks=_spoil(mask, rng))
    else:
        decoded = model.decode(image, boxes=batch["box"])
    fine = model.upscale(image, decoded)
    small = F.interpolate(mask, scale_factor=0.25, mode="area")
    small_valid = F.interpolate(valid, scale_factor=0.25, mode="nearest")
    loss = mask_loss(fine, mask, valid) + 0.5 * mask_loss(decoded.coarse, small, small_valid)
    loss = loss + F.mse_loss(decoded.iou[:, 0], _iou(fine.detach(), mask, valid))
    return loss + _click_rounds(model, image, decoded, fine, clicks, batch, config, rng)


def _click_rounds(
    model: PiSam,
    image: EncodedImage,
    decoded: Decoded,
    fine: Tensor,
    clicks: Clicks,
    batch: Batch,
    config: TrainConfig,
    rng: np.random.Generator,
) -> Tensor:
    mask, valid = batch["mask"], batch["valid"]
    truth, inside = mask[:, 0].numpy() > 0.5, valid[:, 0].numpy() > 0.5
    # Few clicks most often: each further one is half as likely.
    rounds = min(config.max_clicks, int(rng.geometric(0.5)))
    logits = fine
    for r in range(rounds):
        predicted = _predicted(logits) & inside
        for i in range(len(truth)):
            clicks.add(i, training_click(predicted[i], truth[i], rng))
        points, labels = clicks.tensors()
        with torch.set_grad_enabled(r == rounds - 1):
            feature = model.refine(image, decoded, points, labels)
            logits = model.upscale(image, decoded, feature)
    return mask_loss(logits, mask, valid) + 0.1 * click_loss(logits, points, labels)


def _iou(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    p, t = (logits > 0) & (valid > 0.5), mask > 0.5
    union = (p | t).flatten(1).sum(1).clamp(min=1)
    return (p & t).flatten(1).sum(1) / union


@torch.inference_mode()
def evaluate(
    model: PiSam, samples: ValidationSamples, counts: tuple[int, ...] = (0, 1, 3, 5)
) -> dict[str, dict[int, float]]:
    """Mean IoU per source, from the exact box and after each number of clicks.

    Parameters
    ----------
    model
        In eval mode.
    samples
        Fixed samples with exact boxes.
    counts
        Numbers of clicks to report, ascending. Clicks follow RITM's rule.
    """
    found: dict[str, list[list[float]]] = {}
    for index in range(len(samples)):
        sample = samples[index]
        batch = _to_batch([sample])
        mask, valid = batch["mask"], batch["valid"]
        truth, inside = mask[0, 0].numpy() > 0.5, valid[0, 0].numpy() > 0.5
        image = model.encode(batch["image"])
        decoded = model.decode(image, boxes=batch["box"])
        logits = model.upscale(image, decoded)
        clicks, clicked = Clicks(1), np.zeros_like(truth)
        scores = []
        for n in range(counts[-1] + 1):
            if n:
                click = evaluation_click(_predicted(logits)[0] & inside, truth, clicked)
                if click is not None:
                    clicked[click[0], click[1]] = True
                    clicks.add(0, click)
                    feature = model.refine(image, decoded, *clicks.tensors())
                    logits = model.upscale(image, decoded, feature)
            if n in counts:
                scores.append(float(_iou(logits, mask, valid)))
        found.setdefault(sample["source"], []).append(scores)
    return {
        source: dict(zip(counts, np.mean(scores, axis=0).tolist(), strict=True))
        for source, scores in sorted(found.items())
    }


def _to_batch(samples: list[dict[str, Any]]) -> Batch:
    """Stack samples; ``valid`` becomes a (B, 1, S, S) map."""
    image = torch.stack([torch.as_tensor(s["image"]) for s in samples])
    mask = torch.stack([torch.as_tensor(s["mask"]) for s in samples]).float()
    box = torch.stack([torch.as_tensor(s["box"]) for s in samples]).float()
    valid = torch.zeros_like(mask)
    for i, sample in enumerate(samples):
        height, width = (int(v) for v in sample["valid"])
        valid[i, :, :height, :width] = 1
    return {"image": image.float(), "mask": mask, "valid": valid, "box": box}


class _Ema:
    """Averaged copy of a model; young averages follow the weights faster."""

    def __init__(self, model: PiSam, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: PiSam, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for own, new in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)


def _save(path: Path, state: dict[str, Any]) -> None:
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def _load_initial(model: PiSam, config: TrainConfig) -> None:
    if config.initial is not None and config.initial.suffix == ".safetensors":
        load_into(model, read_checkpoint(config.initial))
    elif config.initial is not None:
        state = torch.load(config.initial, weights_only=True)
        model.load_state_dict(state[config.initial_part])


def _average(model: PiSam, elapsed: float) -> float:
    """Average gradients over all processes, and their clocks, which the schedule follows."""
    flat = [torch.tensor([elapsed])]
    for parameter in model.parameters():
        # A prompt of one process may not reach every weight; the others' prompts may.
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat.append(gradient.reshape(-1))
    together = torch.cat(flat)
    dist.all_reduce(together)
    together /= dist.get_world_size()
    start = 1
    for parameter in model.parameters():
        part = together[start : start + parameter.numel()]
        if parameter.requires_grad:
            parameter.grad = part.view_as(parameter).clone()
        start += parameter.numel()
    return float(together[0])


def fit(config: TrainConfig) -> None:
    """Run (or continue) a training run; everything it writes is under ``config.output``.

    Under ``torchrun`` every process takes its own ``config.batch`` of samples a step, gradients are
    averaged, and the first process writes.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    # Gradients of a nearly solved mask are denormal, which a CPU computes many times slower.
    torch.set_flush_denormal(True)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    config.output.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        (config.output / "config.toml").write_text(config.to_toml())
    variant = replace(get_variant(config.variant), frame=config.frame)
    model = build_model(variant, seed=config.seed)
    _load_initial(model, config)
    for module in model.modules():
        if isinstance(module, ModulatedDeformConv2d):
            module.rigid = config.rigid
            module.offset_conv.requires_grad_(not config.rigid)
            module.modulator_conv.requires_grad_(not config.rigid)
    ema = _Ema(model, config.ema)
    norms = [p for p in model.parameters() if p.ndim <= 1]
    weights = [p for p in model.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": config.weight_decay},
            {"params": norms, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    step, elapsed = 0, 0.0
    resume = config.output / "last.pt"
    if resume.exists():
        state = torch.load(resume, weights_only=True)
        model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
        log.info("resumed at step %d after %.0f min", step, elapsed / 60)
    samples = TrainingSamples(
        load_images(config.data, held_out=config.held_out),
        bank=load_bank(config.data) if (config.data / "cutouts").is_dir() else None,
        size=config.frame,
        seed=config.seed,
        start=step * config.batch * world,
        weights=config.mixture,
        rank=rank,
        world=world,
    )
    images = load_images(config.data, part="validation", held_out=config.held_out)
    validation = ValidationSamples(images, size=config.frame, objects=config.validation_objects)
    loader = DataLoader(
        samples,
        batch_size=config.batch,
        num_workers=config.workers,
        collate_fn=_to_batch,
        prefetch_factor=4 if config.workers else None,
    )
    rng = np.random.default_rng((config.seed, step, rank))
    started = time.monotonic() - elapsed
    saved = validated = time.monotonic()
    model.train()
    running: float | None = None
    for batch in loader:
        progress = max(step / config.steps, elapsed / (60 * config.minutes))
        if progress >= 1:
            break
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        rate *= min(1.0, (step + 1) / max(1, config.warmup))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = train_step(model, batch, config, rng)
        if not torch.isfinite(loss):
            _save(config.output / "bad_batch.pt", batch)
            msg = f"The loss is {loss.item()} at step {step}; the batch is in bad_batch.pt."
            raise FloatingPointError(msg)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        elapsed = time.monotonic() - started
        if world > 1:
            elapsed = _average(model, elapsed)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        ema.update(model, step)
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if rank > 0:
            continue
        now = time.monotonic()
        if step % 20 == 0:
            log.info("step %d loss %.3f lr %.1e %.2f s/step", step, running, rate, elapsed / step)
        if now - saved > 60 * config.save_minutes:
            _checkpoint(config, model, ema, optimizer, step, elapsed)
            saved = now
        if now - validated > 60 * config.validate_minutes:
            _validate(config, ema, validation, step, elapsed)
            validated = now
    if rank == 0:
        _checkpoint(config, model, ema, optimizer, step, elapsed)
        _validate(config, ema, validation, step, elapsed)
    if world > 1:
        dist.destroy_process_group()


def _checkpoint(
    config: TrainConfig,
    model: PiSam,
    ema: _Ema,
    optimizer: torch.optim.Optimizer,
    step: int,
    elapsed: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "ema": ema.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "elapsed": elapsed,
    }
    _save(config.output / "last.pt", state)


def _validate(
    config: TrainConfig, ema: _Ema, validation: ValidationSamples, step: int, elapsed: float
) -> None:
    scores = evaluate(ema.model, validation)
    means = np.mean([list(score.values()) for score in scores.values()], axis=0).tolist()
    log.info("validation at step %d: %s", step, " ".join(f"{mean:.3f}" for mean in means))
    with (config.output / "validation.csv").open("a", newline="") as file:
        csv.writer(file).writerow(
            [step, round(elapsed), *(round(m, 4) for m in means), json.dumps(scores)]
        )
