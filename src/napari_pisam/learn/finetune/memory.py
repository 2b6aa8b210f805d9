"""When there is not enough memory: how that shows, and what to do about it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from napari_pisam.system import peak_memory

if TYPE_CHECKING:
    from napari_pisam.learn.config import TrainConfig


class OutOfMemory(RuntimeError):
    """Even one object a step does not fit; the message says what to do."""


def halved(config: TrainConfig) -> TrainConfig:
    """Return the settings with half as many objects a step, and free what is not used.

    Raises
    ------
    OutOfMemory
        If it is one already.
    """
    if config.batch == 1:
        raise OutOfMemory(
            "Not enough memory for a single object a step. Close other programs, let less learn, "
            "or choose a smaller base or picture side."
        )
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # Epochs were counted in steps of the batch so far; more steps than needed only end later.
    return config.model_copy(update={"batch": config.batch // 2})


def peak_bytes(device: torch.device) -> int | None:
    """Most memory that this process ever had, of its graphics card if it uses one."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return peak_memory()


def free_device_bytes(device: torch.device) -> int | None:
    """Return what the graphics card has left; None without one."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return None
