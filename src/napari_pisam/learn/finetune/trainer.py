"""The work of a fine-tuning: validate the base, train, validate, keep what is best."""

from __future__ import annotations

import gc
import importlib
import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.learn.batches import training_batches
from napari_pisam.learn.config import UNSTATED
from napari_pisam.learn.dataset import TrainingSamples
from napari_pisam.learn.encoding import TRAINED_ON_A_BASE, frozen_encoder
from napari_pisam.learn.engine import agree, processes, progress, train_one_epoch
from napari_pisam.learn.finetune.control import ValidationInterrupted
from napari_pisam.learn.finetune.crops import read_objects, training_items
from napari_pisam.learn.finetune.layout import BEST, CHECKPOINT, LAST
from napari_pisam.learn.finetune.pictures import preview_name, write_previews, write_report
from napari_pisam.learn.finetune.resolve import largest_frame, origin, resolve
from napari_pisam.learn.finetune.scoring import (
    ObjectScore,
    Scorer,
    check_finite,
    means,
    overall,
    pack,
    unpack,
)
from napari_pisam.learn.finetune.verdict import so_far, verdict
from napari_pisam.learn.objective import Objective
from napari_pisam.learn.run_state import Ema, Run, StepLog
from napari_pisam.learn.starting import starting_model
from napari_pisam.model.variants import VARIANTS
from napari_pisam.predict.device import free_memory, is_out_of_memory, select_device
from napari_pisam.weights.checkpoint_format import save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.finetune.control import Control
    from napari_pisam.learn.finetune.crops import RunObject
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.learn.finetune.state import Status

    Scores = dict[int, ObjectScore]

log = logging.getLogger(__name__)

MOST_DRAWN = 8
"""Training objects that the curves of training are of."""
SHOWN = 6
"""Validation objects with pictures."""

PRIVATE = {"images", "masks", "base"}
"""Settings that tell of one machine, and are no part of published weights."""

_COLUMNS = (
    "step",
    "seconds",
    "iou_training",
    "iou_validation",
    "boundary_training",
    "boundary_validation",
    "value",
)


class OutOfMemory(RuntimeError):
    """Even one object a step does not fit; the message says what to do."""


@contextmanager
def trainer_of(folder: Path, settings: FineTuneSettings, control: Control) -> Iterator[Trainer]:
    """Set up a fine-tuning on one device, or as one of the processes that ``torchrun`` started.

    Parameters
    ----------
    folder : Path
        Of the run; all that it needs is there.
    settings : FineTuneSettings
    control
        What is asked of it, and where it says how it stands.

    Raises
    ------
    ValueError
        If the folder, the base or the checkpoint cannot be used.
    """
    select_device(settings.device)  # refuses what this machine does not have
    objects = read_objects(folder)
    config = resolve(settings, folder, [o for o in objects if o.part == "training"])
    with processes(config.accelerator) as fabric:
        if settings.epochs is not None:
            # As many epochs, however many processes share them.
            config.steps = max(1, -(-config.steps // fabric.world_size))
        yield Trainer(folder, settings, control, objects, config, fabric)


class Trainer:
    """One fine-tuning; see `trainer_of`."""

    table: StepLog | None = None
    board: Any = None
    early = False
    _batches: Iterator[dict[str, Any]] | None = None
    _judged: tuple[tuple[int, int], tuple[bool, str]] | None = None

    def __init__(
        self,
        folder: Path,
        settings: FineTuneSettings,
        control: Control,
        objects: Sequence[RunObject],
        config: TrainConfig,
        fabric: Fabric,
    ) -> None:
        self.folder, self.settings, self.control = folder, settings, control
        self.training = [o for o in objects if o.part == "training"]
        self.validation = [o for o in objects if o.part == "validation"]
        self.fabric = fabric
        self.model, self.base_sha256, licence = starting_model(settings.base, config)
        if config.licence == UNSTATED:
            config = config.model_copy(update={"licence": licence or UNSTATED})
        self.origin = origin(settings.base)
        scored = min(MOST_DRAWN, len(self.training)) + len(self.validation)
        self.frozen, self.config = frozen_encoder(self.model, config, scored)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0)
        ema = Ema(self.model, config.ema)
        objective = Objective(self.model, self.config, self.frozen)
        self.objective, _ = self.fabric.setup(objective, optimizer)
        self.fabric.to_device(ema.model)
        self.run = Run(self.model, ema, optimizer, batch=config.batch, has_base=True)
        if (folder / CHECKPOINT).is_file():
            self.run.restore(folder)
            self.config = self.config.model_copy(update={"batch": self.run.batch})
        self.samples = TrainingSamples(training_items(objects), size=config.frame, seed=config.seed)
        self.scorers = {
            "training": self._scorer(self.training[:MOST_DRAWN], 0),
            "validation": self._scorer(self.validation, SHOWN),
        }
        if not len(self.scorers["validation"]):
            raise ValueError(
                "The objects that validate are so thin or small that nothing of them is left when "
                "they are shown to the network. Choose other ones, or a larger picture side."
            )

    def _scorer(self, objects: Sequence[RunObject], shown: int) -> Scorer:
        largest = largest_frame(self.settings, self.model.variant)
        return Scorer(objects, self.model, largest, self.frozen, shown)

    # -- the whole ------------------------------------------------------------------------------

    def work(self) -> Status:
        """Do all that is left to do; say at the end how it ended.

        Raises
        ------
        OSError
            If something cannot be written.
        FloatingPointError
            If the loss is not finite.
        OutOfMemory
            If one object a step is too much.
        """
        if self._writes:
            self.table = StepLog(self.folder / "validation.csv", self.run.step, _COLUMNS)
            self.board = _tensorboard(self.folder / "tensorboard")
        try:
            status = self._work()
            self._finish(status)
        finally:
            if self.board is not None:
                self.board.close()
        return status

    def _work(self) -> Status:
        run, memory = self.run, self.run.memory
        while True:
            status: Status | None = None
            try:
                if "base" not in memory:
                    self._say("Validating the base")
                    self._validate()
                elif run.step > memory["points"][-1]["step"] and self._is_over():
                    self._validate()  # what an order interrupted
                status = self._train()
            except ValidationInterrupted:
                pass
            status = status or self._pause_or_leave()
            if status is not None:
                return status

    @property
    def _writes(self) -> bool:
        return bool(self.fabric.is_global_zero)

    def _train(self) -> Status | None:
        """Train and validate until the end or an order; None for an order."""
        while not self._is_over():
            if self.train_until_validation():
                return None
            self._validate()
            self._save()
            if self._is_hopeless():
                break
        return "finished"

    def train_until_validation(self) -> bool:
        """Train until a validation is due; whether there was an order.

        Raises
        ------
        OutOfMemory
            If one object a step is too much.
        """
        run, fabric = self.run, self.fabric
        while not self._is_over():
            first, started = run.step, time.monotonic()
            if self._batches is None:
                rank, world = fabric.global_rank, fabric.world_size
                loader = training_batches(self.samples, self.config, run.position, rank, world)
                self._batches = iter(loader)
            try:
                is_asked = train_one_epoch(
                    fabric, self.objective, run, self._batches, self.config, self._between_steps
                )
            except (RuntimeError, MemoryError) as error:
                # Of several processes the others would wait for this one's gradients.
                if not is_out_of_memory(error) or fabric.world_size > 1:
                    raise
                self._halve()
                continue
            if run.step > first:
                done = (run.step - first) * self.config.batch * fabric.world_size
                speed = done / (time.monotonic() - started)
                self.control.content["samples_per_second"] = round(speed, 3)
            return is_asked
        return False

    def _halve(self) -> None:
        """Go on with half as many objects a step."""
        if self.config.batch == 1:
            raise OutOfMemory(
                "Not enough memory for a single object a step. Close other programs, let less "
                "learn, or choose a smaller base or picture side."
            )
        self.run.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        free_memory(self.model.device)
        # Epochs were counted in steps of the batch so far; more steps than needed only end later.
        self.run.batch = self.config.batch // 2
        self.config = self.config.model_copy(update={"batch": self.run.batch})
        self._batches = None
        log.warning("out of memory: %d object(s) a step from now on", self.run.batch)

    def _save(self) -> None:
        if self._writes:
            self.run.save(self.folder)

    def _is_over(self) -> bool:
        return progress(self.config, self.run.step, self.run.elapsed) >= 1

    def _between_steps(self) -> bool:
        """Asked in every step: say how it stands, and whether something was asked."""
        batch = f", {self.config.batch} object(s) each" if self.config.batch > 1 else ""
        self._say(f"Step {self.run.step + 1}{batch}", now=False)
        return bool(self.control.command)

    def _is_hopeless(self) -> bool:
        """Whether nothing got better for so long that training stops early."""
        patience = self.settings.patience
        since = [p for p in self.run.memory["points"] if p["step"] > self.run.best_step]
        self.early = bool(patience) and len(since) >= patience
        return self.early

    def _pause_or_leave(self) -> Status | None:
        """Save; then wait for the end of a pause (None), or say which end it is."""
        control, run = self.control, self.run
        self._save()
        if self.fabric.world_size > 1:  # where an order is a signal, to whichever of them
            return "interrupted"
        if control.command == "pause":
            self._say(f"Paused after step {run.step}", status="paused")
            control.wait_while_paused()
        if not control.command:
            return None
        return "stopped" if control.command == "stop" else "interrupted"

    # -- validation -----------------------------------------------------------------------------

    def _validate(self) -> None:
        """Score what there is now (or the base), draw it, and keep it if it is the best so far.

        Raises
        ------
        ValidationInterrupted
            If an order came; nothing is changed then.
        """
        run, memory = self.run, self.run.memory
        started = time.monotonic()
        is_base = "base" not in memory
        if not is_base and not check_finite(run.ema.model):
            raise FloatingPointError(
                f"The weights are not finite any more after step {run.step}. What was best before "
                "is kept. Start again with a lower learning rate."
            )
        if run.step:
            self._say(f"Validating step {run.step}")
        # Of several processes each would have to be interrupted at the same mask.
        check = self.control.check if self.fabric.world_size == 1 else None
        found = {
            part: scorer.score(run.ema.model, check, self.fabric)
            for part, scorer in self.scorers.items()
        }
        elapsed = run.elapsed + time.monotonic() - started
        run.elapsed = agree(self.fabric, 0.0, elapsed, False)[1]
        scores = found["validation"]
        point: dict[str, Any] = {"step": run.step, "seconds": round(run.elapsed, 1)}
        for part, values in found.items():
            if values:
                iou, boundary = means(values)
                point |= {f"iou_{part}": iou, f"boundary_{part}": boundary}
        memory.setdefault("points", []).append(point)
        if is_base:
            memory["base"] = pack(scores)
            memory["before"] = self._draw(is_base=True)
        else:
            self._keep_best(scores)
        if self.table is not None:
            row = [point.get(name) for name in _COLUMNS[:-1]]
            self.table.add([*row, f"{overall(scores):.5f}"])
        if self.board is not None:
            for name in point.keys() - {"step", "seconds"}:
                self.board.add_scalar(name.replace("_", "/"), point[name], run.step)
        self._say(f"Validated step {run.step}" if run.step else "Validated the base")
        self._report()
        text = ", ".join(f"{name} {value:.3g}" for name, value in point.items() if name != "step")
        log.info("step %d: %s", run.step, text)

    def _keep_best(self, scores: dict[int, ObjectScore]) -> None:
        """Remember what was validated, and write the weights if they are the best so far."""
        run, memory = self.run, self.run.memory
        # All that were tried: the best of many is lucky, which the verdict allows for.
        memory.setdefault("tried", []).append([one.value for one in scores.values()])
        if overall(scores) > overall(unpack(memory.get("best") or memory["base"])):
            memory["best"], run.best_step = pack(scores), run.step
            self._write(BEST, scores)
            self._draw(is_base=False)

    def _draw(self, *, is_base: bool) -> dict[str, str]:
        """Write the pictures of what was validated; return their files by the objects' places."""
        shown = self.scorers["validation"].shown
        return write_previews(self.folder, shown, is_base=is_base) if self._writes else {}

    def _report(self) -> None:
        if self._writes and "base" in self.run.memory:
            write_report(self.folder, self.control.content, _about(self.settings))

    def _write(self, name: str, scores: dict[int, ObjectScore] | None) -> None:
        """Write weights, with what they were trained on and how good they are.

        Weights on top of a public SAM leave that SAM out, unless its own decoder learnt too.
        """
        if not self._writes:
            return
        memory, run = self.run.memory, self.run
        summary: dict[str, Any] = {
            **self.origin,
            "steps": run.step,
            "minutes": round(run.elapsed / 60, 2),
            "training_objects": len(self.training),
            "validation_objects": len(self.validation),
        }
        if scores is not None:
            pairs = zip(means(unpack(memory["base"])), means(scores), strict=True)
            summary["validation"] = {
                n: {"base": round(a, 4), "result": round(b, 4)}
                for n, (a, b) in zip(("iou", "boundary_iou"), pairs, strict=True)
            }
        model = run.ema.model
        names = list(model.state_dict())
        only = [
            prefix
            for prefix in TRAINED_ON_A_BASE
            if self.base_sha256 is not None and any(name.startswith(prefix) for name in names)
        ]
        about = self.settings.model_dump(mode="json", exclude=PRIVATE, exclude_none=True)
        save_checkpoint(
            self.folder / name,
            model.state_dict(),
            # The frame of training is not the frame of use: the weights fit any.
            variant=replace(model.variant, frame=VARIANTS[self.config.variant].frame),
            licence=self.config.licence,
            training_summary=about | {"trains": self.config.trains} | summary,
            base_sha256=self.base_sha256,
            only=only,
        )

    # -- the end --------------------------------------------------------------------------------

    def _finish(self, status: Status) -> None:
        run = self.run
        if run.step:
            self._write(LAST, None)
        self._save()
        text = {
            "stopped": f"Stopped after step {run.step}.",
            "interrupted": f"Saved after step {run.step}; go on with Resume.",
        }.get(status, f"Finished after {run.step} steps.")
        if self.early:
            text = (
                f"Finished early, after {run.step} steps: {self.settings.patience} validations in "
                "a row were not better."
            )
        self._say(text, status=status)
        self._report()

    def _say(self, message: str, *, status: Status = "running", now: bool = True) -> None:
        """Tell how it stands."""
        run, config, memory = self.run, self.config, self.run.memory
        share = min(1.0, progress(config, run.step, run.elapsed))
        eta = None
        if config.minutes is not None:
            eta = max(0.0, 60 * config.minutes - run.elapsed)
        elif share > 0:
            eta = run.elapsed * (1 - share) / share
        content: dict[str, Any] = {
            "error": "",
            "step": run.step,
            "epoch": round(run.position / max(1, len(self.training)), 2),
            "elapsed": round(run.elapsed, 1),
            "eta": eta if status in ("running", "paused") else None,
            "progress": round(share, 4),
            "batch": config.batch,
            "best_step": run.best_step,
            "points": memory.get("points", []),
        }
        if "base" in memory:
            base = unpack(memory["base"])
            best = unpack(memory["best"]) if "best" in memory else None
            content["base_iou"], content["base_boundary"] = means(base)
            if best is not None:
                content["best_iou"], content["best_boundary"] = means(best)
            content |= self._judgement(status, base, best) | self._scores(base, best)
        self.control.say(status, message, now=now, **content)

    def _judgement(self, status: Status, base: Scores, best: Scores | None) -> dict[str, Any]:
        """Say whether it was worth it: a verdict at the end, else how it looks so far."""
        tried, step = self.run.memory.get("tried", []), self.run.step
        if self._judged is None or self._judged[0] != (len(tried), step):
            found = verdict(base, best, tried, self.origin["base"], step)
            self._judged = (len(tried), step), found
        is_better, final = self._judged[1]
        told = final if status in ("finished", "stopped") else so_far(base, best)
        return {"is_better": is_better, "verdict": told, "final_verdict": final}

    def _scores(self, base: Scores, best: Scores | None) -> dict[str, Any]:
        """List the objects with their scores before and after, and those with pictures."""
        objects: dict[str, dict[str, Any]] = {}
        for place, score in base.items():
            known, after = self.validation[place], None if best is None else best[place]
            objects[str(place)] = {
                "image": known.image,
                "label": known.label,
                "iou": [score.iou[0], None if after is None else after.iou[0]],
                "boundary": [score.boundary[0], None if after is None else after.boundary[0]],
            }
        previews = []
        for place, before in self.run.memory.get("before", {}).items():
            first, last = objects[place]["iou"]
            previews.append(
                {
                    "image": objects[place]["image"],
                    "label": objects[place]["label"],
                    "before": before,
                    "after": preview_name(int(place), is_base=best is None),
                    "iou_before": first,
                    "iou_after": first if last is None else last,
                    "step": self.run.best_step,
                }
            )
        return {"objects": list(objects.values()), "previews": previews}


def _tensorboard(folder: Path) -> Any:
    """Make what writes curves for TensorBoard; None where that is not installed."""
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
    except ImportError:
        return None


def _about(settings: FineTuneSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_none=True, exclude={"kind"})
