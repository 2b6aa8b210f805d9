"""MobileSAM's image encoder: TinyViT-5M at SAM's frame, with SAM's outputs.

The parameters, their names and the result are those of MobileSAM's ``TinyViT`` (Wu et al., 2022;
Zhang et al., 2023), without the classifier that no mask needs. What differs is the order of the
work: tokens stay in channels-last memory, so that nothing is transposed between convolutions and
attention; attention is fused, and so is a GELU with the layer before it; what pads a window to its
size passes through no matrix product; and the wide layers of blocks are made a strip of rows at a
time, so that they stay in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.fused_gelu import conv_gelu, linear_gelu
from napari_pisam.model.layer_norm import LayerNorm2d
from napari_pisam.model.weights_cache import WeightsCache

if TYPE_CHECKING:
    from collections.abc import Callable

STRIDE = 16
"""The embedding's stride, px."""

_STRIP_VALUES = 1 << 20
"""Values of a wide layer that are held at a time: 4 MB, so that few calls share the work."""

_EXPANSION = 4


def _strip_rows(values_per_row: int, step: int = 1) -> int:
    """Rows of a strip: a multiple of ``step``, and at least that."""
    return step * max(1, _STRIP_VALUES // (step * values_per_row))


def _by_strips(
    layers: Callable[[Tensor], Tensor], x: Tensor, width: int, *, shrinks: int = 1, reach: int = 1
) -> Tensor:
    """Apply convolutions to (B, C, H, W) a strip of rows at a time, if no gradient is wanted.

    Parameters
    ----------
    layers
        Convolutions with padding that reach at most one row of their output up and ``reach`` down,
        without batch statistics.
    width
        Channels of their widest layer.
    shrinks
        Their stride.
    """
    rows = _strip_rows(width * x.shape[0] * x.shape[3] * shrinks)
    height = x.shape[2] // shrinks
    if torch.is_grad_enabled() or rows >= height:
        return layers(x)
    strips = []
    for first in range(0, height, rows):
        last = min(first + rows, height)
        top, bottom = max(0, first - 1), min(height, last + reach)
        strip = layers(x[:, :, shrinks * top : shrinks * bottom])
        strips.append(strip[:, :, first - top : last - top])
    return torch.cat(strips, dim=2)


class _ConvNorm(nn.Sequential):
    """A convolution and its batch norm, which inference folds into one."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.add_module("c", conv)
        self.add_module("bn", nn.BatchNorm2d(outputs))

    def then_gelu(self, x: Tensor) -> Tensor:
        """Apply it and a GELU."""
        conv, norm = self
        if isinstance(norm, nn.Identity):
            return conv_gelu(cast("nn.Conv2d", conv), x)
        return F.gelu(self(x))


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.seq = nn.Sequential(
            _ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), _ConvNorm(width // 2, width, 3, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            y: Tensor = self.seq(x)
            return y
        return _by_strips(self._layers, x, self.width // 2, shrinks=4, reach=0)

    def _layers(self, x: Tensor) -> Tensor:
        first, _, second = self.seq
        y: Tensor = second(cast("_ConvNorm", first).then_gelu(x))
        return y


class _ConvBlock(nn.Module):
    """An inverted bottleneck: wider, a depthwise 3 x 3, narrow again, and the input on top."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = _EXPANSION * width
        self.conv1 = _ConvNorm(width, hidden)
        self.conv2 = _ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = _ConvNorm(hidden, width)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        return self._layers(x) if self.training else _by_strips(self._layers, x, self.hidden)

    def _layers(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2.then_gelu(self.conv1.then_gelu(x)))
        return F.gelu(y + x)


class _Merging(nn.Module):
    """From one stage's width and stride to the next one's; the last stage keeps the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inputs, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = _ConvNorm(outputs, outputs)
        self.width, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self._layers(x)
        return _by_strips(
            self._layers, x, self.width, shrinks=self.stride, reach=int(self.stride == 1)
        )

    def _layers(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2.then_gelu(self.conv1.then_gelu(x)))
        return y


class _WindowAttention(nn.Module):
    """Attention within windows, with a learnt bias for every distance of two tokens."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        # Distances are numbered by (rows, columns) apart, in the order in which they first occur.
        place = torch.arange(window**2)
        rows, cols = place // window, place % window
        apart = (rows[:, None] - rows).abs() * window + (cols[:, None] - cols).abs()
        self.register_buffer("distances", apart, persistent=False)
        self._bias: WeightsCache[Tensor] = WeightsCache()

    distances: Tensor

    def _biases(self, dtype: torch.dtype) -> Tensor:
        """(1, heads, tokens, tokens)."""
        if torch.is_grad_enabled() and self.attention_biases.requires_grad:
            return self.attention_biases[:, self.distances].unsqueeze(0).to(dtype)
        made = self._bias.of(
            [self.attention_biases], lambda: self.attention_biases[:, self.distances].detach()
        )
        return made.unsqueeze(0).to(dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        batch, height, width, channels = tokens.shape
        size = self.window
        down, across = -(-height // size), -(-width // size)
        qkv = self.qkv(self.norm(tokens))
        below, right = down * size - height, across * size - width
        if below or right:
            # Padding is zero before the layer norm: after it, the norm's bias.
            fill = F.linear(self.norm.bias, self.qkv.weight, self.qkv.bias).to(qkv.dtype)
            padded = fill.expand(batch, down * size, across * size, -1).clone()
            padded[:, :height, :width] = qkv
            qkv = padded
        # (3, B * windows, heads, tokens, channels of a head)
        split = (
            qkv.view(batch, down, size, across, size, self.heads, 3, channels // self.heads)
            .permute(6, 0, 1, 3, 5, 2, 4, 7)
            .reshape(3, batch * down * across, self.heads, size * size, channels // self.heads)
        )
        bias = self._biases(split.dtype)
        out = F.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=bias)
        out = (
            out.view(batch, down, across, self.heads, size, size, -1)
            .permute(0, 1, 4, 2, 5, 3, 6)
            .reshape(batch, down * size, across * size, channels)[:, :height, :width]
        )
        projected: Tensor = self.proj(out)
        return projected


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, _EXPANSION * width)
        self.fc2 = nn.Linear(_EXPANSION * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.fc2(linear_gelu(self.fc1, self.norm(tokens)))
        return y


class _AttentionBlock(nn.Module):
    """Attention within windows, a depthwise 3 x 3 and an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = _WindowAttention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, 3, groups=width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        row = tokens[:, 0].numel()
        rows = _strip_rows(3 * row, self.attn.window)
        strips = [strip + self.attn(strip) for strip in torch.split(tokens, rows, dim=1)]
        tokens = torch.cat(strips, dim=1)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        rows = _strip_rows(_EXPANSION * row)
        strips = [strip + self.mlp(strip) for strip in torch.split(tokens, rows, dim=1)]
        return torch.cat(strips, dim=1).permute(0, 3, 1, 2)


class _Stage(nn.Module):
    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyVitImageEncoder(nn.Module):
    """MobileSAM's image encoder; the same weights and keys, less its unused classifier.

    Parameters
    ----------
    widths, depths, heads, windows : tuples of int
        Of its stages: channels; blocks; attention heads; side of the attention's windows, in
        cells.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        windows: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.patch_embed = _Stem(widths[0])
        stages = []
        for place, width in enumerate(widths):
            last = place == len(widths) - 1
            # MobileSAM keeps the stride of 16 px in the last stage, for SAM's decoder.
            stride = 1 if place == len(widths) - 2 else 2
            merging = None if last else _Merging(width, widths[place + 1], stride)
            blocks: list[nn.Module] = [
                _AttentionBlock(width, heads[place], windows[place]) if place else _ConvBlock(width)
                for _ in range(depths[place])
            ]
            stages.append(_Stage(blocks, merging))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images and keep the early feature.

        Parameters
        ----------
        x : (N, 3, S, S) float
            RGB, normalised and then zero-padded right and bottom; S a multiple of 16.

        Returns
        -------
        embedding : (N, 256, S/16, S/16) float
        early : (N, C, S/16, S/16) float
            The first stage of that stride, as Light HQ-SAM takes it.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % STRIDE or x.shape[3] % STRIDE:
            raise ValueError(
                f"The images have shape {tuple(x.shape)}; expected (N, 3, H, W) with H and W "
                f"multiples of {STRIDE}: normalise them and pad them to the encoder's frame."
            )
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        early = x
        for place, stage in enumerate(self.layers):
            x = stage(x)
            if place == 1:
                early = x
        embedding: Tensor = self.neck(x)
        return embedding, early.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Encode images: (N, 3, S, S) to (N, 256, S/16, S/16), as MobileSAM does."""
        return self.forward_features(x)[0]
