"""Modulated deformable convolution: one function, the fastest kernel that the machine has."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from napari_pisam.model.native_libraries import import_apart
from napari_pisam.model.weights_cache import WeightsCache

if TYPE_CHECKING:
    from collections.abc import Callable

Kernel = Literal["auto", "torchvision", "gather", "grid_sample"]

# The gathered rows of a chunk, (pixels, taps, C): about 6 MB, which stay in the caches.
_FLOATS_PER_CHUNK = 1024 * 49 * 32


@cache
def torchvision_deform_conv2d() -> Callable[..., Tensor] | None:
    """Return torchvision's operator, or None where torchvision is missing or broken.

    Returns
    -------
    callable or None
        ``torchvision.ops.deform_conv2d``. None where the package is absent, was built for another
        torch ("operator torchvision::nms does not exist") or comes without its compiled operators.
    """
    try:
        operator: Callable[..., Tensor] = import_apart("torchvision.ops").deform_conv2d
        # An extension that failed to load leaves the Python function in place, and no operator.
        _ = torch.ops.torchvision.deform_conv2d
    except (ImportError, RuntimeError, AttributeError, OSError):
        return None
    return operator


def modulated_deform_conv2d(
    x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor, *, kernel: Kernel = "auto"
) -> Tensor:
    """Convolve with taps that are displaced and scaled per pixel (deformable convolution, v2).

    Stride 1, padding ``k // 2``. The image is zero outside; a tap between the last pixel and one
    pixel further is interpolated with that zero.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W), floating point.
    offset : Tensor
        (B, 2 * k * k, H, W), px, (dy, dx) for each tap, taps in row-major order.
    modulator : Tensor
        (B, k * k, H, W), factor of each tap.
    weight : Tensor
        (O, C, k, k), k odd.
    kernel : {"auto", "torchvision", "gather", "grid_sample"}
        "auto" takes torchvision's operator on CUDA (a ``grid_sample`` per tap where the operator
        is missing), the gather on the CPU and a ``grid_sample`` per tap on any other device.

    Returns
    -------
    Tensor
        (B, O, H, W), in the dtype of ``x``. Half precision is computed in float32.

    Raises
    ------
    ValueError
        If the shapes do not belong together or the kernel's name is unknown.
    RuntimeError
        If "torchvision" is asked for and its operator cannot be loaded.
    """
    _check_shapes(x, offset, modulator, weight)
    if kernel == "auto":
        kernel = _fastest_kernel(x.device.type)
    if kernel not in _KERNELS:
        raise ValueError(f"kernel is {kernel!r}; expected 'auto' or one of {sorted(_KERNELS)}.")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # Positions of hundreds of pixels have no sub-pixel digits left in half precision.
    with torch.autocast(x.device.type, enabled=False):
        out = _KERNELS[kernel](x.to(dtype), offset.to(dtype), modulator.to(dtype), weight.to(dtype))
    return out.to(x.dtype)


class ModulatedDeformConv2d(nn.Module):
    """Deformable convolution that predicts its own offsets and modulators.

    They start at 0 and 1: an untrained layer is an ordinary convolution.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel_size : int
        k, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; expected an odd number, 1 or more.")
        taps, padding = kernel_size**2, kernel_size // 2
        self.offset_conv = nn.Conv2d(in_channels, 2 * taps, kernel_size, padding=padding)
        self.modulator_conv = nn.Conv2d(in_channels, taps, kernel_size, padding=padding)
        self.regular_conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, bias=False
        )
        for parameter in self._learnt_shape():
            nn.init.zeros_(parameter)
        # Set while training keeps it an ordinary convolution, at a fifth of the time.
        self.rigid = False
        self._ordinary: WeightsCache[bool] = WeightsCache()

    def _learnt_shape(self) -> list[nn.Parameter]:
        return [*self.offset_conv.parameters(), *self.modulator_conv.parameters()]

    def is_ordinary(self) -> bool:
        """Whether offsets and modulators have their initial values, as an ordinary convolution."""
        shape = self._learnt_shape()
        return self._ordinary.of(shape, lambda: not any(bool(p.any()) for p in shape))

    def train(self, mode: bool = True) -> ModulatedDeformConv2d:
        """Set the mode, and look at the weights again: training may change them in any way."""
        self._ordinary.forget()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : Tensor
            (B, C, H, W).

        Returns
        -------
        Tensor
            (B, O, H, W).
        """
        if self.rigid or (not torch.is_grad_enabled() and self.is_ordinary()):
            weight = self.regular_conv.weight
            return nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if x.device.type == "cpu":
            # The gather reads the offsets of a pixel side by side: this saves it a transposition.
            x = x.contiguous(memory_format=torch.channels_last)
        offset = self.offset_conv(x)
        modulator = 2 * torch.sigmoid(self.modulator_conv(x))
        return modulated_deform_conv2d(x, offset, modulator, self.regular_conv.weight)


def _fastest_kernel(device_type: str) -> Kernel:
    if device_type == "cpu":
        return "gather"
    if device_type == "cuda" and torchvision_deform_conv2d() is not None:
        return "torchvision"
    return "grid_sample"


def _check_shapes(x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, H, W).")
    batch, channels, height, width = x.shape
    size = weight.shape[-1]
    if weight.ndim != 4 or weight.shape[1:] != (channels, size, size) or size % 2 == 0:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; expected (O, {channels}, k, k) with k odd."
        )
    for name, tensor, planes in (
        ("offset", offset, 2 * size * size),
        ("modulator", modulator, size * size),
    ):
        if tensor.shape != (batch, planes, height, width):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; "
                f"expected {(batch, planes, height, width)} for a {size} x {size} kernel."
            )


def _torchvision(x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> Tensor:
    operator = torchvision_deform_conv2d()
    if operator is None:
        raise RuntimeError(
            "torchvision's deform_conv2d cannot be loaded. Reinstall torchvision in the version "
            "that belongs to the installed torch, or pass kernel='auto'."
        )
    padding = weight.shape[-1] // 2
    return operator(x, offset, weight, padding=padding, mask=modulator)


def _grid_sample(x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> Tensor:
    """Sum over the taps: sample the image, multiply, convolve 1 x 1."""
    height, width = x.shape[-2:]
    size = weight.shape[-1]
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None]
    cols = torch.arange(width, dtype=x.dtype, device=x.device)
    out = x.new_zeros((len(x), len(weight), height, width))
    for tap in range(size * size):
        dy, dx = tap // size - size // 2, tap % size - size // 2
        # Beyond one pixel outside everything is zero: clamping changes no value, and keeps huge
        # offsets out of the conversion to integers.
        row = (rows + dy + offset[:, 2 * tap]).clamp(-1, height)
        col = (cols + dx + offset[:, 2 * tap + 1]).clamp(-1, width)
        grid = torch.stack(((2 * col + 1) / width - 1, (2 * row + 1) / height - 1), dim=-1)
        sampled = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        kernel = weight[:, :, tap // size, tap % size, None, None]
        out = out + F.conv2d(sampled * modulator[:, tap : tap + 1], kernel)
    return out


class _BagOfPixels:
    """Where the taps of an image fall: for every (pixel, tap) four rows of a table of pixels.

    The table is the image as (H + 2) * (W + 2) rows of C, with a border of one zero pixel. A
    position beyond the border is clamped to it, where it reads zeros as it should.
    """

    def __init__(self, height: int, width: int, size: int, like: Tensor) -> None:
        self.height, self.width, self.taps = height, width, size * size
        self.stride = width + 2
        # From the top left corner of a sample to its four corners in the table.
        self.corners = (0, 1, self.stride, self.stride + 1)
        self.rows = (height + 2) * self.stride
        pixel = torch.arange(height * width, device=like.device)[:, None]
        tap = torch.arange(self.taps, device=like.device)
        self.base_row = (pixel // width).to(like.dtype)
        self.base_col = (pixel % width).to(like.dtype)
        self.tap_row = (tap // size - size // 2).to(like.dtype)
        self.tap_col = (tap % size - size // 2).to(like.dtype)

    def table(self, image: Tensor) -> Tensor:
        """Lay (C, H, W) out as (rows, C)."""
        return F.pad(image.permute(1, 2, 0), (0, 0, 1, 1, 1, 1)).view(self.rows, -1)

    def positions(self, shift: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Return the rows and columns (n, taps), px, for the offsets (n, 2 * taps) of a part."""
        row = (shift[:, 0::2] + self.base_row[part]).add_(self.tap_row)
        col = (shift[:, 1::2] + self.base_col[part]).add_(self.tap_col)
        return row, col

    def split(self, row: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the table row of the top left corner (int32) and the fractions, in place."""
        row.clamp_(-1, self.height)
        col.clamp_(-1, self.width)
        top = row.floor().clamp_(max=self.height - 1)
        left = col.floor().clamp_(max=self.width - 1)
        first = top.to(torch.int32).add_(1).mul_(self.stride).add_(left.to(torch.int32)).add_(1)
        # Of use for NaN only, which has no integer: the result is NaN, not a bad memory access.
        first.clamp_(0, self.rows - 1 - self.corners[-1])
        return first, row.sub_(top), col.sub_(left)

    def fill(self, first: Tensor, index: Tensor) -> None:
        """Write the table rows of the four corners, (n, taps, 4)."""
        for corner, step in enumerate(self.corners):
            torch.add(first, step, out=index[..., corner])

    @staticmethod
    def weigh(row: Tensor, col: Tensor, factor: Tensor, share: Tensor) -> None:
        """Write the bilinear weights of the four corners times ``factor``, (n, taps, 4)."""
        lower = row * factor
        upper = factor - lower
        torch.mul(lower, col, out=share[..., 3])
        torch.sub(lower, share[..., 3], out=share[..., 2])
        torch.mul(upper, col, out=share[..., 1])
        torch.sub(upper, share[..., 1], out=share[..., 0])


def _gather(x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> Tensor:
    inputs = (x, offset, modulator, weight)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return cast("Tensor", _Gather.apply(*inputs))
    return _gather_forward(*inputs)


def _rows_of_pixels(planes: Tensor) -> Tensor:
    """(B, P, H, W) as (B, H * W, P), contiguous; no copy if the memory is channels-last."""
    return planes.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


def _image_of_rows(rows: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, P) as (B, P, H, W) in channels-last memory."""
    return rows.view(len(rows), height, width, -1).permute(0, 3, 1, 2)


def _parts(pixels: int, floats_per_pixel: int) -> list[slice]:
    step = max(1, min(pixels, _FLOATS_PER_CHUNK // floats_per_pixel))
    return [slice(start, min(start + step, pixels)) for start in range(0, pixels, step)]


def _gather_forward(x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> Tensor:
    """Look every (pixel, tap) up as a weighted bag of four rows of a table of pixels."""
    batch, channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    bags = _BagOfPixels(height, width, size, x)
    kernel = weight.permute(0, 2, 3, 1).flatten(1).t()  # (taps * C, O)
    shift, factor = _rows_of_pixels(offset), _rows_of_pixels(modulator)
    out = x.new_empty((batch, height * width, out_channels))
    parts = _parts(height * width, bags.taps * channels)
    index = torch.empty((parts[0].stop, bags.taps, 4), dtype=torch.int32, device=x.device)
    share = x.new_empty(index.shape)
    for b in range(batch):
        table = bags.table(x[b])
        for part in parts:
            n = part.stop - part.start
            first, row, col = bags.split(*bags.positions(shift[b, part], part))
            bags.fill(first, index[:n])
            bags.weigh(row, col, factor[b, part], share[:n])
            sampled = F.embedding_bag(
                index[:n].view(-1, 4), table, per_sample_weights=share[:n].view(-1, 4), mode="sum"
            )
            torch.mm(sampled.view(n, -1), kernel, out=out[b, part])
    return _image_of_rows(out, height, width)


class _Gather(torch.autograd.Function):
    """The gather with its gradients, chunk by chunk: nothing but the inputs is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, modulator: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, modulator, weight)
        return _gather_forward(x, offset, modulator, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, modulator, weight = ctx.saved_tensors
        wants_x = ctx.needs_input_grad[0]
        _, channels, height, width = x.shape
        out_channels, _, size, _ = weight.shape
        bags = _BagOfPixels(height, width, size, x)
        kernel = weight.permute(0, 2, 3, 1).flatten(1)  # (O, taps * C)
        shift, factor = _rows_of_pixels(offset), _rows_of_pixels(modulator)
        grad = _rows_of_pixels(grad)
        grad_kernel, grad_x = torch.zeros_like(kernel), torch.zeros_like(x) if wants_x else None
        grad_shift, grad_factor = torch.empty_like(shift), torch.empty_like(factor)
        for b in range(len(x)):
            table = bags.table(x[b])
            grad_table = torch.zeros_like(table)
            for part in _parts(height * width, bags.taps * channels):
                row, col = bags.positions(shift[b, part], part)
                # Where a position is clamped, nothing changes with it.
                moves_row = (row >= -1) & (row < height)
                moves_col = (col >= -1) & (col < width)
                first, row, col = bags.split(row, col)
                index = torch.empty((*first.shape, 4), dtype=torch.int32, device=x.device)
                share = x.new_empty(index.shape)
                bags.fill(first, index)
                bags.weigh(row, col, factor[b, part], share)
                grad_sampled = torch.mm(grad[b, part], kernel).view(-1, channels)
                with torch.enable_grad():
                    share = share.view(-1, 4).requires_grad_()
                    sampled = F.embedding_bag(
                        index.view(-1, 4), table, per_sample_weights=share, mode="sum"
                    )
                (dots,) = torch.autograd.grad(sampled, share, grad_sampled)
                share = share.detach()
                grad_kernel.addmm_(grad[b, part].t(), sampled.detach().view(len(first), -1))
                if wants_x:
                    _scatter(grad_table, first.view(-1), share, grad_sampled, bags.corners)
                # The dot products of the gradient with the four corner pixels.
                d00, d01, d10, d11 = dots.view(*first.shape, 4).permute(2, 0, 1).contiguous()
                top, bottom = d00.lerp(d01, col), d10.lerp(d11, col)
                left, right = d00.lerp(d10, row), d01.lerp(d11, row)
                torch.lerp(top, bottom, row, out=grad_factor[b, part])
                per_px = factor[b, part]
                torch.mul(bottom - top, per_px * moves_row, out=grad_shift[b, part, 0::2])
                torch.mul(right - left, per_px * moves_col, out=grad_shift[b, part, 1::2])
            if grad_x is not None:
                inner = grad_table.view(height + 2, width + 2, channels)[1:-1, 1:-1]
                grad_x[b] = inner.permute(2, 0, 1)
        grad_weight = grad_kernel.view(out_channels, size, size, channels).permute(0, 3, 1, 2)
        return (
            grad_x,
            _image_of_rows(grad_shift, height, width),
            _image_of_rows(grad_factor, height, width),
            grad_weight,
        )


def _scatter(
    table: Tensor, first: Tensor, share: Tensor, values: Tensor, corners: tuple[int, ...]
) -> None:
    """Add ``share[i, j] * values[i]`` to ``table[first[i] + corners[j]]``.

    Sorted by destination the samples of a table row are a bag again: several times as fast as
    ``index_add_``, and one sort serves the four corners.
    """
    ordered, order = first.sort()
    low, high = int(ordered[0]), int(ordered[-1]) + 1
    targets = torch.arange(low, high, dtype=first.dtype, device=first.device)
    starts = torch.searchsorted(ordered, targets, out_int32=True)
    order = order.to(torch.int32)
    shares = share.index_select(0, order).t().contiguous()
    for corner, of_corner in zip(corners, shares, strict=True):
        table[low + corner : high + corner] += F.embedding_bag(
            order, values, starts, per_sample_weights=of_corner, mode="sum"
        )


_KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "torchvision": _torchvision,
    "gather": _gather,
    "grid_sample": _grid_sample,
}
