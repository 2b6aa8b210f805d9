"""What trains in a fine-tuning, its averaged copy, and a checkpoint without what is frozen."""

from __future__ import annotations

import copy
import pickle
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_pisam.learn.encoding import TRAINED_ON_A_BASE
from napari_pisam.learn.finetune.layout import CHECKPOINT
from napari_pisam.learn.finetune.scoring import natural_frame
from napari_pisam.learn.finetune.settings import FineTuneSettings, train_config
from napari_pisam.learn.run_state import PRIVATE, Ema, Run, save_whole
from napari_pisam.learn.starting import pisam_variant
from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.checkpoint import file_sha256, read_checkpoint, save_checkpoint
from napari_pisam.weights.models import list_models, network_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.finetune.material import TuneObject
    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Variant

INTERACTOR = "mask_decoder.interact_2."
_LEAST_FRAME = 128
# A step shows about as many pixels, whatever the side of the pictures.
_PIXELS, _MOST_AT_ONCE = 4 * 256**2, 8
# `all` and `decoder` were chosen by benchmarks/finetune.py on sets that were in no training; the
# others follow `decoder`, with fewer weights to move.
_RATES = {"modules": 5e-4, "interactor": 5e-4, "both": 5e-4, "decoder": 3e-4, "all": 1e-4}
_VIEWS = 200


def base_variant(base: str) -> Variant:
    """Give the variant that a base becomes when it is fine-tuned.

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
    """Give the side of the largest frame that objects are shown in, px."""
    return settings.frame or (variant.frame if variant.focus is None else variant.focus.frame)


def resolve(
    settings: FineTuneSettings, folder: Path, training: Sequence[TuneObject]
) -> TrainConfig:
    """Give the training loop's settings for a base and the objects that train."""
    variant = base_variant(settings.base)
    is_large = variant.encoder.is_pretrained_sam
    largest = largest_frame(settings, variant)
    # What most of the objects are shown in when they are asked for.
    frames = [natural_frame(known.item, variant.focus, largest) for known in training]
    frame = min(max(statistics.median_low(frames), _LEAST_FRAME), largest)
    batch = settings.batch or max(1, min(_MOST_AT_ONCE, round(_PIXELS / frame**2)))
    changes: dict[str, Any] = {
        "variant": variant.name,
        "frame": frame,
        "batch": batch,
        "learning_rate": settings.learning_rate or _RATES[settings.trains],
    }
    if is_large and settings.trains != "all":
        # Its encoder takes seconds a picture; what it says of some views is computed once.
        changes["views"] = _VIEWS
    if settings.epochs is not None:
        changes["steps"] = max(1, -(-settings.epochs * len(training) // batch))
    return train_config(settings, folder, **changes)


def narrow(model: PiSam, settings: FineTuneSettings) -> None:
    """Freeze what the settings leave alone, beyond what the training loop's own settings freeze."""
    for name, parameter in model.named_parameters():
        is_interactor = name.startswith(INTERACTOR)
        if settings.trains == "modules" and is_interactor:
            parameter.requires_grad_(False)
        if settings.trains == "interactor" and not is_interactor:
            parameter.requires_grad_(False)


class TuningEma(Ema):
    """Averages what trains, and shares with the model what does not."""

    def __init__(self, model: PiSam, decay: float) -> None:
        still = [p for p in model.parameters() if not p.requires_grad]
        memo: dict[int, Any] = {id(value): value for value in (*still, *model.buffers())}
        self.model = copy.deepcopy(model, memo).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.decay = decay
        self._trained = {name for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: PiSam, step: int) -> None:
        """Move towards the weights after the step of this number."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = dict(model.named_parameters())
        for name, own in self.model.named_parameters():
            if name in self._trained:
                own.lerp_(new[name], 1 - decay)


@dataclass
class TuningRun(Run):
    """A run whose checkpoint leaves out what is frozen, and remembers what was validated.

    Attributes
    ----------
    batch
        Objects a step, after halving.
    memory
        Scores and points of the curves, as JSON would hold them.
    """

    batch: int = 0
    memory: dict[str, Any] = field(default_factory=dict)

    def save(self, output: Path) -> None:
        """Write ``last.pt``, whole or not at all."""
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        state = {
            part: {name: v for name, v in model.state_dict().items() if name in trained}
            for part, model in (("model", self.model), ("ema", self.ema.model))
        }
        content: dict[str, Any] = {
            **state,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "position": self.position,
            "elapsed": self.elapsed,
            "best_step": self.best_step,
            "batch": self.batch,
            "memory": self.memory,
        }
        save_whole(output / CHECKPOINT, content)

    def restore(self, output: Path, samples_a_step: int) -> None:
        """Read ``last.pt``.

        Raises
        ------
        ValueError
            If it is of another network, or damaged.
        """
        path = output / CHECKPOINT
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            for model, part in ((self.model, "model"), (self.ema.model, "ema")):
                unknown = model.load_state_dict(state[part], strict=False).unexpected_keys
                if unknown or not state[part]:
                    raise ValueError(f"it holds {unknown[:1] or 'nothing'}")
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.position = state["step"], state["position"]
            self.elapsed, self.best_step = state["elapsed"], state["best_step"]
            self.batch, self.memory = state["batch"], state["memory"]
        except (
            RuntimeError,
            KeyError,
            EOFError,
            ValueError,
            OSError,
            pickle.UnpicklingError,
        ) as error:
            first = str(error).partition("\n")[0]
            raise ValueError(
                f"{path} does not fit this run ({first}). The base may have changed since; start "
                "a new run."
            ) from error


def write_weights(
    path: Path,
    run: TuningRun,
    config: TrainConfig,
    settings: FineTuneSettings,
    base_sha256: str | None,
    summary: dict[str, Any],
) -> None:
    """Write the averaged weights with a header that says where they come from.

    Weights on top of a public SAM leave that SAM out, unless its own decoder learnt too.
    """
    variant = VARIANTS[config.variant]
    model = run.ema.model
    only: list[str] = []
    if base_sha256 is not None and settings.trains in ("modules", "interactor", "both"):
        names = list(model.state_dict())
        only = [p for p in TRAINED_ON_A_BASE if any(name.startswith(p) for name in names)]
    about = settings.model_dump(mode="json", exclude=PRIVATE, exclude_none=True)
    save_checkpoint(
        path,
        # The frame of training is not the frame of use: the weights fit any.
        model.state_dict(),
        variant=_used(variant, model.variant),
        licence=config.licence,
        training_summary=about | summary,
        base_sha256=base_sha256 if only else None,
        only=only,
    )


def _used(variant: Variant, trained: Variant) -> Variant:
    """Give the variant in its own frame, with the switches of the weights."""
    return replace(trained, frame=variant.frame)
