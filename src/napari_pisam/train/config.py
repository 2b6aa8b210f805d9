"""Settings of a training run; they round-trip through TOML."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class TrainConfig(BaseModel):
    """One training run.

    Attributes
    ----------
    data
        Folder with ``sets/``, ``cutouts/`` and ``textures/``.
    output
        Folder for checkpoints and the log; created if missing.
    variant
        The variant to train.
    frame
        Side of the training frame, px. A compact encoder runs at any multiple of 32.
    initial
        Weights to start from: ``last.pt`` of an earlier run, e.g. one at a smaller frame, or a
        ``.safetensors`` file, e.g. the embedded model's.
    initial_part
        Which weights of ``last.pt``: the averaged ones, or the last ones.
    batch
        Objects a step.
    steps
        Steps until the learning rate reaches zero.
    minutes
        Wall-clock budget; the schedule follows whichever of ``steps`` and ``minutes`` is further.
    learning_rate, weight_decay, warmup, clip_norm
        AdamW, warm-up steps, and the largest norm of the gradient.
    ema
        Decay of the averaged weights, which are the ones that are kept.
    max_clicks
        Most clicks of one training sample.
    clicks_only, mask_prompt
        Share of steps whose prompt is clicks without a box, or a spoilt mask with a box.
    rigid
        Keep the deformable convolutions' offsets and modulators at 0 and 1, for the early stages.
    held_out
        Sets that no training sample may come from.
    mixture
        Shares of real images, generated images and composites.
    workers, seed, save_minutes, validate_minutes, validation_objects
        Loader processes; seed of weights and samples; minutes between checkpoints and between
        validations; objects per source in a validation.
    """

    model_config = ConfigDict(extra="forbid")

    data: Path
    output: Path
    variant: str = "tiny"
    frame: PositiveInt = 512
    initial: Path | None = None
    initial_part: Literal["model", "ema"] = "ema"
    batch: PositiveInt = 4
    steps: PositiveInt = 10_000
    minutes: PositiveFloat = 60.0
    learning_rate: PositiveFloat = 6e-4
    weight_decay: float = 0.02
    warmup: int = 200
    clip_norm: PositiveFloat = 1.0
    ema: float = Field(default=0.998, ge=0, lt=1)
    max_clicks: PositiveInt = 6
    clicks_only: float = Field(default=0.1, ge=0, le=1)
    mask_prompt: float = Field(default=0.05, ge=0, le=1)
    rigid: bool = False
    held_out: list[str] = []
    mixture: tuple[float, float, float] = (0.55, 0.25, 0.20)
    workers: int = 1
    seed: int = 0
    save_minutes: PositiveFloat = 5.0
    validate_minutes: PositiveFloat = 12.0
    validation_objects: PositiveInt = 3

    @classmethod
    def from_toml(cls, path: Path) -> TrainConfig:
        """Read a configuration file."""
        return cls.model_validate(tomllib.loads(path.read_text()))

    def to_toml(self) -> str:
        """Write the configuration as TOML text that `from_toml` reads."""
        # Every value is a string, number, or list of strings, whose JSON forms are TOML.
        values = self.model_dump(mode="json", exclude_none=True)
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
