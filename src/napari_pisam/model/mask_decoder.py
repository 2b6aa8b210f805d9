"""SAM's mask decoder, opened up: it also returns its mask feature and its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_pisam.model.high_resolution_head import build_output, build_upscaling
from napari_pisam.model.layer_norm import LayerNorm2d, use_fused_layer_norms
from napari_pisam.model.object_embedder import ObjectEmbedder
from napari_pisam.model.precise_interactor import PreciseInteractor
from napari_pisam.model.sam_modules import MLP, TwoWayTransformer
from napari_pisam.model.sam_modules import MaskDecoder as _SamMaskDecoder

if TYPE_CHECKING:
    from napari_pisam.model.variants import Variant

WIDTH = 256
FEATURE_WIDTH = WIDTH // 8

_HEAD_ROWS = 32
"""Rows of S/4 that the high-resolution head looks at together on a CPU, to stay in its cache."""


@dataclass(frozen=True)
class DecoderOutput:
    """What one pass through the transformer gives, for B prompts.

    Attributes
    ----------
    sam_logits : (B, 4, S/4, S/4) float
        SAM's mask logits: the single mask, then the three of multimask output.
    iou : (B, 4) float
        SAM's estimate of each mask's IoU.
    hq_logits : (B, 1, S/4, S/4) float or None
        The HQ token's mask logits; ``None`` for a plain SAM.
    feature : (B, 32, S/4, S/4) float
        SAM's upscaled embedding, or the HQ mask feature where there is an HQ branch.
    token : (B, 32) float
        The output token that was multiplied with ``feature``.
    """

    sam_logits: Tensor
    iou: Tensor
    hq_logits: Tensor | None
    feature: Tensor
    token: Tensor


class MaskDecoder(_SamMaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder with HQ-SAM's branch and Pi-SAM's modules where the variant has them.

    Parameter names are those of the published checkpoints.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        use_fused_layer_norms(self.output_upscaling)
        self.kind = variant.kind
        if variant.kind in ("hqsam", "pisam"):
            self._add_hq_branch(variant)
        if variant.kind == "pisam":
            self.embedding_act = nn.Sequential(
                LayerNorm2d(FEATURE_WIDTH),
                nn.Conv2d(FEATURE_WIDTH, FEATURE_WIDTH, 3, padding=1),
                nn.GELU(),
            )
            self.mask_aspp = ObjectEmbedder(FEATURE_WIDTH)
            self.output_upscaling_2 = build_upscaling(FEATURE_WIDTH)
            self.out_act = build_output(zero_init=variant.residual)
            self.interact_2 = PreciseInteractor(FEATURE_WIDTH, click_maps=variant.click_maps)

    def _add_hq_branch(self, variant: Variant) -> None:
        early, width, feature = variant.encoder.early_channels, WIDTH, FEATURE_WIDTH
        self.hf_token = nn.Embedding(1, width)
        self.hf_mlp = MLP(width, width, feature, 3)
        if variant.encoder.early_stride == 16:
            self.compress_vit_feat = nn.Sequential(
                nn.ConvTranspose2d(early, width, kernel_size=2, stride=2),
                LayerNorm2d(width),
                nn.GELU(),
                nn.ConvTranspose2d(width, feature, kernel_size=2, stride=2),
            )
        else:  # the early feature has the mask feature's resolution already
            self.compress_vit_feat = nn.Sequential(
                nn.Conv2d(early, early, 3, padding=1),
                LayerNorm2d(early),
                nn.GELU(),
                nn.Conv2d(early, feature, 1),
            )
        self.embedding_encoder = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, feature, kernel_size=2, stride=2),
        )
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(feature, 2 * feature, 3, padding=1),
            LayerNorm2d(2 * feature),
            nn.GELU(),
            nn.Conv2d(2 * feature, feature, 3, padding=1),
        )

    def image_features(self, embedding: Tensor, early: Tensor) -> Tensor | None:
        """Compute the part of the HQ mask feature that no prompt changes.

        Parameters
        ----------
        embedding : (N, 256, S/16, S/16) float
        early : (N, C, h, w) float

        Returns
        -------
        (N, 32, S/4, S/4) float or None
            None for a plain SAM, which has no such feature.
        """
        if self.kind == "sam":
            return None
        feature: Tensor = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        return feature

    def decode(
        self,
        embedding: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        hq_features: Tensor | None,
        *,
        coarse_source: str = "hq",
    ) -> DecoderOutput:
        """Run the transformer and predict every S/4 mask.

        Parameters
        ----------
        embedding : (N, 256, S/16, S/16) float
            N = B, or 1 for B prompts of one image.
        image_pe : (1, 256, S/16, S/16) float
        sparse : (B, n, 256) float
        dense : (B, 256, S/16, S/16) float
        hq_features : (N, 32, S/4, S/4) float or None
            From `image_features`; ``None`` for a plain SAM.
        """
        batch = sparse.shape[0]
        weights = [self.iou_token.weight, self.mask_tokens.weight]
        # The other tokens see the HQ token: SAM's own masks come out only without it.
        with_hq_token = hq_features is not None and coarse_source != "sam"
        if with_hq_token:
            weights.append(self.hf_token.weight)
        output_tokens = torch.cat(weights).unsqueeze(0).expand(batch, -1, -1)
        tokens = torch.cat([output_tokens, sparse], dim=1)
        source = embedding + dense
        states, source = self.transformer(source, image_pe.expand(batch, -1, -1, -1), tokens)
        height, width = embedding.shape[-2:]
        # A view in channels-last memory: the transformer's output is (B, HW, C).
        source = source.reshape(batch, height, width, WIDTH).permute(0, 3, 1, 2)
        upscaled = self.output_upscaling(source)
        count = self.num_mask_tokens
        hyper = torch.stack(
            [self.output_hypernetworks_mlps[i](states[:, 1 + i]) for i in range(count)], dim=1
        )
        sam_logits = torch.einsum("bmc,bchw->bmhw", hyper, upscaled)
        iou = self.iou_prediction_head(states[:, 0])
        if hq_features is None:
            return DecoderOutput(sam_logits, iou, None, upscaled, hyper[:, 0])
        hq_feature = feature = self.embedding_maskfeature(upscaled) + hq_features
        if self.kind == "pisam":
            feature = self.embedding_act(feature)
        token = self.hf_mlp(states[:, 1 + count]) if with_hq_token else hyper[:, 0]
        # HQ-SAM multiplies its token with the feature before Pi-SAM's activation.
        source_feature = hq_feature if coarse_source == "sam+hq" else feature
        hq_logits = torch.einsum("bc,bchw->bhw", token, source_feature).unsqueeze(1)
        return DecoderOutput(sam_logits, iou, hq_logits, feature, token)

    def upscale(self, feature: Tensor, rgb: Tensor) -> Tensor:
        """High-resolution logits from a mask feature.

        Parameters
        ----------
        feature : (B, 32, S/4, S/4) float
        rgb : (N, 8, S, S) float
            N = B or 1.

        Returns
        -------
        (B, 1, S, S) float
        """
        height = feature.shape[2]
        if feature.device.type != "cpu" or torch.is_grad_enabled() or height <= _HEAD_ROWS:
            return self._head(feature, rgb)
        strips = []
        for first in range(0, height, _HEAD_ROWS):
            last = min(first + _HEAD_ROWS, height)
            # One row more at each edge than is kept: the convolutions reach 2 px, half of it.
            top, bottom = max(0, first - 1), min(height, last + 1)
            strip = self._head(feature[:, :, top:bottom], rgb[:, :, 4 * top : 4 * bottom])
            strips.append(strip[:, :, 4 * (first - top) : 4 * (last - top)])
        return torch.cat(strips, dim=2)

    def _head(self, feature: Tensor, rgb: Tensor) -> Tensor:
        logits: Tensor = self.out_act(self.output_upscaling_2(feature) + rgb)
        return logits
