"""SAM's ViT image encoder with fused attention, which also returns its early feature.

The parameters, their names and the result are those of ``segment_anything``'s
``ImageEncoderViT``; what differs is the order of the work:

- attention runs in ``scaled_dot_product_attention``, with the relative-position bias made for a
  few million scores at a time: the full score matrix of a global layer (805 MB for ViT-B at
  1024 px, three times over) is never written to memory;
- a block with windows is worked off one row of windows at a time, from its first layer norm to
  the end of its MLP, so that the intermediates stay in the processor's cache and the allocator
  hands the same pages out again instead of asking the system for new ones;
- padding tokens, which SAM appends where the windows do not fit, pass through no matrix product:
  their keys and values are the bias of the projection.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pisam.model.sam_modules import ImageEncoderViT, get_rel_pos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segment_anything.modeling.image_encoder import Attention, Block

PATCH = 16
"""Side of a patch, in pixels: the embedding's stride."""

_QUERIES = 1024
"""Queries of one head per attention call: enough for the kernel to tile and share out well."""

_CPU_BIAS_BYTES = 8 * 2**20
"""Relative-position bias kept at a time, per thread: what a share of the L3 cache holds."""

_GPU_BIAS_BYTES = 256 * 2**20
"""The same for an accelerator, where few large calls beat many small ones."""

_TOKENS = 1024
"""Tokens per chunk of a global block's MLP: its hidden layer then stays in cache."""


class SamImageEncoder(ImageEncoderViT):  # type: ignore[misc]  # segment_anything has no types
    """SAM's image encoder; the same weights and keys, a few times faster on a CPU.

    Takes the arguments of ``segment_anything.modeling.ImageEncoderViT``; see `build_vit_encoder`
    for SAM's own configuration.
    """

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images and keep the early feature.

        Parameters
        ----------
        x
            (B, 3, S, S) float, RGB, normalised and then zero-padded right and bottom; S is
            ``img_size``.

        Returns
        -------
        embedding
            (B, 256, S/16, S/16), the dtype of the computation.
        early
            (B, C, S/16, S/16), contiguous: the output of the first block with global attention.

        Raises
        ------
        ValueError
            If `x` is not (B, 3, H, W) with sides that are multiples of 16, or if no block of
            this encoder has global attention.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % PATCH or x.shape[3] % PATCH:
            raise ValueError(
                f"image batch has shape {tuple(x.shape)}; expected (B, 3, H, W) with H and W "
                f"multiples of {PATCH}: normalise the image and pad it to the encoder's frame"
            )
        tokens: Tensor = self.patch_embed(x)
        if self.pos_embed is not None:
            tokens = tokens + self.pos_embed
        # The convolution leaves its channels outermost; every layer below wants them innermost.
        tokens = tokens.contiguous()
        early: Tensor | None = None
        for block in self.blocks:
            if block.window_size > 0:
                tokens = _windowed_block(block, tokens)
            else:
                tokens = _global_block(block, tokens)
                if early is None:
                    early = tokens.permute(0, 3, 1, 2).contiguous()
        if early is None:
            raise ValueError(
                "this encoder has no block with global attention, hence no early feature; "
                "build it with at least one index in global_attn_indexes"
            )
        embedding: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return embedding, early

    def forward(self, x: Tensor) -> Tensor:
        """Encode images: (B, 3, S, S) to (B, 256, S/16, S/16), as segment_anything does."""
        return self.forward_features(x)[0]


def build_vit_encoder(
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    global_attn_indexes: Sequence[int],
    img_size: int = 1024,
    window_size: int = 14,
) -> SamImageEncoder:
    """Build SAM's image encoder with random weights, in SAM's own configuration.

    Parameters
    ----------
    embed_dim
        Channels of the transformer (768, 1024 and 1280 in ViT-B, -L and -H).
    depth
        Number of blocks.
    num_heads
        Attention heads; must divide `embed_dim`.
    global_attn_indexes
        The blocks, counted from 0, that attend over the whole image.
    img_size
        Side of the square frame, in pixels; a multiple of 16.
    window_size
        Side of the windows of the other blocks, in tokens of 16 px.

    Returns
    -------
    SamImageEncoder
        In training mode, as any new module; the parameters' names are segment_anything's.

    Raises
    ------
    ValueError
        If the heads do not divide the channels, the frame is not a multiple of 16, the window is
        empty, or no block (or one that does not exist) is named as global.
    """
    if embed_dim % num_heads:
        raise ValueError(
            f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}; "
            "every head needs the same number of channels"
        )
    if img_size <= 0 or img_size % PATCH:
        raise ValueError(f"img_size is {img_size}; expected a positive multiple of {PATCH}")
    if window_size < 1:
        raise ValueError(f"window_size is {window_size}; expected at least 1 token")
    indexes = tuple(global_attn_indexes)
    if not indexes or not all(0 <= index < depth for index in indexes):
        raise ValueError(
            f"global_attn_indexes is {indexes}; expected at least one block, each in "
            f"0..{depth - 1}: the early feature is the output of the first of them"
        )
    return SamImageEncoder(
        img_size=img_size,
        patch_size=PATCH,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=4,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window_size,
        global_attn_indexes=indexes,
    )


def _windowed_block(block: Block, tokens: Tensor) -> Tensor:
    """Run a block that attends within windows. `tokens` and the result are (B, H, W, C)."""
    size = block.window_size
    tables = _relative_positions(block.attn, size, size)
    rows = []
    for strip in torch.split(tokens, size, dim=1):  # a row of windows; the last one may be lower
        strip = strip + _window_attention(block.attn, block.norm1(strip), size, tables)
        rows.append(strip + block.mlp(block.norm2(strip)))
    return torch.cat(rows, dim=1)


def _window_attention(
    attn: Attention, strip: Tensor, size: int, tables: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Attend within each window of one row of windows: (B, h <= size, W, C) to the same."""
    batch, height, width, channels = strip.shape
    count = -(-width // size)
    whole = width // size * size
    qkv = attn.qkv(strip)
    if height == size and whole == width:
        windows = qkv.new_empty(batch, count, size, size, 3 * channels)
    else:
        # SAM pads after the layer norm, with zeros; projected, such a token is the bias.
        fill = qkv.new_zeros(1) if attn.qkv.bias is None else attn.qkv.bias.to(qkv.dtype)
        windows = fill.expand(batch, count, size, size, 3 * channels).clone()
    if whole:
        windows[:, : whole // size, :height] = (
            qkv[:, :, :whole].unflatten(2, (-1, size)).transpose(1, 2)
        )
    if whole < width:
        windows[:, -1, :height, : width - whole] = qkv[:, :, whole:]

    # (3, B * windows, heads, tokens, channels of a head)
    split = windows.view(batch * count, size * size, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    # Padding below the image is looked at, but need not look.
    query, key, value = split[0][:, :, : height * size], split[1], split[2]
    bias = None
    if tables is not None:
        by_row, by_column = _decompose(query, (tables[0][:height], tables[1]))
        bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(-2)
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    out = out.transpose(1, 2).reshape(batch, count, height, size, channels)
    out = out.transpose(1, 2).flatten(2, 3)[:, :, :width]
    projected: Tensor = attn.proj(out)
    return projected


def _global_block(block: Block, tokens: Tensor) -> Tensor:
    """Run a block that attends over the whole image. `tokens` and the result: (B, H, W, C)."""
    attended = _global_attention(block.attn, block.norm1(tokens))
    height = max(1, _TOKENS // tokens.shape[2])
    rows = []
    for before, update in zip(
        torch.split(tokens, height, dim=1), torch.split(attended, height, dim=1), strict=True
    ):
        strip = before + block.attn.proj(update)
        rows.append(strip + block.mlp(block.norm2(strip)))
    return torch.cat(rows, dim=1)


def _global_attention(attn: Attention, tokens: Tensor) -> Tensor:
    """Attend over all tokens, short of the last projection: (B, H, W, C) to the same."""
    batch, height, width, _ = tokens.shape
    count = height * width
    qkv = attn.qkv(tokens).view(batch, count, 3, attn.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, tokens, channels of a head)
    tables = _relative_positions(attn, height, width)
    if tables is None:
        out = functional.scaled_dot_product_attention(query, key, value)
        return out.transpose(1, 2).reshape(tokens.shape)

    by_row, by_column = _decompose(query, tables)
    queries = min(count, _QUERIES)
    room = _bias_bytes(tokens.device) // (batch * queries * count * qkv.element_size())
    heads = min(attn.num_heads, max(1, room))
    out = torch.empty_like(value.transpose(1, 2), memory_format=torch.contiguous_format)
    for head in range(0, attn.num_heads, heads):
        h = slice(head, head + heads)
        for start in range(0, count, queries):
            q = slice(start, start + queries)
            bias = by_row[:, h, q, :, None] + by_column[:, h, q, None, :]
            out[:, q, h] = functional.scaled_dot_product_attention(
                query[:, h, q], key[:, h], value[:, h], attn_mask=bias.flatten(-2)
            ).transpose(1, 2)
    return out.view(tokens.shape)


def _bias_bytes(device: torch.device) -> int:
    """Return how much of the bias to hold at a time, in bytes."""
    if device.type == "cpu":
        return _CPU_BIAS_BYTES * torch.get_num_threads()
    return _GPU_BIAS_BYTES


def _relative_positions(attn: Attention, height: int, width: int) -> tuple[Tensor, Tensor] | None:
    """Return the tables (query row, key row, channel) and (query column, key column, channel).

    Interpolated by segment_anything's own rule where the weights are of another frame.
    """
    if not attn.use_rel_pos:
        return None
    # It makes its indices where torch is told to make tensors: on the device, not for it.
    with attn.rel_pos_h.device:
        return (
            get_rel_pos(height, height, attn.rel_pos_h),
            get_rel_pos(width, width, attn.rel_pos_w),
        )


def _decompose(query: Tensor, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the two parts of the relative-position bias.

    (B, heads, tokens, channels) queries, row by row, give (B, heads, tokens, key rows) and
    (B, heads, tokens, key columns); the bias of a key is the sum of its row's and its column's.
    """
    rows, columns = tables
    batch, heads, _, channels = query.shape
    grid = query.reshape(batch, heads, rows.shape[0], columns.shape[0], channels)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, rows)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", grid, columns)
    return by_row.flatten(2, 3), by_column.flatten(2, 3)
