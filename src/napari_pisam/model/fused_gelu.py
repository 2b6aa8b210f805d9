"""A layer and the GELU after it as one step, where torch's build for this processor has it.

On a CPU a GELU of its own reads and writes the widest maps of a network once more, and takes longer
than the convolution before it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

_TYPES = (torch.float32, torch.bfloat16)


def _can_fuse(x: Tensor, weight: Tensor) -> bool:
    """Whether the operators apply: they know neither gradients nor autocast, nor other devices."""
    casts = torch.is_autocast_enabled("cpu")
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and weight.dtype in _TYPES
        and weight.dtype == (torch.get_autocast_dtype("cpu") if casts else x.dtype)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def conv_gelu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute ``gelu(conv(x))``; the same up to rounding."""
    if not _can_fuse(x, conv.weight) or isinstance(conv.padding, str):
        return F.gelu(conv(x))
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x.to(conv.weight.dtype),
        conv.weight,
        conv.bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        "gelu",
        [],
        "none",
    )
    return fused


def linear_gelu(linear: nn.Linear, x: Tensor) -> Tensor:
    """Compute ``gelu(linear(x))``; the same up to rounding."""
    if not _can_fuse(x, linear.weight):
        return F.gelu(linear(x))
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(
        x.to(linear.weight.dtype), linear.weight, linear.bias, "gelu", [], "none"
    )
    return fused


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """Return how many operations the fused steps take, for torch's counter, which knows neither."""

    def steps(_x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
        return 2 * prod(out_shape) * prod(weight[1:])

    names = ("_convolution_pointwise", "_linear_pointwise")
    return {
        getattr(torch.ops.mkldnn, name): steps for name in names if hasattr(torch.ops.mkldnn, name)
    }
