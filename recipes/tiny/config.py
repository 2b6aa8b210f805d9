"""Settings of a stage of the recipe; they round-trip through TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from napari_pisam.learn.config import TrainConfig, explain, read_toml, to_toml

Decoder = Literal["sam", "hqsam", "pisam"]

# What settings files of earlier stages say, and what it became.
_TRAINS = {"nothing": "all", "encoder": "decoder", "base": "both"}
_GONE = ("mask_kind", "validation_fraction", "loss", "validate_steps")


class RecipeConfig(TrainConfig):
    """One stage: what `TrainConfig` has, and what to train on.

    Attributes
    ----------
    data
        Folder with ``sets/``, ``cutouts/`` and ``textures/``.
    backbone
        timm's name of the compact encoder's backbone; the variant's own unless given.
    focus_frame
        Largest frame that the weights will look at one object in, px; the variant's own unless
        given. Once resolution is trained, larger frames win instead of losing.
    fine_answer
        Whether the network has a second answer (`Variant.fine_answer`); the variant's own unless
        given. Weights without one give it what they know.
    optimizer
        AdamW, or Muon (Jordan et al., 2024) for matrices and convolutions with AdamW for the rest.
        Muon multiplies in bfloat16, which not every processor does fast.
    weight_decay
        Of either optimizer.
    backbone_rate
        Share of ``learning_rate`` that a compact encoder's backbone gets; below 1 it is trained by
        AdamW, without decay, for it starts from weights that others have trained.
    compiled
        Compile the high-resolution head: steps take a third less time on a CPU, after half a minute
        at the start. Needs a C++ compiler.
    precision
        What Lightning Fabric computes in.
    decoder
        To compare decoders on one footing: this one on the variant's image encoder, without what
        the variant adds to the published networks (`starting.compared_variant`). Of ``initial``
        only what all three share is used then.
    initial
        Weights to start from: ``last.pt`` of an earlier run, e.g. one at a smaller frame, or a
        ``.safetensors`` file, e.g. the embedded model's.
    initial_part
        Which weights of ``last.pt``: the averaged ones, or the last ones.
    rigid
        Keep the deformable convolutions' offsets and modulators at 0 and 1, for the early stages.
    held_out
        Sets that no training sample may come from.
    held_out_kinds
        Families of generated images (`synthetic.KINDS`) that no training sample may come from.
    thin_share
        Share of the real images' samples that are lines and networks of lines, where the sets say
        which classes those are; ``None``: as often as any other object.
    crossed
        Share of the compact objects that lines of something else are drawn across.
    pseudo
        Share of all samples that are regions of textures and photographs that nobody labelled
        (`pseudo.regions`).
    mixture
        Shares of real images, generated images and composites in the rest.
    validation_objects
        Objects per source in a validation.
    """

    data: Path
    backbone: str | None = None
    focus_frame: PositiveInt | None = None
    fine_answer: bool | None = None
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.02
    backbone_rate: float = Field(default=1.0, gt=0, le=1)
    compiled: bool = False
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    decoder: Decoder | None = None
    initial: Path | None = None
    initial_part: Literal["model", "ema"] = "ema"
    rigid: bool = False
    held_out: list[str] = Field(default_factory=list)
    held_out_kinds: list[str] = Field(default_factory=list)
    thin_share: float | None = Field(default=None, ge=0, le=1)
    crossed: float = Field(default=0.0, ge=0, le=1)
    pseudo: float = Field(default=0.0, ge=0, le=1)
    mixture: tuple[float, float, float] = (0.55, 0.25, 0.20)
    validation_objects: PositiveInt = 3

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key not in _GONE}
            if "frozen" in values:
                frozen = values.pop("frozen")
                values.setdefault("trains", _TRAINS.get(frozen, frozen))
        return values

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a configuration file.

        Raises
        ------
        ValueError
            If there is none, it is not TOML, or a setting is wrong.
        """
        try:
            return cls.model_validate(read_toml(path))
        except ValidationError as error:
            raise ValueError(f"{path}: {explain(error)}") from None

    def to_toml(self) -> str:
        """Write the configuration as TOML text that `from_toml` reads."""
        return to_toml(self)
