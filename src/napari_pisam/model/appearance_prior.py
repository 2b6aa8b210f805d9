"""What a box's pixels look like, against what is around it: a prior that needs no training.

A small network trained from scratch has seen little of the world, but the image at hand says a lot:
a colour that is frequent inside the box and rare outside is likely to be the object's (the idea of
histogram-based figure-ground models, as in GrabCut's initialisation: Rother et al., 2004). Two
likelihoods, one of colour and one of brightness and texture, enter the decoder as extra maps.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.layer_norm import LayerNorm2d

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")

LEVELS = 10
"""Levels of each of the three values of a histogram."""

_MAPS = 5
_WIDTH = 32
# Of the pixels, where a picture's darkest and brightest are taken to be; 0.01 and 0.99 as float32.
_SHARES = (0.009999999776482582, 0.9900000095367432)
# Up to this frame the statistics are taken at half its resolution, above at a quarter.
_FINE_FRAME = 512


def _gaussian(sigma: float, device: torch.device) -> Tensor:
    reach = int(3 * sigma + 0.5)
    places = torch.arange(-reach, reach + 1, device=device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    return kernel / kernel.sum()


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W)."""
    kernel = _gaussian(sigma, x.device)
    reach, channels = len(kernel) // 2, x.shape[1]
    for size, padding in (
        ((1, 1, 1, -1), (reach, reach, 0, 0)),
        ((1, 1, -1, 1), (0, 0, reach, reach)),
    ):
        weight = kernel.view(size).repeat(channels, 1, 1, 1)
        x = F.conv2d(F.pad(x, padding, mode="replicate"), weight, groups=channels)
    return x


def _blur_histogram(histogram: Tensor) -> Tensor:
    """Gaussian blur of (B, LEVELS**3) along each of the three axes, normalised to a sum of 1."""
    kernel = _gaussian(1.0, histogram.device)
    reach = len(kernel) // 2
    x = histogram.view(-1, 1, LEVELS, LEVELS, LEVELS)
    for axis in range(3):
        size, padding = [1] * 5, [0] * 6
        size[2 + axis] = -1
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = reach
        x = F.conv3d(F.pad(x, padding), kernel.view(size))
    x = x.flatten(1)
    return x / x.sum(dim=1, keepdim=True).clamp(min=1e-6)


def _quantised(values: Tensor) -> Tensor:
    """(N, 3, h, w) in [0, 1] -> (N, h, w) index of the histogram's bin."""
    levels = (values * LEVELS).clamp(0, LEVELS - 1).floor()
    return (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]


def _quantiles(values: Tensor) -> list[Tensor]:
    """Return the `_SHARES` quantiles, (N,) each, of (N, n) values.

    They are those of ``torch.quantile``, which sorts for each of them, and computes in a type that
    MPS does not have.
    """
    ordered = values.sort(dim=1).values
    found = []
    for share in _SHARES:
        rank = share * (values.shape[1] - 1)
        below = int(rank)
        above = min(below + 1, values.shape[1] - 1)
        found.append(torch.lerp(ordered[:, below], ordered[:, above], rank - below))
    return found


def _in_float32(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Leave automatic casts out: a bin's number up to 1,000 is not a bfloat16."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device = next(value.device.type for value in args if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return wrapped


@_in_float32
def appearance(image: Tensor, frame: int) -> Tensor:
    """Sort pixels by colour and by brightness and texture.

    Parameters
    ----------
    image : (N, 3, h, w) float
        RGB in 0..255, black at the right and at the bottom where it was padded before.
    frame
        Side of the frame, px.

    Returns
    -------
    (N, 2, S/k, S/k) float
        Bins, -1 in the padding; k is 2 up to a frame of 512 px, 4 above.
    """
    stride = 2 if frame <= _FINE_FRAME else 4
    height, width = image.shape[2:]
    padded = F.pad(image.float(), (0, frame - width, 0, frame - height))
    small = F.avg_pool2d(padded, stride)
    lit = small.amax(dim=1) > 0
    # Everything up to the last row and column that is not black.
    rows = lit.any(dim=2).flip(1).cummax(dim=1).values.flip(1)
    cols = lit.any(dim=1).flip(1).cummax(dim=1).values.flip(1)
    valid = rows.unsqueeze(2) & cols.unsqueeze(1)
    flat = small[:, :, ::2, ::2].flatten(1)
    low, high = (value.view(-1, 1, 1, 1) for value in _quantiles(flat))
    colour = (small - low) / (high - low).clamp(min=8.0)
    light = colour.clamp(0, 1).mean(dim=1, keepdim=True)
    statistics = []
    for sigma in (1.5, 4.0):
        mean = _blur(light, sigma)
        spread = (_blur(light**2, sigma) - mean**2).clamp(min=0).sqrt()
        statistics.append((mean, spread))
    texture = torch.cat([statistics[0][0], 6 * statistics[0][1], 4 * statistics[1][1]], dim=1)
    bins = torch.stack([_quantised(colour), _quantised(texture)], dim=1)
    return bins.masked_fill(~valid.unsqueeze(1), -1.0)


@_in_float32
def likelihoods(bins: Tensor, inside: Tensor) -> Tensor:
    """How much more frequent what a pixel looks like is inside than outside.

    Parameters
    ----------
    bins : (N, 2, h, w) float
        From `appearance`; N = B or 1.
    inside : (B, 1, h, w) float
        1 where the object may be, 0 elsewhere.

    Returns
    -------
    (B, 2, h, w) float
        Share of "inside" in the sum of both frequencies, 0 to 1; 0 in the padding.
    """
    inside = inside.float()
    batch, _, height, width = inside.shape
    known = (bins[:, :1] >= 0).float()
    weights = ((inside * known).flatten(1), ((1 - inside) * known).flatten(1))
    maps = []
    for channel in range(bins.shape[1]):
        index = bins[:, channel].clamp(min=0).long().flatten(1).expand(batch, -1)
        counts = [
            torch.zeros(batch, LEVELS**3, device=bins.device).scatter_add_(1, index, weight)
            for weight in weights
        ]
        own, other = (_blur_histogram(count) for count in counts)
        share = torch.gather(own / (own + other + 1e-7), 1, index)
        maps.append(share.view(batch, 1, height, width))
    return _blur(torch.cat(maps, dim=1), 1.0) * known


class AppearancePrior(nn.Module):
    """Turns the likelihoods of a box or a mask into what the decoder adds to its own.

    Parameters
    ----------
    embedding_width, feature_width
        Channels of the image embedding and of the mask feature.
    """

    def __init__(self, embedding_width: int, feature_width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.hidden = nn.Sequential(
            nn.Conv2d(_MAPS, _WIDTH, 3, padding=1),
            LayerNorm2d(_WIDTH),
            nn.GELU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.GELU(),
        )
        self.to_embedding = nn.Conv2d(_WIDTH, embedding_width, 1)
        self.to_feature = nn.Conv2d(_WIDTH, feature_width, 1)
        self.to_coarse = nn.Conv2d(_WIDTH, 1, 1)
        for layer in (self.to_embedding, self.to_feature, self.to_coarse):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, bins: Tensor, inside: Tensor, within: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what is added.

        Parameters
        ----------
        bins : (N, 2, h, w) float
            From `appearance`.
        inside : (B, 1, S/4, S/4) float
            The box or the mask, 0 to 1: whose pixels are counted.
        within : (B, 1, S/4, S/4) float, optional
            Where the object may be, 0 to 1; ``inside`` unless given.

        Returns
        -------
        embedding : (B, 256, S/16, S/16) float
        feature : (B, 32, S/4, S/4) float
        coarse : (B, 1, S/4, S/4) float
        """
        side = inside.shape[-1]
        with torch.no_grad():
            scale = bins.shape[-1] // side
            large = inside if scale == 1 else F.interpolate(inside, scale_factor=float(scale))
            found = likelihoods(bins, large)
            found = found if scale == 1 else F.avg_pool2d(found, scale)
            within = inside if within is None else within
            maps = torch.cat([inside, found, found * within], dim=1)
        x = self.hidden(maps)
        colour = maps[:, 1:2]
        logit = 6 * (colour - 0.5) * within
        coarse = self.to_coarse(x) + self.gain * logit
        return self.to_embedding(F.avg_pool2d(x, 4)), self.to_feature(x), coarse
