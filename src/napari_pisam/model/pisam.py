"""The whole network: encode -> decode -> correct -> upscale. SAM and HQ-SAM are special cases."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_pisam.model.appearance_prior import AppearancePrior, appearance
from napari_pisam.model.high_resolution_head import build_rgb_embedding
from napari_pisam.model.layer_norm import use_fused_layer_norms
from napari_pisam.model.mask_decoder import DECODERS, FEATURE_WIDTH, WIDTH
from napari_pisam.model.prompt_encoder import PromptEncoder
from napari_pisam.model.states import Decoded, EmbeddedPrompts, EncodedImage
from napari_pisam.model.variants import get_variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.model.variants import Variant

__all__ = ["Decoded", "EncodedImage", "PiSam", "build_model"]

# SAM's pixel statistics, for RGB in 0..255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class PiSam(nn.Module):
    """SAM, HQ-SAM or Pi-SAM, as its variant says.

    Points and boxes are (x, y) in px of the square frame with pixel centres at +0.5.

    Parameters
    ----------
    variant
        What to build. The weights are random.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.frame = variant.frame
        self.image_encoder = variant.encoder.build(variant.frame)
        grid = variant.frame // 16
        self.prompt_encoder = PromptEncoder(
            embed_dim=WIDTH,
            image_embedding_size=(grid, grid),
            input_image_size=(variant.frame, variant.frame),
            mask_in_chans=16,
        )
        use_fused_layer_norms(self.prompt_encoder)
        self.mask_decoder = DECODERS[variant.kind](variant)
        if variant.box_maps:
            # How far the coarse logits start from the drawn box or the mask prompt.
            self.prior_gain = nn.Parameter(torch.tensor(0.2))
        self.appearance_prior = (
            AppearancePrior(WIDTH, FEATURE_WIDTH) if variant.appearance_prior else None
        )
        self.rgb_embedding = build_rgb_embedding() if variant.has_interactor else None
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def at_frame(self, frame: int) -> PiSam:
        """Return the same network, sharing all weights, for another frame.

        Parameters
        ----------
        frame
            Side of the square frame, px; a multiple of the encoder's step.

        Raises
        ------
        ValueError
            If the encoder has position codes for one frame only, or if the frame does not fit.
        """
        if frame == self.frame:
            return self
        encoder = self.variant.encoder
        if not encoder.takes_any_frame or frame % encoder.frame_step or frame < encoder.frame_step:
            takes = (
                f"any multiple of {encoder.frame_step} px" if encoder.takes_any_frame else "none"
            )
            msg = (
                f"{self.variant.name!r} has a frame of {self.frame} px and cannot be used at "
                f"{frame}. Other frames that it takes: {takes}."
            )
            raise ValueError(msg)
        # Shallow copies share parameters and buffers, also after a move to another device.
        view = copy.copy(self)
        view.frame, view.variant = frame, replace(self.variant, frame=frame)
        prompts = copy.copy(self.prompt_encoder)
        prompts.image_embedding_size = (frame // 16, frame // 16)
        prompts.input_image_size = (frame, frame)
        prompts.mask_input_size = (frame // 4, frame // 4)
        view._modules = {**self._modules, "prompt_encoder": prompts}
        return view

    @property
    def has_interactor(self) -> bool:
        """Whether clicks correct what was decoded; otherwise they are decoded themselves."""
        return self.variant.has_interactor

    @property
    def offers_alternatives(self) -> bool:
        """Whether one click gets several masks to choose from: it may mean a part or the whole."""
        return not self.has_interactor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def encode(
        self,
        image: Tensor,
        *,
        valid: Tensor | None = None,
        features: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> EncodedImage:
        """Encode images; everything that no prompt changes happens here.

        Parameters
        ----------
        image : (N, 3, h, w) float or uint8
            RGB in 0..255, at most ``frame`` px high and wide. Normalised and padded with zeros
            at the right and the bottom here.
        valid : (N, 1, h, w) float, optional
            1 in the images, 0 where they were padded already.
        features : callable, optional
            Gives embedding and early feature of normalised, padded images in the image encoder's
            place.

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        if image.ndim != 4 or image.shape[1] != 3 or max(image.shape[2:]) > self.frame:
            msg = (
                f"The image has shape {tuple(image.shape)}; expected (N, 3, h, w) with h and w "
                f"at most {self.frame}. Resize it so that its longer side is {self.frame} px."
            )
            raise ValueError(msg)
        height, width = image.shape[2:]
        x = (image.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        if valid is not None:
            x = x * valid
        x = F.pad(x, (0, self.frame - width, 0, self.frame - height))
        x = x.contiguous(memory_format=torch.channels_last)
        if features is None:
            embedding, early = self.image_encoder.forward_features(x)  # type: ignore[operator]
        else:
            embedding, early = features(x)
        hq_features = self.mask_decoder.image_features(embedding, early)
        rgb = None if self.rgb_embedding is None else self.rgb_embedding(x)
        bins = None if self.appearance_prior is None else appearance(image, self.frame)
        return EncodedImage(embedding, hq_features, rgb, (height, width), bins)

    def _embed(
        self,
        image: EncodedImage,
        boxes: Tensor | None,
        points: Tensor | None,
        labels: Tensor | None,
        masks: Tensor | None,
    ) -> EmbeddedPrompts:
        drawn, known = None, masks
        if self.variant.box_maps and boxes is not None:
            drawn = self._draw_boxes(boxes)
            masks = drawn if masks is None else masks
        if boxes is None and points is None and masks is None:
            msg = "There is no prompt: give boxes, points with labels, or masks."
            raise ValueError(msg)
        if (points is None) != (labels is None):
            msg = "Points and labels belong together: give both or neither."
            raise ValueError(msg)
        # segment_anything counts pixel centres at integers and adds the half itself.
        pair = None if points is None or labels is None else (points - 0.5, labels)
        sparse, dense = self.prompt_encoder(
            points=pair, boxes=None if boxes is None else boxes - 0.5, masks=masks
        )
        position = self.prompt_encoder.get_dense_pe().to(image.embedding.dtype)
        feature, coarse = None, []
        if self.variant.box_maps and masks is not None:
            coarse.append(self.prior_gain * masks)
        if self.appearance_prior is not None and image.bins is not None and masks is not None:
            inside = masks.clamp(-10, 10) / 20 + 0.5
            within = None if drawn is None else drawn / 20 + 0.5
            embedding, feature, likely = self.appearance_prior(image.bins, inside, within)
            dense = dense + embedding
            coarse.append(likely)
        return EmbeddedPrompts(sparse, dense, position, feature, tuple(coarse), known)

    def _draw_boxes(self, boxes: Tensor) -> Tensor:
        """Boxes as mask logits: (B, 4) frame px -> (B, 1, S/4, S/4), -10 outside to 10 inside."""
        edges = torch.arange(0, self.frame + 4, 4, device=boxes.device, dtype=boxes.dtype)
        low, high = edges[:-1], edges[1:]
        xs, ys = (
            (torch.minimum(high, boxes[:, i + 2, None]) - torch.maximum(low, boxes[:, i, None]))
            .clamp(min=0)
            .div(4)
            for i in (0, 1)
        )
        return (20 * ys[:, :, None] * xs[:, None, :] - 10).unsqueeze(1)

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
        wants_fine: Tensor | None = None,
    ) -> Decoded:
        """Decode B prompts of one image, or one prompt of each of B images.

        Parameters
        ----------
        image
            From `encode`.
        boxes : (B, 4) float, optional
            (x0, y0, x1, y1), frame px.
        points : (B, n, 2) float, optional
            (x, y), frame px.
        labels : (B, n) int, optional
            1 FG, 0 BG, -1 padding.
        masks : (B, 1, S/4, S/4) float, optional
            Logits of an earlier mask.
        multimask
            Give SAM's three alternatives (``"sam"``), or the best of them (``"hqsam"``).
        wants_fine : (B,) bool, optional
            Of a network with two answers (`Variant.fine_answer`), the one for fine structures;
            without it, the answer that agrees better with ``masks``, or without those the one
            whose IoU the network estimates higher.

        Raises
        ------
        ValueError
            If there is no prompt.
        """
        return self.mask_decoder.decode(
            image,
            self._embed(image, boxes, points, labels, masks),
            coarse_source=self.variant.coarse_source,
            multimask=multimask,
            wants_fine=wants_fine,
        )

    def correct(
        self,
        image: EncodedImage,
        decoded: Decoded,
        points: Tensor,
        labels: Tensor,
        *,
        boxes: Tensor | None = None,
    ) -> Decoded:
        """Correct what was decoded by clicks.

        Kinds without an interactor are decoded again, with the boxes, all clicks, and the mask from
        before them as a prompt; clicks alone get no mask.

        Parameters
        ----------
        image
            From `encode`.
        decoded
            From `decode`.
        points : (B, n, 2) float
            (x, y), frame px. All clicks of the object at once.
        labels : (B, n) int
            1 FG, 0 BG, -1 padding.
        boxes : (B, 4) float, optional
            The boxes that were decoded; an interactor does without.

        Returns
        -------
        Decoded
            For `upscale`.
        """
        if not self.has_interactor:
            earlier = None if boxes is None else decoded.low_res[:, :1].detach()
            return self.decode(image, boxes=boxes, points=points, labels=labels, masks=earlier)
        relative = points / self.frame
        if self.variant.click_order == "rc":
            relative = relative.flip(-1)
        feature = self.mask_decoder.interact_2(decoded.feature, decoded.token, relative, labels)
        return replace(decoded, feature=feature)

    def upscale(
        self,
        image: EncodedImage,
        decoded: Decoded,
        region: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Logits at the frame's full resolution.

        Parameters
        ----------
        image
            From `encode`.
        decoded
            From `decode` or `correct`.
        region : (int, int, int, int), optional
            (row0, col0, row1, col1), half open, cells of S/4: where the high-resolution head is
            needed. Elsewhere a residual variant gives its enlarged coarse logits; other variants
            ignore it.

        Returns
        -------
        (B, M, S, S) float
            M = 1, or SAM's 3 with multimask. For SAM and HQ-SAM the bilinear enlargement of
            their own logits.
        """
        logits: Tensor = self.mask_decoder.upscale(
            image, decoded, residual=self.variant.residual, region=region
        )
        return logits


def build_model(variant: Variant | str, *, seed: int = 0) -> PiSam:
    """Build a variant with random weights, in eval mode.

    Parameters
    ----------
    variant
        A variant or its name.
    seed
        Seed of the weights; the caller's random state is left as it was.
    """
    if isinstance(variant, str):
        variant = get_variant(variant)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PiSam(variant)
    return model.to(memory_format=torch.channels_last).eval()
