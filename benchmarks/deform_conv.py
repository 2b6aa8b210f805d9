"""Time the kernels of the modulated deformable convolution against torchvision's operator.

Run it as ``python benchmarks/deform_conv.py``: medians, and ratios within one run. On the CPU,
with and without gradients; on CUDA too where there is one.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from napari_pisam.model.deform_conv import modulated_deform_conv2d

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_pisam.model.deform_conv import Kernel

CHANNELS = 32
RUNS = 3
KERNELS: tuple[Kernel, ...] = ("torchvision", "grid_sample", "gather")


def make_inputs(batch: int, side: int, size: int, device: str) -> list[Tensor]:
    """Return x, offset, modulator and weight with offsets of a pixel or so."""
    torch.manual_seed(0)
    plane = (side, side)
    tensors = [
        torch.randn(batch, CHANNELS, *plane),
        torch.randn(batch, 2 * size * size, *plane),
        torch.rand(batch, size * size, *plane),
        torch.randn(CHANNELS, CHANNELS, size, size),
    ]
    return [t.to(device) for t in tensors]


def seconds(call: Callable[[], object], device: str) -> float:
    """Return the median wall time of a call after one that does not count."""
    times = []
    for _ in range(RUNS + 1):
        start = perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return median(times[1:])


def infer(inputs: list[Tensor], kernel: Kernel) -> Tensor:
    """Compute the values."""
    with torch.inference_mode():
        return modulated_deform_conv2d(*inputs, kernel=kernel)


def train(inputs: list[Tensor], kernel: Kernel) -> tuple[Tensor, ...]:
    """Compute the values and the gradients of all inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    return torch.autograd.grad(modulated_deform_conv2d(*leaves, kernel=kernel).sum(), leaves)


def report(name: str, task: Callable[[list[Tensor], Kernel], object], inputs: list[Tensor]) -> None:
    """Print one line: seconds of every kernel and how many times as fast as torchvision's."""
    device = inputs[0].device.type
    times = {k: seconds(lambda k=k: task(inputs, k), device) for k in KERNELS}
    cells = (f"{k} {t:.4f} s ({times['torchvision'] / t:.1f}x)" for k, t in times.items())
    print(f"{device:4} {name:36}", "  ".join(cells))


def main() -> None:
    """Print the table."""
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        for size in (3, 7):
            inputs = make_inputs(1, 256, size, device)
            report(f"{size} x {size} values, 1 x 256 x 256", infer, inputs)
            expected = infer(inputs, "torchvision")
            error = (infer(inputs, "gather") - expected).abs().max() / expected.abs().max()
            print(f"{'':5}largest relative error of the gather: {error:.1e}")
            inputs = make_inputs(4, 128, size, device)
            report(f"{size} x {size} with gradients, 4 x 128 x 128", train, inputs)


if __name__ == "__main__":
    main()
