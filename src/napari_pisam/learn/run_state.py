"""Where a run stands, in memory and on the disk."""

from __future__ import annotations

import copy
import csv
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_pisam.images.files import replacing
from napari_pisam.learn.encoding import TRAINED_ON_A_BASE
from napari_pisam.weights.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.model.pisam import PiSam

Scores = dict[str, dict[int, float]]
"""Mean IoU by source and number of clicks."""

PRIVATE = {"data", "images", "masks", "output", "initial", "base", "workers"}
"""Settings that tell of one machine, and are no part of published weights."""

LAST, BEST = "last.pt", "best.safetensors"


def overall(scores: Scores) -> float:
    """Mean over sources and numbers of clicks, each source counting the same."""
    return float(np.mean([list(source.values()) for source in scores.values()]))


class Ema:
    """Averaged copy of a model; young averages follow the weights faster."""

    def __init__(self, model: PiSam, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: PiSam, step: int) -> None:
        """Move towards the weights after the step of this number."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for own, new in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)


@dataclass
class Run:
    """All that a run changes.

    Attributes
    ----------
    model, ema, optimizer
        What trains, its average, and AdamW.
    step
        Steps done.
    position
        Samples of the stream that were seen, by all processes together.
    elapsed
        Seconds of training so far, interruptions left out.
    base
        Scores of the base before the first step, where the run has one.
    best
        Scores of the weights in ``best.safetensors``, or of the base as long as none is better.
    scores
        The last ones.
    """

    model: PiSam
    ema: Ema
    optimizer: torch.optim.Optimizer
    step: int = 0
    position: int = 0
    elapsed: float = 0.0
    base: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    best_step: int = 0
    scores: Scores = field(default_factory=dict)

    def save(self, output: Path) -> None:
        """Write ``last.pt``, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "position": self.position,
            "elapsed": self.elapsed,
            "base": self.base,
            "best": self.best,
            "best_step": self.best_step,
            "scores": self.scores,
        }
        save_whole(output / LAST, state)

    def restore(self, output: Path, samples_a_step: int) -> None:
        """Read ``last.pt``.

        Raises
        ------
        ValueError
            If it is of another network, or damaged.
        """
        path = output / LAST
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            self.model.load_state_dict(state["model"])
            self.ema.model.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, EOFError, ValueError) as error:
            raise ValueError(
                f"{path} does not fit this run ({error}). Train into another folder, or give the "
                "settings that it was made with."
            ) from error
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.position = state.get("position", self.step * samples_a_step)
        self.base, self.best = state.get("base", {}), state.get("best", {})
        self.best_step, self.scores = state.get("best_step", 0), state.get("scores", {})

    def keep_best(self, config: TrainConfig, scores: Scores, base_sha256: str | None) -> None:
        """Write ``best.safetensors`` if the averaged weights score better than any before."""
        self.scores = scores
        if self.best and overall(scores) <= overall(self.best):
            return
        self.best, self.best_step = scores, self.step
        done = {"steps": self.step, "minutes": round(self.elapsed / 60, 1), "scores": scores}
        summary = config.model_dump(mode="json", exclude=PRIVATE) | done
        names = list(self.model.state_dict())
        only = [
            prefix
            for prefix in TRAINED_ON_A_BASE
            if base_sha256 is not None and any(name.startswith(prefix) for name in names)
        ]
        save_checkpoint(
            config.output / BEST,
            self.ema.model,
            licence=config.licence,
            training_summary=summary,
            base_sha256=base_sha256,
            only=only,
        )


def save_whole(path: Path, state: dict[str, Any]) -> None:
    """Save beside the final name first, so that nobody ever finds half a file."""
    with replacing(path) as part, part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


class Table:
    """A CSV file that grows by rows whose first value is the step.

    Parameters
    ----------
    path
        The file; rows after `step`, of a run that was interrupted after its last checkpoint, are
        removed.
    step
        Steps done.
    columns
        Names, for the first line of a new file; none for a file without one.
    """

    def __init__(self, path: Path, step: int, columns: Sequence[str] = ()) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if not _is_after(line, step)] if step else []
        if not kept and columns:
            kept = [",".join(columns) + "\n"]
        with replacing(path) as part:
            part.write_text("".join(kept), encoding="utf-8")

    def add(self, row: Sequence[Any]) -> None:
        """Add a row."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


def _is_after(line: str, step: int) -> bool:
    first = line.partition(",")[0]
    return first.isdigit() and int(first) > step


def validation_row(run: Run, scores: Scores) -> list[Any]:
    """Step, seconds, mean IoU for each number of clicks, and everything as JSON."""
    means = np.mean([list(score.values()) for score in scores.values()], axis=0).tolist()
    return [run.step, round(run.elapsed), *(round(mean, 4) for mean in means), json.dumps(scores)]
