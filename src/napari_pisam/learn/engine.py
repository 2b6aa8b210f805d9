"""The training loop: one epoch, one validation, one run; on one device or on several."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from napari_pisam.learn.batches import to_batch, training_batches
from napari_pisam.learn.click_simulation import evaluation_click
from napari_pisam.learn.dataset import TrainingSamples, ValidationSamples
from napari_pisam.learn.encoding import FrozenEncoder, affordable_views, encode_batch
from napari_pisam.learn.material import load_material
from napari_pisam.learn.objective import Clicks, Objective, iou, predicted
from napari_pisam.learn.optimizers import build_optimizer
from napari_pisam.learn.run_state import (
    LAST,
    Ema,
    Run,
    Scores,
    Table,
    overall,
    save_whole,
    validation_row,
)
from napari_pisam.learn.starting import starting_model
from napari_pisam.learn.stopping import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.model.pisam import PiSam

log = logging.getLogger(__name__)

_LOG_COLUMNS = ("step", "seconds", "loss", "learning_rate", "gradient_norm")


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes
    ----------
    step : int
        Steps done, those before a resumption included.
    stopped : bool
        Whether it was asked to stop before its end.
    base, best, last : dict
        Mean IoU by source and number of clicks: of the base before the first step (empty without
        one), of the best weights, of the last.
    best_step : int
        Steps that led to the best weights; 0 where they are the base's.
    """

    step: int
    stopped: bool
    base: Scores
    best: Scores
    last: Scores
    best_step: int


def progress(config: TrainConfig, step: int, elapsed: float) -> float:
    """Share of the run that is done, by steps or by ``elapsed`` seconds, whichever is more."""
    by_time = 0.0 if config.minutes is None else elapsed / (60 * config.minutes)
    return max(step / config.steps, by_time)


def learning_rate(config: TrainConfig, step: int, elapsed: float) -> float:
    """Rate of a step: a linear warm-up, then half a cosine down to zero."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress(config, step, elapsed))))
    return config.learning_rate * cosine * min(1.0, (step + 1) / max(1, config.warmup))


def train_one_epoch(
    fabric: Fabric,
    objective: Any,
    run: Run,
    batches: Iterator[dict[str, Any]],
    config: TrainConfig,
    stop: Callable[[], bool],
) -> bool:
    """Train until the next validation is due, or the run ends.

    Parameters
    ----------
    fabric
        Moves, reduces, differentiates.
    objective
        An `Objective` that `fabric` has set up.
    run
        Changed in place.
    batches
        Endless.
    config
        Schedule, clipping, and where to write.
    stop
        Asked before every update; true ends the epoch after it.

    Returns
    -------
    bool
        Whether a process was asked to stop.

    Raises
    ------
    FloatingPointError
        If the loss or its gradient is not finite; the batch is in ``bad_batch*.pt``.
    """
    objective.train()
    first, started, before = run.step, time.monotonic(), run.elapsed
    saved = started
    table = Table(config.output / "log.csv", run.step, _LOG_COLUMNS) if _writes(fabric) else None
    while progress(config, run.step, run.elapsed) < 1:
        batch = fabric.to_device(next(batches))
        # Nothing random is carried from one step to the next, so that a run can go on from any.
        torch.manual_seed((config.seed << 40) + (run.step << 8) + fabric.global_rank)
        rate = learning_rate(config, run.step, run.elapsed)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss = objective(batch, run.step)
        clock = before + time.monotonic() - started
        mean, run.elapsed, asked = _agree(fabric, loss, clock, stop())
        if not math.isfinite(mean):
            _refuse(fabric, config, batch, run, "loss", loss.item())
        run.optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        norm = fabric.clip_gradients(
            objective, run.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not torch.isfinite(norm):
            _refuse(fabric, config, batch, run, "gradient's norm", math.nan)
        run.optimizer.step()
        run.ema.update(run.model, run.step)
        run.step += 1
        run.position += config.batch * fabric.world_size
        if table is not None:
            table.add([run.step, f"{run.elapsed:.1f}", f"{mean:.6g}", f"{rate:.3g}", f"{norm:.3g}"])
            if run.step % 20 == 0:
                log.info("step %d loss %.3f rate %.1e", run.step, mean, rate)
            if not asked and time.monotonic() - saved > 60 * config.save_minutes:
                run.save(config.output)
                saved = time.monotonic()
        if asked:
            return True
        if config.validate_steps and run.step % config.validate_steps == 0:
            break
        if not config.validate_steps and run.elapsed - before > 60 * config.validate_minutes:
            break
    log.info("%d steps in %.0f s", run.step - first, run.elapsed - before)
    return False


@torch.inference_mode()
def evaluate(
    model: PiSam,
    samples: ValidationSamples,
    counts: tuple[int, ...] = (0, 1, 3, 5),
    *,
    frozen: FrozenEncoder | None = None,
    fabric: Fabric | None = None,
    measure: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = iou,
) -> Scores:
    """Mean IoU per source, from the exact box and after each number of clicks.

    Parameters
    ----------
    model
        In eval mode.
    samples
        Fixed samples with exact boxes.
    counts
        Numbers of clicks to report, ascending. Clicks follow RITM's rule.
    frozen
        Gives what the image encoder says, where it does not train.
    fabric
        Shares the samples among its processes, which all get the result.
    measure
        Gives the value of logits for a mask inside the valid part, all (1, 1, S, S); called for
        one sample after the other and, for each, once for every number of clicks.
    """
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    table = torch.zeros(len(samples), len(counts), dtype=torch.float64)
    for index in range(rank, len(samples), world):
        batch = {key: value.to(model.device) for key, value in to_batch([samples[index]]).items()}
        mask, valid = batch["mask"], batch["valid"]
        truth, inside = (batch[key][0, 0].cpu().numpy() > 0.5 for key in ("mask", "valid"))
        image = encode_batch(model, batch, frozen)
        decoded = model.decode(image, boxes=batch["box"])
        logits = model.upscale(image, decoded)
        clicks, clicked = Clicks(1), np.zeros_like(truth)
        scores = []
        for n in range(counts[-1] + 1):
            if n:
                click = evaluation_click(predicted(logits)[0] & inside, truth, clicked)
                if click is not None:
                    clicked[click[0], click[1]] = True
                    clicks.add(0, click)
                    given = clicks.tensors(model.device)
                    corrected = model.correct(image, decoded, *given, boxes=batch["box"])
                    logits = model.upscale(image, corrected)
            if n in counts:
                scores.append(float(measure(logits, mask, valid)))
        table[index] = torch.tensor(scores)
    if fabric is not None and world > 1:
        reduced = fabric.all_reduce(table.float().to(fabric.device), reduce_op="sum")
        table = torch.as_tensor(reduced).double().cpu()
    found: dict[str, list[list[float]]] = {}
    for (item, _), row in zip(samples.entries, table.tolist(), strict=True):
        found.setdefault(item.source, []).append(row)
    return {
        source: dict(zip(counts, np.mean(rows, axis=0).tolist(), strict=True))
        for source, rows in sorted(found.items())
    }


def fit(config: TrainConfig, *, stop: Callable[[], bool] | None = None) -> FitResult:
    """Run, or continue, a training run; everything it writes is under ``config.output``.

    Under ``torchrun`` every process takes its own ``config.batch`` of samples a step, gradients are
    averaged, and the first process writes. SIGINT and SIGTERM save and stop.

    Parameters
    ----------
    config
        What to train on what, and for how long.
    stop
        Asked once a step; true saves and stops, as a signal does.

    Raises
    ------
    ValueError
        If the settings, the data or the weights cannot be used.
    FloatingPointError
        If the loss is not finite.
    """
    with ExitStack() as stack:
        # Gradients of a nearly solved mask are denormal, which a CPU computes many times slower.
        # It holds for the whole thread, other people's arithmetic too: only while training.
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        signals = stack.enter_context(StopRequest())
        fabric = build_fabric(config)
        stack.callback(_leave_processes)
        return _fit(fabric, config, lambda: signals() or (stop is not None and stop()))


def _fit(fabric: Fabric, config: TrainConfig, stop: Callable[[], bool]) -> FitResult:
    model, detached = starting_model(config)
    cache_bytes = int(config.cache_gb * 1e9)
    material = load_material(config)
    samples = TrainingSamples(
        material.training,
        bank=material.bank,
        size=config.frame,
        seed=config.seed,
        weights=config.mixture,
    )
    validation = ValidationSamples(
        material.validation,
        size=config.frame,
        objects=config.validation_objects,
        focus=model.variant.focus,
    )
    if config.views:
        held = len(validation)
        views = affordable_views(model.variant, config.views + held, cache_bytes) - held
        config = config.model_copy(update={"views": max(1, views)})
    config.output.mkdir(parents=True, exist_ok=True)
    frozen = None
    if config.frozen != "nothing":
        folder = config.output / "cache" if config.views else None
        frozen = FrozenEncoder(model, folder, cache_bytes)
    ema = Ema(model, config.ema)
    optimizer = build_optimizer(model, config)
    objective, _ = fabric.setup(Objective(model, config, frozen), optimizer)
    fabric.to_device(ema.model)
    run = Run(model, ema, optimizer)
    if (config.output / LAST).exists():
        run.restore(config.output, config.batch * fabric.world_size)
        log.info("resumed at step %d after %.0f min", run.step, run.elapsed / 60)
    table: Table | None = None
    if _writes(fabric):
        (config.output / "config.toml").write_text(config.to_toml(), encoding="utf-8")
        table = Table(config.output / "validation.csv", run.step)

    def validate() -> Scores:
        if not len(validation):
            return {}
        started = time.monotonic()
        scores = evaluate(run.ema.model, validation, frozen=frozen, fabric=fabric)
        elapsed = run.elapsed + time.monotonic() - started
        run.elapsed = _agree(fabric, torch.zeros((), device=fabric.device), elapsed, False)[1]
        if table is not None:
            table.add(validation_row(run, scores))
        log.info("validation at step %d: %.4f", run.step, overall(scores))
        return scores

    if config.base is not None and not run.step and not run.base:
        run.base = run.best = validate()
    loader = training_batches(samples, config, run.position, fabric.global_rank, fabric.world_size)
    batches, stopped = iter(loader), False
    while not stopped and progress(config, run.step, run.elapsed) < 1:
        stopped = train_one_epoch(fabric, objective, run, batches, config, stop)
        if not stopped and (scores := validate()) and _writes(fabric):
            run.keep_best(config, scores, detached)
        if _writes(fabric):
            run.save(config.output)
    fabric.barrier()
    return FitResult(run.step, stopped, run.base, run.best, run.scores, run.best_step)


def build_fabric(config: TrainConfig) -> Fabric:
    """Start Fabric on one device, or on those that ``torchrun`` gave."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    # A prompt does not reach every weight: no points, no codes of points.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if world > 1 else "auto"
    on_cuda = config.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    precision: dict[str, Any] = {"precision": config.precision}
    if config.precision == "bf16-mixed":
        precision = {"plugins": _Mixed("bf16-mixed", "cuda" if on_cuda else "cpu")}
    fabric = Fabric(
        accelerator=config.accelerator,
        strategy=strategy,
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        **precision,
    )
    fabric.launch()
    return fabric


class _Mixed(MixedPrecision):
    """Automatic casts that leave the inputs alone: in bfloat16 a box of 256 px is 2 px off."""

    def convert_input(self, data: Any) -> Any:
        """Give the batch as it is."""
        return data


def _writes(fabric: Fabric) -> bool:
    return bool(fabric.is_global_zero)


def _leave_processes() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _agree(
    fabric: Fabric, loss: torch.Tensor, elapsed: float, stop: bool
) -> tuple[float, float, bool]:
    """Mean loss, mean clock (the schedule follows it), and whether any process is to stop."""
    values = torch.tensor([loss.item(), elapsed, float(stop)], device=loss.device)
    if fabric.world_size > 1:
        values = torch.as_tensor(fabric.all_reduce(values, reduce_op="mean"))
    mean, clock, asked = values.tolist()
    return mean, clock, asked > 0


def _refuse(
    fabric: Fabric, config: TrainConfig, batch: dict[str, Any], run: Run, what: str, value: float
) -> None:
    """Save the batch and stop the run."""
    if math.isfinite(value):
        raise FloatingPointError(f"The {what} of another process is not finite, step {run.step}.")
    rank = f"_{fabric.global_rank}" if fabric.global_rank else ""
    path: Path = config.output / f"bad_batch{rank}.pt"
    save_whole(path, {key: value.cpu() for key, value in batch.items()} | {"step": run.step})
    raise FloatingPointError(
        f"The {what} is {value} at step {run.step}; the batch is in {path}. Lower the learning "
        "rate, or look at the batch."
    )
