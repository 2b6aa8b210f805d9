"""What the network's stages hand on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor


class _Tensors:
    """Mixin of frozen dataclasses of tensors."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move every tensor, as `torch.Tensor.to` does."""
        moved = {
            field.name: value.to(*args, **kwargs)
            for field in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)  # type: ignore[type-var]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return sum(value.nbytes for value in values if isinstance(value, Tensor))


@dataclass(frozen=True)
class EncodedImage(_Tensors):
    """All that the network keeps of N images.

    Attributes
    ----------
    embedding : (N, 256, S/16, S/16) float
    hq_features : (N, 32, S/4, S/4) float or None
        The prompt-independent part of the mask feature; ``None`` for a plain SAM.
    bins : (N, 2, S/k, S/k) float or None
        What every pixel looks like (`appearance_prior`); ``None`` without that prior.
    rgb : (N, 8, S, S) float or None
        The RGB embedding; ``None`` unless the kind is ``"pisam"``.
    size : (int, int)
        Height and width of the images inside the square frame, px.
    """

    embedding: Tensor
    hq_features: Tensor | None
    rgb: Tensor | None
    size: tuple[int, int]
    bins: Tensor | None = None


@dataclass(frozen=True)
class EmbeddedPrompts:
    """B prompts, as a decoder reads them.

    Attributes
    ----------
    sparse : (B, n, 256) float
        Tokens of corners and clicks.
    dense : (B, 256, S/16, S/16) float
        What is added to the image embedding.
    position : (1, 256, S/16, S/16) float
        Position codes of the embedding's cells.
    feature : (B, 32, S/4, S/4) float or None
        What a Pi-SAM adds to its mask feature.
    coarse : tuple of (B, 1, S/4, S/4) float
        What a Pi-SAM adds to its coarse logits, in this order.
    known : (B, 1, S/4, S/4) float or None
        Logits of a mask that was given.
    """

    sparse: Tensor
    dense: Tensor
    position: Tensor
    feature: Tensor | None = None
    coarse: tuple[Tensor, ...] = ()
    known: Tensor | None = None


@dataclass(frozen=True)
class Decoded(_Tensors):
    """B decoded prompts, ready to be corrected by clicks and upscaled.

    Attributes
    ----------
    coarse : (B, 1, S/4, S/4) float
        Logits that the high-resolution modules start from.
    feature : (B, 32, S/4, S/4) float
        Mask feature; after the Object Embedder for a ``"pisam"`` kind.
    token : (B, 32) float
        Output token.
    iou : (B, M) float
        The network's own estimate of the IoU of each mask in ``low_res``.
    low_res : (B, M, S/4, S/4) float
        SAM-style mask logits; M = 1, or 3 with ``multimask`` (for SAM), or 2 of a network that has
        two answers, the chosen one first.
    is_fine : (B,) bool or None
        Whether the chosen one is that for fine structures, of such a network.
    """

    coarse: Tensor
    feature: Tensor
    token: Tensor
    iou: Tensor
    low_res: Tensor
    is_fine: Tensor | None = None
