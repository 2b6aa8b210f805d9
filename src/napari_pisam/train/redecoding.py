"""SAM and HQ-SAM behind Pi-SAM's stages, so that one loop trains and validates all three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_pisam.model.pisam import PiSam
from napari_pisam.model.states import Decoded

if TYPE_CHECKING:
    from torch import Tensor

    from napari_pisam.model.states import EncodedImage
    from napari_pisam.model.variants import Variant


@dataclass(frozen=True)
class DecodedPrompts(Decoded):
    """Decoded prompts that remember their box, (B, 4) float frame px, for the next decoding."""

    boxes: Tensor | None = None


class RedecodingSam(PiSam):
    """A SAM or HQ-SAM that is corrected as its predictor corrects it.

    Where a Pi-SAM sends clicks through its interactor, these are decoded again, with the box, all
    clicks, and the mask from before the clicks as a prompt.
    """

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> DecodedPrompts:
        """Decode; see `PiSam.decode`."""
        found = super().decode(
            image, boxes=boxes, points=points, labels=labels, masks=masks, multimask=multimask
        )
        return DecodedPrompts(
            found.coarse, found.feature, found.token, found.iou, found.low_res, boxes
        )

    def refine(
        self, image: EncodedImage, decoded: Decoded, points: Tensor, labels: Tensor
    ) -> Tensor:
        """Decode again with clicks.

        Returns
        -------
        (B, 1, S/4, S/4) float
            Logits, for `upscale`.
        """
        boxes = decoded.boxes if isinstance(decoded, DecodedPrompts) else None
        again = super().decode(
            image,
            boxes=boxes,
            points=points,
            labels=labels,
            masks=None if boxes is None else decoded.low_res[:, :1].detach(),
        )
        return again.low_res[:, :1]

    def upscale(
        self,
        image: EncodedImage,
        decoded: Decoded,
        feature: Tensor | None = None,
        region: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Enlarge the logits of `refine`, or the decoded ones; see `PiSam.upscale`."""
        if feature is None:
            return super().upscale(image, decoded)
        size = (self.frame, self.frame)
        return F.interpolate(feature, size, mode="bilinear", align_corners=False)


def build_redecoding(variant: Variant, *, seed: int = 0) -> RedecodingSam:
    """Build a SAM or HQ-SAM with random weights, in eval mode, as `build_model` does.

    Raises
    ------
    ValueError
        If the variant has an interactor.
    """
    if variant.kind == "pisam":
        raise ValueError(f"{variant.name!r} is a Pi-SAM, which has an interactor: build_model().")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RedecodingSam(variant)
    return model.to(memory_format=torch.channels_last).eval()
