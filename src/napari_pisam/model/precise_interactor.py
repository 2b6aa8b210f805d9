"""The Precise Interactor: clicks correct the mask feature at S/4 (Pi-SAM, section 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.layer_norm import LayerNorm2d
from napari_pisam.model.sam_modules import MLP, Attention, PositionEmbeddingRandom
from napari_pisam.model.weights_cache import WeightsCache

# Radii of the Gaussian spots that `click_maps` draws, as a share of the feature's side: about one
# and a half and six pixels of a 256-px feature.
_SPOT_SIGMAS = (1.5 / 256, 6 / 256)
# Bidirectional blocks of attention.
_BLOCKS = 2


def image_to_tokens(attention: Attention, image: Tensor, tokens: Tensor, padding: Tensor) -> Tensor:
    """One-head attention of every pixel to a few tokens.

    The projections are moved from the pixels to the tokens (``(x Wq) k = x (Wq k)``, and the same
    for values and output), which gives the same numbers for a quarter of the work.

    Parameters
    ----------
    attention
        segment_anything's attention with one head and no down-sampling.
    image : (B, P, C) float
        Queries.
    tokens : (B, n, C) float
        Keys and values.
    padding : (B, n) bool
        True where a token is padding and must get no attention.
    """
    keys = attention.k_proj(tokens)
    values = attention.v_proj(tokens) @ attention.out_proj.weight.T
    scale = 1.0 / math.sqrt(keys.shape[-1])
    bias = (keys @ attention.q_proj.bias) * scale
    bias = bias.masked_fill(padding, float("-inf"))
    keys = (keys @ attention.q_proj.weight) * scale
    scores = torch.baddbmm(bias.unsqueeze(1), image, keys.transpose(1, 2))
    result: Tensor = torch.baddbmm(
        attention.out_proj.bias.to(values.dtype), scores.softmax(dim=-1).to(values.dtype), values
    )
    return result


def tokens_to_image(attention: Attention, tokens: Tensor, image: Tensor) -> Tensor:
    """One-head attention of a few tokens to every pixel; shapes as in `image_to_tokens`.

    The key bias adds the same to every score of a token, which the softmax removes.
    """
    queries = attention.q_proj(tokens)
    queries = (queries @ attention.k_proj.weight) / math.sqrt(queries.shape[-1])
    weights = (queries @ image.transpose(1, 2)).softmax(dim=-1)
    result: Tensor = attention.out_proj(attention.v_proj(weights.to(image.dtype) @ image))
    return result


class _InteractionBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cross_attn_image_to_token = Attention(width, 1)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            LayerNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.norm2 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, 1)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        image: Tensor,
        tokens: Tensor,
        image_pe: Tensor,
        padding: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        image = self.norm1(
            image
            + image_to_tokens(self.cross_attn_image_to_token, image + image_pe, tokens, padding)
        )
        grid = image.reshape(image.shape[0], *size, -1).permute(0, 3, 1, 2)
        image = self.norm2(image + self.mlp(grid).permute(0, 2, 3, 1).flatten(1, 2))
        tokens = self.norm3(
            tokens + tokens_to_image(self.cross_attn_token_to_image, tokens, image + image_pe)
        )
        return image, tokens


class _InteractionTransformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_InteractionBlock(width) for _ in range(_BLOCKS))
        self.final_attn_image_to_token = Attention(width, 1)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self,
        image: Tensor,
        tokens: Tensor,
        image_pe: Tensor,
        padding: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        for layer in self.layers:
            image, tokens = layer(image, tokens, image_pe, padding, size)
        correction = image_to_tokens(
            self.final_attn_image_to_token, image + image_pe, tokens, padding
        )
        result: Tensor = self.norm_final_attn(image + correction)
        return result


class PreciseInteractor(nn.Module):
    """Mask feature, output token and clicks in, corrected mask feature out.

    Parameters
    ----------
    width
        Channels of the mask feature and of the tokens.
    click_maps
        Also draw the clicks into the feature, as Gaussian spots of two sizes for FG and BG.
    """

    def __init__(self, width: int, *, click_maps: bool = False) -> None:
        super().__init__()
        self.points_flag = nn.Embedding(2, width)
        self.pe_layer = PositionEmbeddingRandom(width // 2)
        self.token_embed = nn.Sequential(
            nn.LayerNorm(3 * width), MLP(3 * width, 256, width, 3), nn.LayerNorm(width)
        )
        self.transformer = _InteractionTransformer(width)
        self.out_cov = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.out_cov.weight)
        nn.init.zeros_(self.out_cov.bias)  # type: ignore[arg-type]
        self.click_map_conv: nn.Conv2d | None = None
        if click_maps:
            self.click_map_conv = nn.Conv2d(2 * len(_SPOT_SIGMAS), width, 3, padding=1)
            # Frequencies from a third of SAM's to eight times: attention can be as narrow as a
            # few pixels where SAM's own encoding blurs over a sixth of the frame.
            scale = torch.logspace(math.log10(0.35), math.log10(8.0), width // 2)
            self.pe_layer.positional_encoding_gaussian_matrix *= scale
        self._grid_pe: WeightsCache[dict[tuple[int, int], Tensor]] = WeightsCache()

    def grid_position_encoding(self, size: tuple[int, int]) -> Tensor:
        """Position encoding of every pixel centre, (1, H*W, width) float; kept for later calls."""
        gaussian = self.pe_layer.positional_encoding_gaussian_matrix
        grids = self._grid_pe.of([gaussian], dict)
        if size not in grids:
            with torch.no_grad():
                ys, xs = (
                    (torch.arange(n, device=gaussian.device, dtype=gaussian.dtype) + 0.5) / n
                    for n in size
                )
                centres = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)
                grids[size] = self.pe_layer._pe_encoding(centres).flatten(0, 1).unsqueeze(0)
        return grids[size]

    def embed_clicks(self, feature: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Point tokens (B, n, width) from what the feature holds at each click, its flag and place.

        Parameters
        ----------
        feature : (B, width, H, W) float
        points : (B, n, 2) float
            (x, y) in [0, 1] of the frame.
        labels : (B, n) int
            1 FG, 0 BG, -1 padding.
        """
        grid = 2 * points.to(feature.dtype).unsqueeze(2) - 1
        sampled = F.grid_sample(feature, grid, mode="bilinear", align_corners=False)
        flags = self.points_flag(labels.clamp(min=0))
        place = self.pe_layer._pe_encoding(points.to(flags.dtype))
        sampled = sampled.squeeze(-1).transpose(1, 2)
        tokens: Tensor = self.token_embed(torch.cat([sampled.to(flags.dtype), flags, place], dim=2))
        return tokens

    def _draw_clicks(self, points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = size
        ys = (torch.arange(height, device=points.device, dtype=points.dtype) + 0.5) / height
        xs = (torch.arange(width, device=points.device, dtype=points.dtype) + 0.5) / width
        maps = []
        for sigma in _SPOT_SIGMAS:
            # A two-dimensional Gaussian is the outer product of two one-dimensional ones.
            gy = torch.exp(-0.5 * ((ys - points[..., 1:]) / sigma) ** 2)  # (B, n, H)
            gx = torch.exp(-0.5 * ((xs - points[..., :1]) / sigma) ** 2)  # (B, n, W)
            for flag in (1, 0):
                chosen = gy * (labels == flag).unsqueeze(-1)
                maps.append(torch.einsum("bnh,bnw->bhw", chosen, gx).clamp(max=1.0))
        return torch.stack(maps, dim=1)

    def forward(self, feature: Tensor, token: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Correct a mask feature by clicks.

        Parameters
        ----------
        feature : (B, width, H, W) float
        token : (B, width) float
            The output token that belongs to the mask.
        points : (B, n, 2) float
            (x, y) in [0, 1] of the frame.
        labels : (B, n) int
            1 FG, 0 BG, -1 padding.

        Returns
        -------
        (B, width, H, W) float
        """
        size = (feature.shape[2], feature.shape[3])
        point_tokens = self.embed_clicks(feature, points, labels)
        tokens = torch.cat([token.unsqueeze(1), point_tokens], dim=1)
        padding = F.pad(labels < 0, (1, 0), value=False)
        drawn = feature
        if self.click_map_conv is not None:
            drawn = drawn + self.click_map_conv(self._draw_clicks(points, labels, size))
        image = drawn.permute(0, 2, 3, 1).flatten(1, 2)
        pe = self.grid_position_encoding(size).to(image.dtype)
        image = self.transformer(image, tokens, pe, padding, size)
        grid = image.reshape(image.shape[0], *size, -1).permute(0, 3, 1, 2)
        correction: Tensor = self.out_cov(grid)
        return feature + correction
