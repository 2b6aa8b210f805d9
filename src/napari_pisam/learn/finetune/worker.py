"""From a run's folder to its end, whatever that is; every end is written down."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.learn.batches import to_batch
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
from napari_pisam.learn.finetune.memory import (
    OutOfMemory,
    free_device_bytes,
    halved,
    peak_bytes,
)
from napari_pisam.learn.finetune.process import DISK_FULL, REFUSED
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.trainer import Trainer, trainer_of
from napari_pisam.learn.stopping import StopRequest
from napari_pisam.predict.device import is_out_of_memory
from napari_pisam.system import lower_priority

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_NICE = 10


def train_folder(folder: Path, *, is_child: bool) -> tuple[int, dict[str, Any]]:
    """Train, or go on training, the run of a folder.

    Parameters
    ----------
    folder : Path
    is_child : bool
        Standard input brings orders, and its end one to save and end; otherwise signals do.

    Returns
    -------
    int
        Exit code; 0 for every end that was asked for or is due.
    dict
        The state at the end, as it is on the disk.
    """
    lock = RunLock(folder)
    if not lock.acquire():
        return REFUSED, {"error": taken(folder)}
    try:
        return train_locked(folder, is_child=is_child)
    finally:
        lock.release()


def train_locked(folder: Path, *, is_child: bool) -> tuple[int, dict[str, Any]]:
    """Do what `train_folder` does, for one who has the run's `RunLock`.

    Under ``torchrun`` the first process has it, for all of them; it alone writes.
    """
    control = Control(folder, _known(folder), writes=is_first_process())
    if control.writes:
        _remove_parts(folder)
    code = 0
    with ExitStack() as stack:
        stack.callback(control.end)
        stack.enter_context(training_arithmetic())
        try:
            if is_child:
                control.listen()
            else:
                _follow_signals(stack, control)
            settings = FineTuneSettings.from_toml(folder / SETTINGS)
            with trainer_of(folder, settings, control) as trainer:
                trainer.work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user must be told
            code = _fail(control, folder, error)
    return code, control.content


def is_first_process() -> bool:
    """Whether this process is the only one, or the one of several that writes."""
    return os.environ.get("RANK", "0") == "0"


def _remove_parts(folder: Path) -> None:
    """Remove what a killed process was writing; the whole files are beside it."""
    for path in (*folder.glob("*.part"), *folder.glob(".*.part")):
        with contextlib.suppress(OSError):
            path.unlink()


def _known(folder: Path) -> dict[str, Any]:
    known = read_json(folder / STATE) or {}
    if not (folder / CHECKPOINT).is_file():
        # Nothing to go on with: what an earlier try said is void.
        return {}
    return known


def _follow_signals(stack: ExitStack, control: Control) -> None:
    """Let Ctrl-C and termination save and end."""
    request = stack.enter_context(StopRequest())

    def follow() -> None:
        while not control.ended:
            if request():
                control.ask("leave")
                return
            time.sleep(0.1)

    threading.Thread(target=follow, name="signals", daemon=True).start()


def _fail(control: Control, folder: Path, error: Exception) -> int:
    """Write down what went wrong, in a sentence where that is known."""
    code = 1
    if is_disk_full(error):
        text, code = disk_full(folder), DISK_FULL
    elif is_out_of_memory(error) and not isinstance(error, OutOfMemory):
        text = "Not enough memory. Close other programs, let less learn, or choose a smaller base."
    elif isinstance(error, (ValueError, FloatingPointError, OutOfMemory)):
        text = str(error)
    elif isinstance(error, OSError):
        log.exception("a file or a device failed")
        reason = error.strerror or str(error) or type(error).__name__
        text = f"A file of the run in {folder} cannot be read or written ({reason})."
    else:
        log.exception("unforeseen")
        first = str(error).partition("\n")[0]
        text = (
            f"Training stopped because of an error that was not foreseen ({type(error).__name__}: "
            f"{first}). The details are in the program's log; all until the last save is kept."
        )
    with contextlib.suppress(OSError):
        control.say("failed", FAILED, error=text, eta=None)
    control.content["error"] = text
    return code


def make_room() -> None:
    """Let other programs go first, and have a core.

    The last core brings a step next to nothing, and the window that a user looks at much.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    lower_priority(_NICE)


# -- the check before ---------------------------------------------------------------------------


def probe_folder(folder: Path) -> int:
    """Take one step and score one object of a run, and write down what they cost."""
    content: dict[str, Any]
    try:
        content = _measure(folder)
    except Exception as error:
        text = str(error)
        if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
            text = "Not enough memory to load the base. Choose a smaller one."
        elif not isinstance(error, (ValueError, OutOfMemory)):
            log.exception("the check failed")
            first = text.partition("\n")[0]
            text = f"One step of training cannot be taken ({type(error).__name__}: {first})."
        content = {"error": text}
    write_json(folder / PROBE, content)
    return 0


def _measure(folder: Path) -> dict[str, Any]:
    settings = FineTuneSettings.from_toml(folder / SETTINGS)
    torch.set_flush_denormal(True)
    with trainer_of(folder, settings, Control(folder, {})) as trainer:
        return _costs(trainer)


def _costs(trainer: Trainer) -> dict[str, Any]:
    config, times = trainer.config, list[float]()
    trainer.objective.train()
    while len(times) < 2:
        batch = to_batch([trainer.samples.sample(i) for i in range(config.batch)])
        started = time.monotonic()
        try:
            loss = trainer.objective(trainer.fabric.to_device(batch), len(times))
            trainer.run.optimizer.zero_grad(set_to_none=True)
            trainer.fabric.backward(loss)
            trainer.run.optimizer.step()
            loss.item()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            config, times = halved(config), []
            continue
        times.append(time.monotonic() - started)
    scorer = trainer.scorers["validation"]
    started = time.monotonic()
    scorer.score(trainer.model.eval())
    per_object = (time.monotonic() - started) / len(scorer)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in trainer.model.parameters())
    stored = trained if trainer.base_sha256 is not None else whole
    disk = 4 * (2 * stored + 2 * 4 * trained)
    if config.views:
        disk += int(config.cache_gb * 1e9)
    device = trainer.model.device
    return {
        "seconds_per_step": times[-1],
        "seconds_per_validation": per_object,
        "batch": config.batch,
        "batch_wanted": trainer.config.batch,
        "memory_bytes": peak_bytes(device),
        "disk_bytes": disk,
    } | ({} if device.type != "cuda" else {"memory_free_bytes": free_device_bytes(device)})
