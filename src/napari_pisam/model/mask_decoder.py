"""The decoders, one for each kind of network: SAM's, HQ-SAM's and Pi-SAM's.

Each is the one before it with more modules. All answer the same three calls (`image_features`,
`decode`, `upscale`); parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.high_resolution_head import build_output, build_upscaling
from napari_pisam.model.layer_norm import LayerNorm2d, use_fused_layer_norms
from napari_pisam.model.object_embedder import ObjectEmbedder
from napari_pisam.model.precise_interactor import PreciseInteractor
from napari_pisam.model.sam_modules import MLP, TwoWayTransformer
from napari_pisam.model.sam_modules import MaskDecoder as _SamMaskDecoder
from napari_pisam.model.states import Decoded

if TYPE_CHECKING:
    from napari_pisam.model.states import EmbeddedPrompts, EncodedImage
    from napari_pisam.model.variants import CoarseSource, Kind, Variant

WIDTH = 256
FEATURE_WIDTH = WIDTH // 8

_HEAD_ROWS = 32
"""Rows of S/4 that the high-resolution head looks at together on a CPU, to stay in its cache."""


def _product(token: Tensor, feature: Tensor) -> Tensor:
    """Logits (B, 1, H, W) of a token (B, C) in a feature (B, C, H, W)."""
    return torch.einsum("bc,bchw->bhw", token, feature).unsqueeze(1)


def _enlarged(logits: Tensor) -> Tensor:
    """From S/4 to S."""
    size = [4 * side for side in logits.shape[2:]]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def _second_is_likelier(logits: Tensor, iou: Tensor, known: Tensor | None) -> Tensor:
    """Whether the second of two answers is the likelier one, (B,) bool.

    That with more in common with what is known of the object, (B, 1, S/4, S/4) logits; else that
    with the higher estimate of its IoU, (B, 2).
    """
    if known is not None:
        found, true = logits > 0, known > 0
        shared, either = (part.flatten(2).sum(2) for part in (found & true, found | true))
        iou = shared / either.clamp(min=1)
    return iou[:, 1] > iou[:, 0]


@dataclass(frozen=True)
class SamMasks:
    """What SAM's own part says of B prompts.

    Attributes
    ----------
    logits : (B, 4, S/4, S/4) float
        The single mask, then the three of multimask output.
    iou : (B, 4) float
        SAM's estimate of each mask's IoU.
    tokens : (B, 4, 32) float
        Whose products with ``feature`` are the logits.
    feature : (B, 32, S/4, S/4) float
        The upscaled embedding.
    further : (B, n, 256) float
        What the transformer made of the tokens beside SAM's own.
    """

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    feature: Tensor
    further: Tensor

    def best(self, multimask: bool) -> tuple[Tensor, Tensor]:
        """Return the single mask, or the best of the three, (B, 1, S/4, S/4), and its IoU."""
        if not multimask:
            return self.logits[:, :1], self.iou[:, :1]
        iou, place = self.iou[:, 1:].max(dim=1, keepdim=True)
        place = place[..., None, None].expand(-1, -1, *self.logits.shape[2:])
        return torch.gather(self.logits[:, 1:], 1, place), iou


class SamDecoder(_SamMaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder, which also returns its mask feature and its tokens."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        use_fused_layer_norms(self.output_upscaling)

    def image_features(self, embedding: Tensor, early: Tensor) -> Tensor | None:
        """Compute the part of the mask feature that no prompt changes.

        Parameters
        ----------
        embedding : (N, 256, S/16, S/16) float
        early : (N, C, h, w) float

        Returns
        -------
        (N, 32, S/4, S/4) float or None
            None where there is no such part.
        """
        return None

    def decode(
        self,
        image: EncodedImage,
        prompts: EmbeddedPrompts,
        *,
        coarse_source: CoarseSource = "hq",
        multimask: bool = False,
        wants_fine: Tensor | None = None,
    ) -> Decoded:
        """Decode B prompts of one image, or one prompt of each of B images.

        Parameters
        ----------
        image, prompts
            What `PiSam` made of them.
        coarse_source
            See `Variant`; only a Pi-SAM's decoder has a choice.
        multimask
            SAM: its three alternatives; the others: the best of them.
        wants_fine
            Only a Pi-SAM's decoder with two answers has a choice; see `PiSam.decode`.
        """
        masks = self.sam_masks(image, prompts)
        chosen = slice(1, None) if multimask else slice(1)
        logits = masks.logits[:, chosen]
        return Decoded(
            logits[:, :1], masks.feature, masks.tokens[:, 0], masks.iou[:, chosen], logits
        )

    def sam_masks(
        self, image: EncodedImage, prompts: EmbeddedPrompts, *more_tokens: Tensor
    ) -> SamMasks:
        """Run the transformer; SAM's own tokens see what is given beside them, (1, 256) each."""
        batch = prompts.sparse.shape[0]
        weights = torch.cat([self.iou_token.weight, self.mask_tokens.weight, *more_tokens])
        tokens = torch.cat([weights.unsqueeze(0).expand(batch, -1, -1), prompts.sparse], dim=1)
        states, source = self.transformer(
            image.embedding + prompts.dense, prompts.position.expand(batch, -1, -1, -1), tokens
        )
        height, width = image.embedding.shape[-2:]
        # A view in channels-last memory: the transformer's output is (B, HW, C).
        source = source.reshape(batch, height, width, WIDTH).permute(0, 3, 1, 2)
        feature = self.output_upscaling(source)
        hyper = torch.stack(
            [mlp(states[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = torch.einsum("bmc,bchw->bmhw", hyper, feature)
        iou = self.iou_prediction_head(states[:, 0])
        further = states[:, 1 + len(self.output_hypernetworks_mlps) : weights.shape[0]]
        return SamMasks(logits, iou, hyper, feature, further)

    def upscale(
        self,
        image: EncodedImage,
        decoded: Decoded,
        *,
        residual: bool = False,
        region: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Logits at the frame's resolution, (B, M, S, S) float; see `PiSam.upscale`."""
        return _enlarged(decoded.low_res)


class HqSamDecoder(SamDecoder):
    """With HQ-SAM's branch: a token more, and a feature with what the encoder saw early."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
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
        """Compute the part of the mask feature that no prompt changes, (N, 32, S/4, S/4)."""
        feature: Tensor = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        return feature

    def hq_feature(self, image: EncodedImage, masks: SamMasks) -> Tensor:
        """HQ-SAM's mask feature, (B, 32, S/4, S/4)."""
        feature: Tensor = self.embedding_maskfeature(masks.feature) + image.hq_features
        return feature

    def decode(
        self,
        image: EncodedImage,
        prompts: EmbeddedPrompts,
        *,
        coarse_source: CoarseSource = "hq",
        multimask: bool = False,
        wants_fine: Tensor | None = None,
    ) -> Decoded:
        """Add the HQ token's logits to SAM's own."""
        masks = self.sam_masks(image, prompts, self.hf_token.weight)
        feature, token = self.hq_feature(image, masks), self.hf_mlp(masks.further[:, -1])
        logits, iou = masks.best(multimask)
        coarse = logits + _product(token, feature)
        return Decoded(coarse, feature, token, iou, coarse)


class PiSamDecoder(HqSamDecoder):
    """With Pi-SAM's modules: an object embedder, a high-resolution head and an interactor."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.embedding_act = nn.Sequential(
            LayerNorm2d(FEATURE_WIDTH),
            nn.Conv2d(FEATURE_WIDTH, FEATURE_WIDTH, 3, padding=1),
            nn.GELU(),
        )
        self.mask_aspp = ObjectEmbedder(FEATURE_WIDTH)
        self.output_upscaling_2 = build_upscaling(FEATURE_WIDTH)
        self.out_act = build_output(zero_init=variant.residual)
        self.interact_2 = PreciseInteractor(FEATURE_WIDTH, click_maps=variant.click_maps)
        self.has_fine_answer = variant.fine_answer
        if variant.fine_answer:
            self.fine_token = nn.Embedding(1, WIDTH)
            self.fine_mlp = MLP(WIDTH, WIDTH, FEATURE_WIDTH, 3)

    def decode(
        self,
        image: EncodedImage,
        prompts: EmbeddedPrompts,
        *,
        coarse_source: CoarseSource = "hq",
        multimask: bool = False,
        wants_fine: Tensor | None = None,
    ) -> Decoded:
        """Tell the mask feature what the coarse logits say."""
        # The other tokens see the HQ token: SAM's own masks come out only without it.
        more = () if coarse_source == "sam" else (self.hf_token.weight,)
        if self.has_fine_answer:
            more = (self.fine_token.weight, *more)
        masks = self.sam_masks(image, prompts, *more)
        hq_feature = self.hq_feature(image, masks)
        feature = self.embedding_act(hq_feature)
        coarse, iou = masks.best(multimask)
        token = masks.tokens[:, 0]
        if coarse_source != "sam":
            token = self.hf_mlp(masks.further[:, -1])
        if coarse_source == "hq":
            coarse = _product(token, feature)
        elif coarse_source == "sam+hq":
            # HQ-SAM multiplies its token with the feature before Pi-SAM's activation.
            coarse = coarse + _product(token, hq_feature)
        other = token
        if self.has_fine_answer:
            other = self.fine_mlp(masks.further[:, 0])
            coarse, iou = torch.cat([coarse, _product(other, feature)], dim=1), masks.iou[:, :2]
        for added in prompts.coarse:
            coarse = coarse + added
        if self.has_fine_answer:
            if wants_fine is None:
                wants_fine = _second_is_likelier(coarse, iou, prompts.known)
            coarse = torch.where(wants_fine[:, None, None, None], coarse.flip(1), coarse)
            iou = torch.where(wants_fine[:, None], iou.flip(1), iou)
            token = torch.where(wants_fine[:, None], other, token)
        if prompts.feature is not None:
            feature = feature + prompts.feature
        chosen = coarse[:, :1]
        feature = self.mask_aspp(feature, chosen)
        return Decoded(chosen, feature, token, iou, coarse, wants_fine)

    def upscale(
        self,
        image: EncodedImage,
        decoded: Decoded,
        *,
        residual: bool = False,
        region: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Logits of the high-resolution head, (B, 1, S, S) float; see `PiSam.upscale`."""
        feature, rgb = decoded.feature, image.rgb
        assert rgb is not None  # an image that a Pi-SAM encoded has it
        if not residual:
            return self.head(feature, rgb)
        coarse = _enlarged(decoded.coarse)
        if region is None:
            return coarse + self.head(feature, rgb)
        # One cell more at each edge than is kept: the head's convolutions reach 2 px.
        row0, col0, row1, col1 = region
        top, left = max(0, row0 - 1), max(0, col0 - 1)
        head = self.head(
            feature[:, :, top : row1 + 1, left : col1 + 1],
            rgb[:, :, 4 * top : 4 * row1 + 4, 4 * left : 4 * col1 + 4],
        )
        kept = head[:, :, 4 * (row0 - top) :, 4 * (col0 - left) :]
        coarse[:, :, 4 * row0 : 4 * row1, 4 * col0 : 4 * col1] += kept[
            :, :, : 4 * (row1 - row0), : 4 * (col1 - col0)
        ]
        return coarse

    def head(self, feature: Tensor, rgb: Tensor) -> Tensor:
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


DECODERS: dict[Kind, type[SamDecoder]] = {
    "sam": SamDecoder,
    "hqsam": HqSamDecoder,
    "pisam": PiSamDecoder,
}
