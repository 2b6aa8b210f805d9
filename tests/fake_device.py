"""A GPU that is not there: tensors without values on "cuda" or "mps", and what crosses to them."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_aten = torch.ops.aten
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


# Torch would ask a real device of its name for streams and contexts. To torch, tensors on it are
# therefore tensors of the CPU, without values; and where to make one is said by this name.
_THERE = torch.device("meta")


def _there(device: torch.device) -> torch.device:
    return device if device.type == "cpu" else _THERE


def _true_device(value: FakeTensor) -> torch.device:
    return torch.device("meta") if value.fake_mode.in_kernel_invocation else value.fake_device


class _Calls(TorchFunctionMode):
    """Tells calls to the GPU and from it; in what torch does inside they look alike."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cpu) and isinstance(args[0], FakeTensor):
            wanted = [*args[1:], *kwargs.values()]
            if func is Tensor.cpu or any(str(one) == "cpu" for one in wanted):
                types = [one for one in wanted if isinstance(one, torch.dtype)]
                return self._device.download(args[0], *types)
        args, kwargs = tree_map_only(torch.device, _there, (args, kwargs))
        return func(*args, **kwargs)


class FakeDevice(TorchDispatchMode):
    """Inside it, tensors on the device have all but values; those on the CPU are real ones.

    What mixes devices is refused, as is what waits for a value from the device: an item, a truth
    value, the places that are not zero.

    Parameters
    ----------
    kind : str
        "cuda" or "mps".

    Attributes
    ----------
    device : torch.device
    uploads, downloads : list of shapes
        What was copied to the device and from it. What comes from it is zeros.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.device = torch.device(kind, 0)
        self.uploads: list[tuple[int, ...]] = []
        self.downloads: list[tuple[int, ...]] = []
        self._stack = ExitStack()
        self._depth = 0

    def __enter__(self) -> FakeDevice:
        self._stack.enter_context(warnings.catch_warnings())
        # Autocast looks for the device itself and does not find it.
        warnings.filterwarnings("ignore", "User provided device_type of")

        self._stack.enter_context(
            mock.patch.object(FakeTensor, "device", property(self._device_of))
        )
        self._stack.enter_context(FakeTensorMode())
        super().__enter__()
        self._stack.push(super().__exit__)
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def _device_of(self, value: FakeTensor) -> torch.device:
        """What Python sees: the device's own name, but for what torch does inside."""
        return _true_device(value) if self._depth else self.device

    def take(self, module: nn.Module) -> None:
        """Put a module's parameters and buffers on the device, in place."""
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    part._parameters[name] = nn.Parameter(self.like(value), value.requires_grad)
            for name, value in part._buffers.items():
                if value is not None:
                    part._buffers[name] = self.like(value)

    def like(self, value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Make a tensor on the device like a real one."""
        place = torch.device("cpu") if self._depth else _THERE
        return torch.empty_strided(
            value.shape, value.stride(), dtype=dtype or value.dtype, device=place
        )

    def download(self, value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Copy a tensor from the device."""
        self.downloads.append(tuple(value.shape))
        return torch.zeros(value.shape, dtype=dtype or value.dtype)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return _true_device(args[0])
        if func.has_kernel_for_dispatch_key(_COMPOSITE):
            # Outside inference mode torch has taken it apart already.
            super().__enter__()
            try:
                return func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
        self._depth += 1
        try:
            return self._checked(self._run(func, args, kwargs))
        finally:
            self._depth -= 1

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given: list[Tensor] = []
        tree_map_only(Tensor, given.append, (args, kwargs))
        is_there = any(isinstance(value, FakeTensor) for value in given)
        to = kwargs.get("device")
        if not is_there and (to is None or to.type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if not is_there and func is _aten._to_copy.default:
            self.uploads.append(tuple(args[0].shape))
            return self.like(args[0], kwargs.get("dtype"))
        if to is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        # A number in a tensor of no dimensions may be given to any device.
        is_number = lambda one: not isinstance(one, FakeTensor) and not one.ndim  # noqa: E731
        args, kwargs = tree_map_only(
            Tensor, lambda one: self.like(one) if is_number(one) else one, (args, kwargs)
        )
        return func(*args, **kwargs)

    def _checked(self, result: Any) -> Any:
        def check(value: Tensor) -> Tensor:
            if self.device.type == "mps" and value.dtype == torch.float64:
                raise TypeError("MPS has no float64.")
            return value

        return tree_map_only(Tensor, check, result)
