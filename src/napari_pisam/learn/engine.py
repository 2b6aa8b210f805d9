"""The training loop: one epoch, one validation; on one device or on several."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from napari_pisam.learn.batches import to_batch
from napari_pisam.learn.objective import Clicks, predicted
from napari_pisam.learn.run_state import StepLog, save_whole
from napari_pisam.measure.click_rule import evaluation_click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.dataset import ValidationSamples
    from napari_pisam.learn.encoding import FrozenEncoder
    from napari_pisam.learn.run_state import Run
    from napari_pisam.model.pisam import PiSam

    Measure = Callable[[int, int, torch.Tensor, torch.Tensor, torch.Tensor], Sequence[float]]

log = logging.getLogger(__name__)

_LOG_COLUMNS = ("step", "seconds", "loss", "learning_rate", "gradient_norm")


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
    first, before, started = run.step, run.elapsed, time.monotonic()
    record = _ProgressWriter(config, run) if fabric.is_global_zero else None
    while progress(config, run.step, run.elapsed) < 1:
        batch = next(batches)
        # What the draws are derived from is read here: on a device it would have to be waited for.
        batch = {**fabric.to_device(batch), "position": batch["position"]}
        # Nothing random is carried from one step to the next, so that a run can go on from any.
        torch.manual_seed((config.seed << 40) + (run.step << 8) + fabric.global_rank)
        rate = learning_rate(config, run.step, run.elapsed)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        loss = objective(batch, run.step)
        clock = before + time.monotonic() - started
        mean, run.elapsed, asked = agree(fabric, loss.item(), clock, stop())
        if not math.isfinite(mean):
            _refuse(fabric, config, batch, run, "loss", loss.item())
        run.optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        norm = fabric.clip_gradients(
            objective, run.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        size = math.nan if norm is None else float(norm)
        if not math.isfinite(size):
            _refuse(fabric, config, batch, run, "gradient's norm", math.nan)
        run.optimizer.step()
        run.ema.update(run.model, run.step)
        run.step += 1
        run.position += config.batch * fabric.world_size
        if record is not None:
            record.add(mean, rate, size, may_save=not asked)
        if asked:
            return True
        if run.elapsed - before > 60 * config.validate_minutes:
            break
    log.info("%d steps in %.0f s", run.step - first, run.elapsed - before)
    return False


class _ProgressWriter:
    """Writes the log, and now and then the checkpoint."""

    def __init__(self, config: TrainConfig, run: Run) -> None:
        self._config, self._run = config, run
        self._table = StepLog(config.output / "log.csv", run.step, _LOG_COLUMNS)
        self._saved = time.monotonic()

    def add(self, loss: float, rate: float, norm: float, *, may_save: bool) -> None:
        """Write down a step that was done."""
        run = self._run
        row = [run.step, f"{run.elapsed:.1f}", f"{loss:.6g}", f"{rate:.3g}", f"{norm:.3g}"]
        self._table.add(row)
        if run.step % 20 == 0:
            log.info("step %d loss %.3f rate %.1e", run.step, loss, rate)
        if may_save and time.monotonic() - self._saved > 60 * self._config.save_minutes:
            run.save(self._config.output)
            self._saved = time.monotonic()


@torch.inference_mode()
def evaluate(
    model: PiSam,
    samples: ValidationSamples,
    counts: tuple[int, ...],
    measure: Measure,
    *,
    frozen: FrozenEncoder | None = None,
    fabric: Fabric | None = None,
) -> NDArray[np.float64]:
    """Measure masks from the exact box and after each number of simulated clicks.

    Parameters
    ----------
    model
        Used at the frame of each sample, in eval mode.
    samples
        Fixed samples with exact boxes.
    counts
        Numbers of clicks to measure after, ascending. Clicks follow RITM's rule.
    measure
        Gets a sample's place, the number of clicks, and logits, mask and valid part, all
        (1, 1, S, S); returns the values of that mask, always as many.
    frozen
        The features of a frozen image encoder, where it does not train.
    fabric
        Shares the samples among its processes, which all get the result.

    Returns
    -------
    (samples, counts, values) float
    """
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    rows: dict[int, list[Sequence[float]]] = {}
    for index in range(rank, len(samples), world):
        batch = {key: value.to(model.device) for key, value in to_batch([samples[index]]).items()}
        view = model.at_frame(batch["image"].shape[-1]).eval()
        rows[index] = [
            measure(index, count, logits, batch["mask"], batch["valid"])
            for count, logits in _corrected(view, batch, counts, frozen)
        ]
    if fabric is not None and world > 1:
        rows = _gather(fabric, rows)
    return np.array([rows[index] for index in sorted(rows)], np.float64)


def _corrected(
    model: PiSam, batch: dict[str, Any], counts: tuple[int, ...], frozen: FrozenEncoder | None
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each of the numbers of clicks, with the logits after that many."""
    truth, inside = (batch[key][0, 0].cpu().numpy() > 0.5 for key in ("mask", "valid"))
    features = None if frozen is None else frozen.of(model)
    image = model.encode(batch["image"], valid=batch["valid"], features=features)
    decoded = model.decode(image, boxes=batch["box"])
    logits = model.upscale(image, decoded)
    clicks, clicked = Clicks(1), np.zeros_like(truth)
    for n in range(counts[-1] + 1):
        click = None
        if n:
            click = evaluation_click(predicted(logits)[0] & inside, truth, clicked)
        if click is not None:
            clicked[click[0], click[1]] = True
            clicks.add(0, click)
            given = clicks.tensors(model.device)
            corrected = model.correct(image, decoded, *given, boxes=batch["box"])
            logits = model.upscale(image, corrected)
        if n in counts:
            yield n, logits


def _gather(
    fabric: Fabric, rows: dict[int, list[Sequence[float]]]
) -> dict[int, list[Sequence[float]]]:
    """Let every process have the rows of all."""
    parts: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(parts, rows)
    return {index: row for part in parts for index, row in part.items()}


@contextmanager
def training_arithmetic() -> Iterator[None]:
    """Compute as training needs it, and leave the thread's arithmetic and seeds as they were."""
    with ExitStack() as stack:
        # Gradients of a nearly solved mask are denormal, which a CPU computes many times slower.
        # It holds for the whole thread, other people's arithmetic too: only while training.
        stack.callback(torch.set_flush_denormal, False)
        torch.set_flush_denormal(True)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        yield


@contextmanager
def processes(accelerator: str, plugins: Any = None) -> Iterator[Fabric]:
    """Start Fabric as `build_fabric` does; leave its processes afterwards."""
    try:
        yield build_fabric(accelerator, plugins)
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def build_fabric(accelerator: str, plugins: Any = None) -> Fabric:
    """Start Fabric on one device, or on those that ``torchrun`` gave."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator=accelerator,
        # A prompt does not reach every weight: no points, no codes of points.
        strategy=DDPStrategy(find_unused_parameters=True) if world > 1 else "auto",
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        plugins=plugins,
    )
    fabric.launch()
    return fabric


def agree(fabric: Fabric, loss: float, elapsed: float, stop: bool) -> tuple[float, float, bool]:
    """Mean loss, mean clock (the schedule follows it), and whether any process is to stop."""
    if fabric.world_size == 1:
        return loss, elapsed, stop
    values = torch.tensor([loss, elapsed, float(stop)], device=fabric.device)
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
