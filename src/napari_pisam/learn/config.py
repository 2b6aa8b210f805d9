"""Settings of the training loop, and settings files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

Trains = Literal["modules", "interactor", "both", "decoder", "all"]

UNSTATED = "not stated"
"""The licence of weights of which nobody said one; fine-tuned ones have their base's then."""


class TrainConfig(BaseModel):
    """What the training loop has to know, whatever it trains on.

    Attributes
    ----------
    output
        Folder for checkpoints and the log; created if missing. Nothing is written elsewhere.
    variant
        The variant to train.
    frame
        Side of the training frame, px. A compact encoder runs at any multiple of 32.
    trains
        What may change: the high-resolution modules, what clicks act through, both of these, SAM's
        decoder too, or all.
    frozen_norms
        Keep the statistics of batch norms, which a few images would spoil.
    views
        Draw from this many fixed crops of images, each augmented once, instead of an endless
        stream; 0 for the stream. The frozen encoder's features of a view are computed once and
        kept in ``output/cache``.
    cache_gb
        What that folder may hold, GB.
    batch
        Objects a step, of every process.
    steps
        Steps until the learning rate reaches zero.
    minutes
        Wall-clock budget; the schedule follows whichever of ``steps`` and ``minutes`` is further.
        Only a run without it can be repeated exactly.
    learning_rate, warmup, clip_norm
        Of the optimizer; warm-up steps, and the largest norm of the gradient.
    ema
        Decay of the averaged weights, which are the ones that are kept.
    max_clicks
        Most clicks of one training sample.
    clicks_only, mask_prompt
        Share of steps whose prompt is clicks without a box, or a spoilt mask with a box.
    fewer_clicks
        How likely a sample's clicks end after each one.
    scribbles
        Share of steps whose last correction is a scribble along an error instead of a click.
    workers, seed, save_minutes, validate_minutes
        Loader processes; seed of weights and samples; minutes between checkpoints and between
        validations.
    accelerator
        What Lightning Fabric runs on.
    licence
        Of the trained weights; part of their file.
    """

    model_config = ConfigDict(extra="forbid")

    output: Path
    variant: str = "tiny"
    frame: PositiveInt = 512
    trains: Trains = "all"
    frozen_norms: bool = False
    views: NonNegativeInt = 0
    cache_gb: NonNegativeFloat = 10.0
    batch: PositiveInt = 4
    steps: PositiveInt = 10_000
    minutes: PositiveFloat | None = None
    learning_rate: PositiveFloat = 6e-4
    warmup: int = 200
    clip_norm: PositiveFloat = 1.0
    ema: float = Field(default=0.998, ge=0, lt=1)
    max_clicks: PositiveInt = 6
    clicks_only: float = Field(default=0.1, ge=0, le=1)
    mask_prompt: float = Field(default=0.05, ge=0, le=1)
    fewer_clicks: float = Field(default=0.4, gt=0, le=1)
    scribbles: float = Field(default=0.1, ge=0, le=1)
    workers: NonNegativeInt = 1
    seed: NonNegativeInt = 0
    save_minutes: PositiveFloat = 5.0
    validate_minutes: PositiveFloat = 12.0
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    licence: str = Field(default=UNSTATED, min_length=1)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ValueError
        If there is none, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid TOML ({error}).") from None


def to_toml(settings: BaseModel) -> str:
    """Write flat settings as TOML text; what is None is left out."""
    # Every value is a string, number, or list of these, whose JSON forms are TOML.
    values = settings.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with the settings."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
    )
