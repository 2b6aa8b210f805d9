"""The work of a fine-tuning: validate the base, train, validate, keep what is best."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.learn.batches import training_batches
from napari_pisam.learn.dataset import TrainingSamples
from napari_pisam.learn.encoding import FrozenEncoder, affordable_views
from napari_pisam.learn.engine import build_fabric, progress, train_one_epoch
from napari_pisam.learn.finetune.control import Left
from napari_pisam.learn.finetune.layout import BEST, CHECKPOINT, LAST
from napari_pisam.learn.finetune.material import read_objects, training_items
from napari_pisam.learn.finetune.memory import halved, is_out_of_memory
from napari_pisam.learn.finetune.pictures import write_previews, write_report
from napari_pisam.learn.finetune.scoring import (
    ObjectScore,
    Scorer,
    check_finite,
    means,
    overall,
    pack,
    unpack,
)
from napari_pisam.learn.finetune.tensorboard import Board
from napari_pisam.learn.finetune.tuning import (
    TuningEma,
    TuningRun,
    largest_frame,
    narrow,
    origin,
    resolve,
    write_weights,
)
from napari_pisam.learn.finetune.verdict import verdict
from napari_pisam.learn.objective import Objective
from napari_pisam.learn.run_state import Table
from napari_pisam.learn.starting import keep_ordinary, starting_model
from napari_pisam.predict.device import select_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_pisam.learn.finetune.control import Control
    from napari_pisam.learn.finetune.material import TuneObject
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.learn.finetune.state import Status

log = logging.getLogger(__name__)

MOST_DRAWN = 8
"""Training objects that the curves of training are of."""
SHOWN = 6
"""Validation objects with pictures."""

_COLUMNS = (
    "step",
    "seconds",
    "iou_training",
    "iou_validation",
    "boundary_training",
    "boundary_validation",
    "value",
)


class Trainer:
    """One fine-tuning in one process.

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

    def __init__(self, folder: Path, settings: FineTuneSettings, control: Control) -> None:
        self.folder, self.settings, self.control = folder, settings, control
        select_device(settings.device)  # refuses what this machine does not have
        objects = read_objects(folder)
        self.training = [o for o in objects if o.part == "training"]
        self.validation = [o for o in objects if o.part == "validation"]
        config = resolve(settings, folder, self.training)
        self.model, self.base_sha256 = starting_model(config)
        keep_ordinary(self.model)
        narrow(self.model, settings)
        self.origin = origin(settings.base)
        self.frozen: FrozenEncoder | None = None
        scored = min(MOST_DRAWN, len(self.training)) + len(self.validation)
        if config.frozen != "nothing":
            cache = int(config.cache_gb * 1e9)
            if config.views:
                fit = affordable_views(self.model.variant, config.views + scored, cache) - scored
                config = config.model_copy(update={"views": max(1, fit)})
            kept = folder / "cache" if config.views else None
            self.frozen = FrozenEncoder(self.model, kept, cache)
        self.config = config
        self.fabric = build_fabric(config)
        ema = TuningEma(self.model, config.ema)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0)
        self.objective, _ = self.fabric.setup(Objective(self.model, config, self.frozen), optimizer)
        self.fabric.to_device(ema.model)
        self.run = TuningRun(self.model, ema, optimizer, batch=config.batch)
        if (folder / CHECKPOINT).is_file():
            self.run.restore(folder, config.batch)
            self.config = config.model_copy(update={"batch": self.run.batch})
        self.samples = TrainingSamples(
            training_items(objects), size=config.frame, seed=config.seed, weights=config.mixture
        )
        self.scorers = {
            "training": self._scorer(self.training[:MOST_DRAWN], 0),
            "validation": self._scorer(self.validation, SHOWN),
        }
        if not len(self.scorers["validation"]):
            raise ValueError(
                "The objects that validate are so thin or small that nothing of them is left when "
                "they are shown to the network. Choose other ones, or a larger picture side."
            )

    def _scorer(self, objects: Sequence[TuneObject], shown: int) -> Scorer:
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
        run, memory, control = self.run, self.run.memory, self.control
        self.table = Table(self.folder / "validation.csv", run.step, _COLUMNS)
        status: Status | None = None
        with Board(self.folder) as self.board:
            while status is None:
                try:
                    if "base" not in memory:
                        self._say("Validating the base")
                        self._validate()
                    elif run.step > memory["points"][-1]["step"] and self._is_over():
                        self._validate()  # what an order interrupted
                    status = self._train()
                except Left:
                    pass
                if control.command:
                    status = self._pause_or_leave()
            self._finish(status)
        return status

    def _train(self) -> Status | None:
        """Train and validate until the end or an order; None for an order."""
        run, batches = self.run, self._batches()
        while not self._is_over():
            first, started = run.step, time.monotonic()
            try:
                left = train_one_epoch(
                    self.fabric, self.objective, run, batches, self.config, self._between_steps
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                run.optimizer.zero_grad(set_to_none=True)
                self.config = halved(self.config)
                run.batch = self.config.batch
                log.warning("out of memory: %d object(s) a step from now on", run.batch)
                batches = self._batches()
                continue
            seconds = time.monotonic() - started
            if run.step > first:
                speed = (run.step - first) * self.config.batch / seconds
                self.control.content["samples_per_second"] = round(speed, 3)
            if left:
                return None
            self._validate()
            run.save(self.folder)
            if self._is_hopeless():
                return "finished"
        return "finished"

    def _is_over(self) -> bool:
        return progress(self.config, self.run.step, self.run.elapsed) >= 1

    def _batches(self) -> Iterator[dict[str, Any]]:
        return iter(training_batches(self.samples, self.config, self.run.position, 0, 1))

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
        run.save(self.folder)
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
        Left
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
        found = {
            part: scorer.score(run.ema.model, self.control.check)
            for part, scorer in self.scorers.items()
        }
        run.elapsed += time.monotonic() - started
        scores = found["validation"]
        point: dict[str, Any] = {"step": run.step, "seconds": round(run.elapsed, 1)}
        for part, values in found.items():
            if values:
                iou, boundary = means(values)
                point |= {f"iou_{part}": iou, f"boundary_{part}": boundary}
        memory.setdefault("points", []).append(point)
        if is_base:
            memory["base"] = pack(scores)
            self._draw(scores, is_base=True)
        else:
            # All that were tried: the best of many is lucky, which the verdict allows for.
            memory.setdefault("tried", []).append([one.value for one in scores.values()])
            if overall(scores) > overall(unpack(memory.get("best") or memory["base"])):
                memory["best"], run.best_step = pack(scores), run.step
                self._write(BEST, scores)
                self._draw(scores, is_base=False)
        best = unpack(memory["best"]) if "best" in memory else None
        memory["verdict"] = list(
            verdict(unpack(memory["base"]), best, memory.get("tried", []), self.settings.base)
        )
        row = [point.get(name) for name in _COLUMNS[:-1]]
        self.table.add([*row, f"{overall(scores):.5f}"])
        self.board.add(run.step, point)
        self._say(f"Validated step {run.step}" if run.step else "Validated the base")
        write_report(self.folder, self.control.content, _about(self.settings))
        log.info("step %d: %s", run.step, point)

    def _draw(self, scores: dict[int, ObjectScore], *, is_base: bool) -> None:
        """Write the pictures of the base or of the best weights, and what is said of them."""
        memory = self.run.memory
        shown = self.scorers["validation"].shown
        files = write_previews(self.folder, shown, is_base=is_base)
        base = unpack(memory["base"])
        previews = []
        if is_base:
            memory["before"] = {str(place): name for place, name in files.items()}
        for place, name in files.items():
            known = self.validation[place]
            before, after = base[place].iou[0], scores[place].iou[0]
            previews.append(
                {
                    "image": known.image,
                    "label": known.label,
                    "before": memory["before"].get(str(place), name),
                    "after": name,
                    "iou_before": before,
                    "iou_after": after,
                    "step": self.run.step,
                }
            )
        memory["previews"] = previews

    def _write(self, name: str, scores: dict[int, ObjectScore] | None) -> None:
        """Write weights, with what they were trained on and how good they are."""
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
            names = ("iou", "boundary_iou")
            summary["validation"] = {
                n: {"base": round(a, 4), "result": round(b, 4)}
                for n, (a, b) in zip(names, pairs, strict=True)
            }
        write_weights(
            self.folder / name, run, self.config, self.settings, self.base_sha256, summary
        )

    # -- the end --------------------------------------------------------------------------------

    early = False

    def _finish(self, status: Status) -> None:
        run = self.run
        if run.step:
            self._write(LAST, None)
        run.save(self.folder)
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
        if "base" in run.memory:
            write_report(self.folder, self.control.content, _about(self.settings))

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
            "previews": memory.get("previews", []),
        }
        if "base" in memory:
            base, best = unpack(memory["base"]), memory.get("best")
            content["base_iou"], content["base_boundary"] = means(base)
            if best is not None:
                content["best_iou"], content["best_boundary"] = means(unpack(best))
            content["is_better"], content["verdict"] = memory["verdict"]
            content["objects"] = self._objects(base, None if best is None else unpack(best))
        self.control.say(status, message, now=now, **content)

    def _objects(
        self, base: dict[int, ObjectScore], best: dict[int, ObjectScore] | None
    ) -> list[dict[str, Any]]:
        rows = []
        for place, score in base.items():
            known = self.validation[place]
            after = None if best is None else best[place]
            rows.append(
                {
                    "image": known.image,
                    "label": known.label,
                    "iou": [score.iou[0], None if after is None else after.iou[0]],
                    "boundary": [score.boundary[0], None if after is None else after.boundary[0]],
                }
            )
        return rows


def _about(settings: FineTuneSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_none=True, exclude={"kind"})
