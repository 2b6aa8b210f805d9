"""The paper's Table 6: frames a second, FLOPs, parameters, and the share that is trained."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from napari_pisam.model.fused_gelu import flop_formulas
from napari_pisam.predict.embedding_cache import EmbeddingCache
from napari_pisam.predict.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.model.pisam import PiSam

# SAM's own parts, which stay frozen when one of its models is fine-tuned.
_SAM_PARTS = (
    "image_encoder.",
    "prompt_encoder.",
    "mask_decoder.transformer.",
    "mask_decoder.iou_token.",
    "mask_decoder.mask_tokens.",
    "mask_decoder.output_upscaling.",
    "mask_decoder.output_hypernetworks_mlps.",
    "mask_decoder.iou_prediction_head.",
)


@dataclass(frozen=True)
class Efficiency:
    """What a model costs.

    Attributes
    ----------
    fps : float
        Images a second: encoding and one box, median.
    flops : int
        Of the same, two for a multiplication with its addition. Matrix products, convolutions and
        attention are counted; sampling and element-wise work is not. The paper's "FLOPs" are half
        of this.
    parameters : int
    learnable : float
        Share of the parameters, 0..1, that fine-tuning changes: all but SAM's own.
    """

    fps: float
    flops: int
    parameters: int
    learnable: float

    def as_json(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)


def count_parameters(model: PiSam) -> tuple[int, float]:
    """Count a model's parameters, and the share of them (0..1) that fine-tuning changes.

    Everything of a plain SAM, and of a model that is no SAM underneath, is counted as learnable.
    """
    everything = frozen = 0
    for name, parameter in model.named_parameters():
        everything += parameter.numel()
        frozen += parameter.numel() if name.startswith(_SAM_PARTS) else 0
    if frozen == everything or not model.variant.encoder.is_pretrained_sam:
        return everything, 1.0
    return everything, (everything - frozen) / everything


def count_flops(run: Callable[[], Any]) -> int:
    """Count the floating-point operations of a call; see `Efficiency.flops`."""
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        run()
    return int(counter.get_total_flops())


def measure(
    model: PiSam, device: str = "auto", precision: str = "auto", repeats: int = 5
) -> Efficiency:
    """Measure a model on a random image of its frame's size, with a box around half of it.

    Parameters
    ----------
    model : PiSam
    device, precision : str
        As for `Predictor`.
    repeats : int
        How often it is timed; one more turn before is not.
    """
    side = model.variant.frame
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    low, high = side * 0.15, side * 0.85

    def run(predictor: Predictor) -> None:
        predictor.set_image(image)
        predictor.predict(box=(low, low, high, high))

    # Without a cache: the same picture is encoded each time. The numbers of operations are the
    # same in any precision, and what counts them takes operations apart that autocast looks after.
    exact = Predictor(model, device, "fp32", cache=EmbeddingCache(0))
    flops = count_flops(lambda: run(exact))
    predictor = Predictor(model, device, precision, cache=EmbeddingCache(0))
    run(predictor)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run(predictor)
        seconds.append(time.perf_counter() - started)
    parameters, learnable = count_parameters(predictor.model)
    return Efficiency(1 / float(np.median(seconds)), flops, parameters, learnable)
