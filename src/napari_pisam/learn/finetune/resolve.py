"""From what a user decides, a base and objects to the settings of the training loop."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.finetune.scoring import natural_frame
from napari_pisam.learn.starting import pisam_variant
from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.checkpoint_format import read_checkpoint
from napari_pisam.weights.files import file_sha256
from napari_pisam.weights.models import list_models, network_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.learn.config import Trains
    from napari_pisam.learn.finetune.crops import RunObject
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.model.variants import Variant

_LEAST_FRAME = 128
# A step shows about as many pixels, whatever the side of the pictures.
_PIXELS, _MOST_AT_ONCE = 4 * 256**2, 8
# `all` and `decoder` were chosen by benchmarks/finetune.py on sets that were in no training; the
# others follow `decoder`, with fewer weights to move.
_RATES = {"modules": 5e-4, "interactor": 5e-4, "both": 5e-4, "decoder": 3e-4, "all": 1e-4}
_VIEWS = 200


def base_variant(base: str) -> Variant:
    """Find the variant that a base becomes when it is fine-tuned.

    Raises
    ------
    ValueError
        If there is no such base, or it cannot be fine-tuned.
    """
    return pisam_variant(_own_variant(base))


def _own_variant(base: str) -> Variant:
    name = network_of(base) or read_checkpoint(Path(base)).variant
    if name is None or name not in VARIANTS:
        raise ValueError(f"{base} does not say which network it is of. Choose another base.")
    return VARIANTS[name]


def origin(base: str) -> dict[str, str]:
    """Say what a base is, without telling of this machine: its name, and its file's SHA-256."""
    if network_of(base) is not None:
        known = [row.sha256 for row in list_models() if row.name == base and row.sha256]
        return {"base": base} | ({"base_sha256": known[0]} if known else {})
    return {"base": Path(base).name, "base_sha256": file_sha256(base)}


def largest_frame(settings: FineTuneSettings, variant: Variant) -> int:
    """Return the side of the largest frame that objects are shown in, px."""
    return settings.frame or (variant.frame if variant.focus is None else variant.focus.frame)


def resolve(settings: FineTuneSettings, folder: Path, training: Sequence[RunObject]) -> TrainConfig:
    """Derive the training loop's settings for a base and the objects that train."""
    variant = base_variant(settings.base)
    is_large = variant.encoder.is_pretrained_sam
    trains: Trains = "both" if is_large else "all"
    if settings.trains != "auto":
        trains = settings.trains
    largest = largest_frame(settings, variant)
    # What most of the objects are shown in when they are asked for.
    frames = [natural_frame(known.item, variant.focus, largest) for known in training]
    frame = min(max(statistics.median_low(frames), _LEAST_FRAME), largest)
    batch = settings.batch or max(1, min(_MOST_AT_ONCE, round(_PIXELS / frame**2)))
    steps: dict[str, Any] = {"steps": 1_000_000}
    if settings.epochs is not None:
        steps["steps"] = max(1, -(-settings.epochs * len(training) // batch))
    return TrainConfig(
        output=folder,
        variant=variant.name,
        frame=frame,
        trains=trains,
        frozen_norms=True,
        # A SAM's encoder takes seconds a picture; its features of some views are computed once.
        views=_VIEWS if is_large and trains != "all" else 0,
        cache_gb=settings.cache_gb,
        batch=batch,
        minutes=settings.minutes,
        learning_rate=settings.learning_rate or _RATES[trains],
        warmup=10,
        ema=0.98,
        workers=0,
        seed=settings.seed,
        save_minutes=settings.checkpoint_seconds / 60,
        validate_minutes=settings.validate_seconds / 60,
        accelerator=settings.device,
        licence=settings.licence,
        **steps,
    )
