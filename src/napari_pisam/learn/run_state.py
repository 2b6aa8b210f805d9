"""Where a run stands, in memory and on the disk."""

from __future__ import annotations

import copy
import csv
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_pisam.model.pisam import PiSam

LAST, BEST = "last.pt", "best.safetensors"


class Ema:
    """Averaged copy of a model; what does not train is shared with it.

    Young averages follow the weights faster.
    """

    def __init__(self, model: PiSam, decay: float) -> None:
        still = [p for p in model.parameters() if not p.requires_grad]
        memo: dict[int, Any] = {id(value): value for value in still}
        self.model = copy.deepcopy(model, memo).eval().requires_grad_(False)
        self.decay = decay
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        self._names = [name for name in model.state_dict() if name not in frozen]

    @torch.no_grad()
    def update(self, model: PiSam, step: int) -> None:
        """Move towards the weights after the step of this number."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, new = self.model.state_dict(), model.state_dict()
        for name in self._names:
            if averaged[name].is_floating_point():
                averaged[name].lerp_(new[name], 1 - decay)
            else:
                averaged[name].copy_(new[name])


@dataclass
class Run:
    """All that a run changes.

    Attributes
    ----------
    model, ema, optimizer
        What trains, its average, and the optimizer.
    step
        Steps done.
    position
        Samples of the stream that were seen, by all processes together.
    elapsed
        Seconds of training so far, interruptions left out.
    best_step
        Steps that led to the best weights; 0 where none were better than the start.
    batch
        Objects a step, of each process; fewer than wanted after the memory did not suffice.
    memory
        What was validated, as JSON would hold it.
    has_base
        Whether the checkpoint may leave out what is frozen, because the base has it.
    """

    model: PiSam
    ema: Ema
    optimizer: torch.optim.Optimizer
    step: int = 0
    position: int = 0
    elapsed: float = 0.0
    best_step: int = 0
    batch: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    has_base: bool = False

    def save(self, output: Path) -> None:
        """Write ``last.pt``, whole or not at all."""
        trained = [name for name, p in self.model.named_parameters() if p.requires_grad]
        names = trained if self.has_base else list(self.model.state_dict())
        own, averaged = self.model.state_dict(), self.ema.model.state_dict()
        state = {
            "model": {name: own[name] for name in names},
            "ema": {name: averaged[name] for name in names},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "position": self.position,
            "elapsed": self.elapsed,
            "best_step": self.best_step,
            "batch": self.batch,
            "memory": self.memory,
        }
        save_whole(output / LAST, state)

    def restore(self, output: Path) -> None:
        """Read ``last.pt``.

        Raises
        ------
        ValueError
            If it is of another network, or damaged.
        """
        path = output / LAST
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            for model, part in ((self.model, "model"), (self.ema.model, "ema")):
                _load_trained(model, state[part], self.model)
            self.optimizer.load_state_dict(state["optimizer"])
            numbers = int(state["step"]), int(state["position"]), float(state["elapsed"])
            self.step, self.position, self.elapsed = numbers
            self.best_step = int(state.get("best_step", 0))
            self.batch = int(state.get("batch", self.batch))
            self.memory = dict(state.get("memory", {}))
        except UNREADABLE as error:
            first = str(error).partition("\n")[0]
            raise ValueError(
                f"{path} does not fit this run ({first}). It is damaged, or the base has changed "
                "since; start a new run."
            ) from error


UNREADABLE = (
    RuntimeError,
    LookupError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    OSError,
    pickle.UnpicklingError,
)
"""What reading a checkpoint that is damaged, or of something else, may raise."""


def _load_trained(model: PiSam, values: dict[str, torch.Tensor], trained: PiSam) -> None:
    """Load what trains; a checkpoint need not hold what does not, nor statistics."""
    unknown = model.load_state_dict(values, strict=False).unexpected_keys
    lacking = [n for n, p in trained.named_parameters() if p.requires_grad and n not in values]
    if unknown or lacking:
        raise ValueError(f"it has {unknown[:1]} too many and lacks {lacking[:1]}")


def save_whole(path: Path, state: dict[str, Any]) -> None:
    """Save beside the final name first, so that nobody ever finds half a file."""
    with replacing(path) as part, part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


class StepLog:
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
