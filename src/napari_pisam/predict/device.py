"""Where to compute and how exactly."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_T = TypeVar("_T")

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]

# Only CUDA has an error of its own for it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(name: str | torch.device = "auto") -> torch.device:
    """Choose a device.

    Parameters
    ----------
    name : str or torch.device
        ``"auto"`` (CUDA, then MPS, then CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Raises
    ------
    ValueError
        If the name is unknown or this machine has no such device.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    match = re.fullmatch(r"(cpu|mps|cuda)(?::(\d+))?", name)
    if match is None:
        raise ValueError(
            f'The device is {name!r}, expected "auto", "cpu", "cuda", "cuda:N" or "mps".'
        )
    kind, index = match[1], int(match[2] or 0)
    available = {"cpu": 1, "mps": int(has_mps), "cuda": torch.cuda.device_count()}[kind]
    if index >= available:
        raise ValueError(
            f"The device is {name!r}, and this machine has {available} {kind} device(s) that torch "
            'can use. Pass device="auto", or install a torch build for that device.'
        )
    return torch.device(name)


def _has_hardware_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # Private, and absent in some builds: without an answer, fp32 is right everywhere.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)


def select_precision(device: torch.device, name: Precision | str = "auto") -> torch.dtype:
    """Choose the type that the image encoder computes in; the rest is float32 always.

    Parameters
    ----------
    device : torch.device
        From `select_device`.
    name : {"auto", "fp32", "bf16", "fp16"}
        ``"auto"``: bf16 where the hardware computes it, else fp32. MPS is always fp32.

    Raises
    ------
    ValueError
        If the name is unknown, or fp16 is asked for on a CPU.
    """
    if name not in (*_DTYPES, "auto"):
        raise ValueError(f"The precision is {name!r}, expected one of auto, {', '.join(_DTYPES)}.")
    if device.type == "mps":
        return torch.float32
    if name == "auto":
        return torch.bfloat16 if _has_hardware_bf16(device) else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise ValueError('The precision is "fp16" on a CPU, expected "fp32", "bf16" or "auto".')
    return _DTYPES[name]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, of whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Release what the allocator holds without need."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class DeviceRunner:
    """Runs the steps of a network on a device, and on the CPU once that device is full.

    Parameters
    ----------
    model : torch.nn.Module
        Moved to the device.
    device : torch.device
        Where to compute.
    dtype : torch.dtype
        What `autocast` computes in.

    Attributes
    ----------
    on_move : list of callables
        Called with the CPU when the runner changes to it, to move what is kept elsewhere.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self.device = device
        self.dtype = dtype
        self.on_move: list[Callable[[torch.device], None]] = []
        self.run(self._move_model)

    def _move_model(self) -> None:
        # Moved in inference mode, weights would lose what tells that they changed: all that is kept
        # of them (see `WeightsCache`) would be made anew, and waited for, at every prompt.
        with torch.inference_mode(False):
            self._model.to(self.device)

    def tensor(self, values: NDArray[Any]) -> torch.Tensor:
        """Copy an array to the device: floats as float32, anything else as int64."""
        dtype = np.float32 if values.dtype.kind == "f" else np.int64
        return torch.from_numpy(values.astype(dtype)).to(self.device)

    def autocast(self) -> torch.autocast:
        """Return a context that computes in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def run(self, step: Callable[[], _T]) -> _T:
        """Run a step without gradients; when the device is out of memory, once more on the CPU.

        The step has to put its inputs on `device` itself, as that may have changed.

        Warns
        -----
        RuntimeWarning
            When the runner changes to the CPU, where it stays.
        """
        try:
            with torch.inference_mode():
                return step()
        except RuntimeError as error:
            # A CPU that is full has no other place to go to.
            on_cpu = self.device.type == "cpu"
            retry = isinstance(error, torch.OutOfMemoryError) if on_cpu else is_out_of_memory(error)
            if not retry:
                raise
        # Outside of the handler, whose traceback holds on to the step's tensors.
        full, self.device = self.device, torch.device("cpu")
        self.dtype = select_precision(self.device)
        self._move_model()
        for move in self.on_move:
            move(self.device)
        free_memory(full)
        warnings.warn(
            f"The memory of {full} is full: this predictor goes on with the CPU, slower but with "
            "the same image and prompts. Close other programs that use the device, or choose a "
            "smaller model, and make a new Predictor to use it again.",
            RuntimeWarning,
            stacklevel=4,
        )
        with torch.inference_mode():
            return step()
