"""From a run's folder to its end, whatever that is; every end is written down."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.learn.engine import training_arithmetic
from napari_pisam.learn.finetune.control import Control
from napari_pisam.learn.finetune.layout import (
    CHECKPOINT,
    FAILED,
    PROBE,
    SETTINGS,
    STATE,
    disk_full,
    is_disk_full,
    read_json,
    write_json,
)
from napari_pisam.learn.finetune.lock import RunLock, taken
from napari_pisam.learn.finetune.process import DISK_FULL, REFUSED
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.trainer import OutOfMemory, Trainer, trainer_of
from napari_pisam.learn.stopping import stop_request
from napari_pisam.predict.device import is_out_of_memory
from napari_pisam.system import peak_memory

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def train_folder(
    folder: Path, *, is_child: bool, lock: RunLock | None = None
) -> tuple[int, dict[str, Any]]:
    """Train, or go on training, the run of a folder.

    Under ``torchrun`` the first process has the run's lock, for all of them; it alone writes.

    Parameters
    ----------
    folder : Path
    is_child : bool
        Standard input brings orders, and its end one to save and end; otherwise signals do.
    lock : RunLock, optional
        The run's, where the caller has it.

    Returns
    -------
    int
        Exit code; 0 for every end that was asked for or is due.
    dict
        The state at the end, as it is on the disk.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    lock = lock or RunLock(folder)
    if is_first and not lock.acquire():
        return REFUSED, {"error": taken(folder)}
    code = 0
    with ExitStack() as stack:
        stack.callback(lock.release)
        stack.enter_context(training_arithmetic())
        stop = None if is_child else stack.enter_context(stop_request())
        # Without anything to go on with, what an earlier try said is void.
        known = read_json(folder / STATE) if (folder / CHECKPOINT).is_file() else None
        control = Control(folder, known or {}, writes=is_first, stop=stop)
        try:
            if is_first:
                _remove_parts(folder)
            if is_child:
                control.listen()
            settings = FineTuneSettings.from_toml(folder / SETTINGS)
            with trainer_of(folder, settings, control) as trainer:
                trainer.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user must be told
            text, code = _explained(error, folder)
            with contextlib.suppress(OSError):
                control.say("failed", FAILED, error=text, eta=None)
    return code, control.content


def _remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing; the whole files are beside it."""
    for path in (*folder.glob("*.part"), *folder.glob(".*.part")):
        with contextlib.suppress(OSError):
            path.unlink()


def _explained(error: Exception, folder: Path) -> tuple[str, int]:
    """Say what went wrong, in a sentence where that is known, and the exit code."""
    if is_disk_full(error):
        return disk_full(folder), DISK_FULL
    if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
        return (
            "Not enough memory. Close other programs, let less learn, or choose a smaller base."
        ), 1
    if isinstance(error, (ValueError, FloatingPointError, OutOfMemory)):
        return str(error), 1
    if isinstance(error, OSError):
        log.exception("a file or a device failed")
        reason = error.strerror or str(error) or type(error).__name__
        return f"A file of the run in {folder} cannot be read or written ({reason}).", 1
    log.exception("unforeseen")
    first = str(error).partition("\n")[0]
    return (
        f"Training stopped because of an error that was not foreseen ({type(error).__name__}: "
        f"{first}). The details are in the program's log; all until the last save is kept."
    ), 1


# -- the check before ---------------------------------------------------------------------------


def probe_folder(folder: Path) -> int:
    """Take two steps and score the objects of a run, and write down what they cost."""
    content: dict[str, Any]
    try:
        settings = FineTuneSettings.from_toml(folder / SETTINGS)
        with training_arithmetic(), trainer_of(folder, settings, Control(folder, {})) as trainer:
            content = _costs(trainer)
    except Exception as error:  # noqa: BLE001 - as above
        content = {"error": _explained(error, folder)[0]}
    write_json(folder / PROBE, content)
    return 0


def _costs(trainer: Trainer) -> dict[str, Any]:
    wanted = trainer.config.batch
    for steps in (1, 2):  # the first one is slower
        trainer.config = trainer.config.model_copy(update={"steps": steps, "minutes": None})
        started = time.monotonic()
        trainer.train_until_validation()
        seconds = time.monotonic() - started
    config, model, scorer = trainer.config, trainer.model, trainer.scorers["validation"]
    started = time.monotonic()
    scorer.score(model.eval())
    per_object = (time.monotonic() - started) / len(scorer)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in model.parameters())
    stored = trained if trainer.base_sha256 is not None else whole
    disk = 4 * (2 * stored + 2 * 4 * trained)
    if config.views:
        disk += int(config.cache_gb * 1e9)
    costs = {
        "seconds_per_step": seconds,
        "seconds_per_validation": per_object,
        "batch": config.batch,
        "batch_wanted": wanted,
        "memory_bytes": peak_memory(),
        "disk_bytes": disk,
    }
    if model.device.type == "cuda":
        costs["memory_bytes"] = int(torch.cuda.max_memory_reserved(model.device))
        costs["memory_free_bytes"] = int(torch.cuda.mem_get_info(model.device)[0])
    return costs
