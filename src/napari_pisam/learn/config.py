"""Settings of a training run; they round-trip through TOML."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

Decoder = Literal["sam", "hqsam", "pisam"]
Frozen = Literal["nothing", "encoder", "base"]
Optimizer = Literal["adamw", "muon"]
Loss = Literal["pixels", "points"]
MaskKind = Literal["auto", "binary", "instances", "classes"]


class TrainConfig(BaseModel):
    """One training run.

    Attributes
    ----------
    data
        Folder with ``sets/``, ``cutouts/`` and ``textures/``.
    images, masks
        Instead of ``data``: a folder of images, and one of masks of the same names.
    mask_kind
        What the numbers in ``masks`` mean; told from each mask unless given.
    validation_fraction
        Share of the images that validate.
    output
        Folder for checkpoints and the log; created if missing. Nothing is written elsewhere.
    variant
        The variant to train.
    decoder
        To compare decoders on one footing: this one on the variant's image encoder, without what
        the variant adds to the published networks (`starting.compared_variant`). Of ``initial``
        only what all three share is used then.
    frame
        Side of the training frame, px. A compact encoder runs at any multiple of 32.
    base
        A model's name or checkpoint file to fine-tune. Weights of a SAM or an HQ-SAM get
        Pi-SAM's modules on top. Only what validates better than the base becomes
        ``best.safetensors``.
    initial
        Weights to start from: ``last.pt`` of an earlier run, e.g. one at a smaller frame, or a
        ``.safetensors`` file, e.g. the embedded model's.
    initial_part
        Which weights of ``last.pt``: the averaged ones, or the last ones.
    frozen
        What stays as it is: the image encoder, or all that SAM has (``"base"``).
    frozen_norms
        Keep the statistics of batch norms, which a few images would spoil.
    views
        Draw from this many fixed crops of images, each augmented once, instead of an endless
        stream; 0 for the stream. What a frozen encoder says of a view is computed once and kept
        in ``output/cache``.
    cache_gb
        What that folder may hold, GB.
    batch
        Objects a step, of every process.
    steps
        Steps until the learning rate reaches zero.
    minutes
        Wall-clock budget; the schedule follows whichever of ``steps`` and ``minutes`` is further.
        Only a run without it can be repeated exactly.
    optimizer
        AdamW, or Muon (Jordan et al., 2024) for matrices and convolutions with AdamW for the rest.
        Muon multiplies in bfloat16, which not every processor does fast.
    learning_rate, weight_decay, warmup, clip_norm
        Of either optimizer; warm-up steps, and the largest norm of the gradient.
    ema
        Decay of the averaged weights, which are the ones that are kept.
    loss
        Of masks: on every pixel, half of the cross entropy's weight on what is wrong
        (``"pixels"``); or as published, on 112 x 112 points, most of them where the mask is
        unsure (``"points"``).
    max_clicks
        Most clicks of one training sample.
    clicks_only, mask_prompt
        Share of steps whose prompt is clicks without a box, or a spoilt mask with a box.
    rigid
        Keep the deformable convolutions' offsets and modulators at 0 and 1, for the early stages.
    held_out
        Sets that no training sample may come from.
    held_out_kinds
        Families of generated images (`synthetic.KINDS`) that no training sample may come from.
    mixture
        Shares of real images, generated images and composites.
    workers, seed, save_minutes, validate_minutes, validation_objects
        Loader processes; seed of weights and samples; minutes between checkpoints and between
        validations; objects per source in a validation.
    validate_steps
        Steps between validations instead of minutes; 0 for minutes.
    compiled
        Compile the high-resolution head: steps take a third less time on a CPU, after half a minute
        at the start. Needs a C++ compiler.
    accelerator, precision
        What Lightning Fabric runs on, and in.
    licence
        Of the trained weights; part of their file.
    """

    model_config = ConfigDict(extra="forbid")

    data: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    mask_kind: MaskKind = "auto"
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    output: Path
    variant: str = "tiny"
    decoder: Decoder | None = None
    frame: PositiveInt = 512
    base: str | None = None
    initial: Path | None = None
    initial_part: Literal["model", "ema"] = "ema"
    frozen: Frozen = "nothing"
    frozen_norms: bool = False
    views: NonNegativeInt = 0
    cache_gb: NonNegativeFloat = 10.0
    batch: PositiveInt = 4
    steps: PositiveInt = 10_000
    minutes: PositiveFloat | None = None
    optimizer: Optimizer = "adamw"
    learning_rate: PositiveFloat = 6e-4
    weight_decay: float = 0.02
    warmup: int = 200
    clip_norm: PositiveFloat = 1.0
    ema: float = Field(default=0.998, ge=0, lt=1)
    loss: Loss = "pixels"
    max_clicks: PositiveInt = 6
    clicks_only: float = Field(default=0.1, ge=0, le=1)
    mask_prompt: float = Field(default=0.05, ge=0, le=1)
    rigid: bool = False
    held_out: list[str] = []
    held_out_kinds: list[str] = []
    mixture: tuple[float, float, float] = (0.55, 0.25, 0.20)
    workers: NonNegativeInt = 1
    seed: NonNegativeInt = 0
    save_minutes: PositiveFloat = 5.0
    validate_minutes: PositiveFloat = 12.0
    validate_steps: NonNegativeInt = 0
    validation_objects: PositiveInt = 3
    compiled: bool = False
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    licence: str = Field(default="not stated", min_length=1)

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        folders = self.images is not None and self.masks is not None
        if (self.images is None) != (self.masks is None) or folders == (self.data is not None):
            raise ValueError("give either data, or both images and masks")
        return self

    @model_validator(mode="after")
    def _starts_once(self) -> Self:
        if self.decoder is not None and self.base is not None:
            raise ValueError("decoder is for comparisons from one start: leave out base")
        return self

    @classmethod
    def from_toml(cls, path: Path) -> TrainConfig:
        """Read a configuration file.

        Raises
        ------
        ValueError
            If there is none, it is not TOML, or a setting is wrong.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}). Check the path.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not TOML ({error}).") from None
        except ValidationError as error:
            raise ValueError(f"{path}: {explain(error)}") from None

    def to_toml(self) -> str:
        """Write the configuration as TOML text that `from_toml` reads."""
        # Every value is a string, number, or list of strings, whose JSON forms are TOML.
        values = self.model_dump(mode="json", exclude_none=True)
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with the settings."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
    )
