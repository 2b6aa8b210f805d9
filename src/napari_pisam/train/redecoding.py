"""SAM and HQ-SAM behind Pi-SAM's stages, so that one loop trains and validates all three."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_pisam.model.pisam import PiSam

if TYPE_CHECKING:
    from torch import Tensor

    from napari_pisam.model.states import Decoded, EncodedImage
    from napari_pisam.model.variants import Variant


class RedecodingSam(PiSam):
    """A SAM or HQ-SAM that is corrected as its predictor corrects it.

    Where a Pi-SAM sends clicks through its interactor, these are decoded again, with the box, all
    clicks, and the mask from before the clicks as a prompt.
    """

    def correct(
        self,
        image: EncodedImage,
        decoded: Decoded,
        points: Tensor,
        labels: Tensor,
        *,
        boxes: Tensor | None = None,
    ) -> Decoded:
        """Decode again with clicks; see `PiSam.correct`. Clicks alone get no mask either."""
        earlier = None if boxes is None else decoded.low_res[:, :1].detach()
        return self.decode(image, boxes=boxes, points=points, labels=labels, masks=earlier)


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
