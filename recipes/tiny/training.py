"""One stage of the recipe: from settings to a run's folder, on one device or on several."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric.plugins.precision import MixedPrecision

from napari_pisam.learn import engine
from napari_pisam.learn.batches import training_batches
from napari_pisam.learn.encoding import frozen_encoder
from napari_pisam.learn.objective import Objective, iou
from napari_pisam.learn.run_state import BEST, LAST, Ema, Run, StepLog
from napari_pisam.learn.stopping import stop_request
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny.depthwise import quicken_depthwise
from recipes.tiny.optimizers import build_optimizer
from recipes.tiny.samples import training_samples, validation_samples
from recipes.tiny.sets import load_images
from recipes.tiny.starting import starting_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric

    from napari_pisam.learn.dataset import ValidationSamples
    from napari_pisam.learn.encoding import FrozenEncoder
    from napari_pisam.model.pisam import PiSam
    from recipes.tiny.config import RecipeConfig

log = logging.getLogger(__name__)

Scores = dict[str, dict[int, float]]
"""Mean IoU by source and number of clicks."""

COUNTS = (0, 1, 3, 5)

PRIVATE = {"data", "output", "initial", "workers"}
"""Settings that tell of one machine, and are no part of published weights."""


@dataclass(frozen=True)
class FitResult:
    """How a stage ended.

    Attributes
    ----------
    step : int
        Steps done, those before a resumption included.
    stopped : bool
        Whether it was asked to stop before its end.
    best, last : dict
        Mean IoU by source and number of clicks, of the best weights and of the last.
    best_step : int
        Steps that led to the best weights.
    """

    step: int
    stopped: bool
    best: Scores
    last: Scores
    best_step: int


def overall(scores: Scores) -> float:
    """Mean over sources and numbers of clicks, each source counting the same."""
    return float(np.mean([list(source.values()) for source in scores.values()]))


def evaluate(
    model: PiSam,
    samples: ValidationSamples,
    counts: tuple[int, ...] = COUNTS,
    *,
    frozen: FrozenEncoder | None = None,
    fabric: Fabric | None = None,
) -> Scores:
    """Mean IoU of a network by source, from the exact box and after each number of clicks."""
    measured = engine.evaluate(
        model,
        samples,
        counts,
        lambda _index, _count, *masks: (float(iou(*masks)),),
        frozen=frozen,
        fabric=fabric,
    )
    found: dict[str, list[list[float]]] = {}
    for (item, _, _), row in zip(samples.entries, measured[..., 0].tolist(), strict=True):
        found.setdefault(item.source, []).append(row)
    return {
        source: dict(zip(counts, np.mean(rows, axis=0).tolist(), strict=True))
        for source, rows in sorted(found.items())
    }


def fit(config: RecipeConfig, *, stop: Callable[[], bool] | None = None) -> FitResult:
    """Run, or go on with, a stage; everything it writes is under ``config.output``.

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
    with (
        engine.training_arithmetic(),
        stop_request() as signals,
        engine.processes(
            config.accelerator, arithmetic_of(config.precision, config.accelerator)
        ) as fabric,
    ):
        stage = _Stage(fabric, config)
        return stage.work(lambda: signals() or (stop is not None and stop()))


class _Mixed(MixedPrecision):
    """Automatic casts that leave the inputs alone: in bfloat16 a box of 256 px is 2 px off."""

    def convert_input(self, data: Any) -> Any:
        """Return the batch as it is."""
        return data


def arithmetic_of(precision: str, accelerator: str) -> MixedPrecision | None:
    """Make what lets Fabric compute in a precision; None for plain float32."""
    if precision != "bf16-mixed":
        return None
    on_cuda = accelerator in ("auto", "cuda") and torch.cuda.is_available()
    return _Mixed("bf16-mixed", "cuda" if on_cuda else "cpu")


class _Stage:
    def __init__(self, fabric: Fabric, config: RecipeConfig) -> None:
        self.fabric = fabric
        model = starting_model(config)
        self.samples = training_samples(config)
        self.validation = validation_samples(
            load_images(config.data, part="validation", held_out=config.held_out),
            size=config.frame,
            objects=config.validation_objects,
            focus=model.variant.focus,
        )
        self.frozen, loop = frozen_encoder(model, config, len(self.validation))
        self.config = config.model_copy(update={"views": loop.views})
        config.output.mkdir(parents=True, exist_ok=True)
        if fabric.device.type == "cpu" and config.precision == "bf16-mixed":
            quicken_depthwise(model)
        ema, optimizer = Ema(model, config.ema), build_optimizer(model, config)
        if config.compiled and model.has_interactor:
            # A layer norm over 8 channels of every pixel takes half of a step on a CPU otherwise.
            decoder: Any = model.mask_decoder
            decoder.head = torch.compile(decoder.head)
        objective = Objective(model, self.config, self.frozen)
        self.objective, _ = fabric.setup(objective, optimizer)
        fabric.to_device(ema.model)
        self.run = Run(model, ema, optimizer, batch=config.batch)
        if (config.output / LAST).exists():
            self.run.restore(config.output)
            log.info("resumed at step %d after %.0f min", self.run.step, self.run.elapsed / 60)
        self.table: StepLog | None = None
        if fabric.is_global_zero:
            (config.output / "config.toml").write_text(config.to_toml(), encoding="utf-8")
            self.table = StepLog(config.output / "validation.csv", self.run.step)

    def work(self, stop: Callable[[], bool]) -> FitResult:
        run, config, fabric = self.run, self.config, self.fabric
        rank, world = fabric.global_rank, fabric.world_size
        batches = iter(training_batches(self.samples, config, run.position, rank, world))
        stopped = False
        while not stopped and engine.progress(config, run.step, run.elapsed) < 1:
            stopped = engine.train_one_epoch(fabric, self.objective, run, batches, config, stop)
            if not stopped and len(self.validation):
                self._validate()
            if fabric.is_global_zero:
                run.save(config.output)
        fabric.barrier()
        best, last = (run.memory.get(key, {}) for key in ("best", "scores"))
        return FitResult(run.step, stopped, best, last, run.best_step)

    def _validate(self) -> None:
        run, fabric = self.run, self.fabric
        started = time.monotonic()
        scores = evaluate(run.ema.model, self.validation, frozen=self.frozen, fabric=fabric)
        elapsed = run.elapsed + time.monotonic() - started
        run.elapsed = engine.agree(fabric, 0.0, elapsed, False)[1]
        log.info("validation at step %d: %.4f", run.step, overall(scores))
        run.memory["scores"] = scores
        best = run.memory.get("best")
        is_best = not best or overall(scores) > overall(best)
        if is_best:
            run.memory["best"], run.best_step = scores, run.step
        if self.table is not None:
            self.table.add(_row(run, scores))
            if is_best:
                summary = summary_of(self.config, run.step, run.elapsed) | {"scores": scores}
                save_checkpoint(
                    self.config.output / BEST,
                    run.ema.model,
                    licence=self.config.licence,
                    training_summary=summary,
                )


def summary_of(config: RecipeConfig, step: int, elapsed: float) -> dict[str, Any]:
    """Say in the header of weights how they were made, without telling of this machine."""
    done = {"steps": step, "minutes": round(elapsed / 60, 1)}
    return config.model_dump(mode="json", exclude=PRIVATE) | done


def _row(run: Run, scores: Scores) -> list[Any]:
    """Step, seconds, mean IoU for each number of clicks, and everything as JSON."""
    means = np.mean([list(score.values()) for score in scores.values()], axis=0).tolist()
    return [run.step, round(run.elapsed), *(round(mean, 4) for mean in means), json.dumps(scores)]
