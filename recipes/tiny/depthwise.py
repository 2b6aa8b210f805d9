"""Depth-wise convolutions whose gradients are computed in float32.

PyTorch's gradients of depth-wise convolutions in bfloat16 take four to six times as long on a CPU
as those in float32 (kernels of 5 x 5, or strides of 2), a quarter of a whole training step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn


class _Convolution(torch.autograd.Function):
    """In bfloat16 forwards where automatic casts are on, in float32 backwards."""

    @staticmethod
    @torch.amp.custom_fwd(  # type: ignore[untyped-decorator]
        device_type="cpu", cast_inputs=torch.bfloat16
    )
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, None, *geometry)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            *(value.float() for value in (*gradients, x, weight)),
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [*ctx.needs_input_grad[:2], False],
        )
        return of_x, of_weight, None


def _convolve(module: nn.Conv2d, x: Tensor, padding: Any) -> Tensor:
    geometry = (module.stride, padding, module.dilation, module.groups)
    result: Tensor = _Convolution.apply(x, module.weight, geometry)
    return result if module.bias is None else result + module.bias.view(-1, 1, 1)


class _Depthwise(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        return _convolve(self, input, self.padding)


class _DepthwiseSame(Conv2dSame):
    def forward(self, x: Tensor) -> Tensor:
        padded = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        return _convolve(self, padded, (0, 0))


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _Depthwise,
    Conv2dSame: _DepthwiseSame,
}


def quicken_depthwise(model: nn.Module) -> None:
    """Let the depth-wise convolutions of a network be trained quickly on a CPU, in place.

    What they compute, and the names of the weights, stay as they are.
    """
    for module in model.modules():
        quick = _CLASSES.get(type(module))
        if quick is not None and module.groups == module.in_channels:
            module.__class__ = quick
