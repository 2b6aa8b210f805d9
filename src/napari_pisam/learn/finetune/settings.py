"""What a user decides about a fine-tuning, with explanations that an interface can show."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from napari_pisam.images.mask_files import MaskKind
from napari_pisam.learn.config import UNSTATED, explain, read_toml, to_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

TrainsChoice = Literal["auto", "modules", "interactor", "both", "decoder", "all"]
Device = Literal["auto", "cpu", "cuda", "mps"]

KIND = "finetune"
"""What ``kind`` says in the settings' file, so that nobody takes it for another run's."""


@dataclass(frozen=True)
class SettingField:
    """How an interface shows a setting; one without is for files only.

    Attributes
    ----------
    limits : (float, float), optional
        Of a number; whole ones for a whole number.
    title, unit : str
    choices : tuple of (str, str)
        Value and title.
    plain : bool
        Whether everybody is to see it; most users leave the others alone.
    name, help : str
        The attribute of `FineTuneSettings`, and an explanation; `setting_fields` fills them in.
    default : object
        None where empty is allowed and means something, which `help` says.
    """

    limits: tuple[float, float] | None = None
    title: str = ""
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    plain: bool = False
    name: str = ""
    help: str = ""
    default: Any = None

    @property
    def kind(self) -> Literal["choice", "int", "float", "text"]:
        """What it is to be edited as."""
        if self.choices or self.limits is None:
            return "choice" if self.choices else "text"
        return "int" if isinstance(self.limits[0], int) else "float"


_PARTS = (
    ("auto", "What suits the base"),
    ("modules", "High-resolution modules"),
    ("interactor", "Interactor (clicks)"),
    ("both", "Both"),
    ("decoder", "Both and SAM's decoder"),
    ("all", "Everything, the image encoder too"),
)
_VALIDATE = SettingField((1.0, 3600.0), "Validate every", "s")
_CHECKPOINT = SettingField((1.0, 3600.0), "Save every", "s")
_LEARNS = SettingField(title="What learns", choices=_PARTS, plain=True)
_MINUTES = SettingField((0.1, 1440.0), unit="min", plain=True)
_DEVICES = (
    ("auto", "Automatic"),
    ("cpu", "Processor (CPU)"),
    ("cuda", "NVIDIA graphics card (CUDA)"),
    ("mps", "Apple graphics (MPS)"),
)


class FineTuneSettings(BaseModel):
    """One fine-tuning: what is trained, how long, and on what device.

    The descriptions of the fields say what each of them means. A file of them, as `to_toml` writes
    it, can be run by ``napari-pisam train --config FILE``; for that, ``images`` and ``masks`` may
    name folders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["finetune"] = Field(default="finetune", description="Says what this file is.")
    base: Annotated[str, SettingField(title="Base model", plain=True)] = Field(
        default="tiny",
        min_length=1,
        description="The model that learns: its name, or a file with weights. It stays as it is; "
        "the result is a new file.",
    )
    trains: Annotated[TrainsChoice, _LEARNS] = Field(
        default="auto",
        description="Which part of the network may change. What suits the base: all of a small "
        "network, the modules on top of a SAM. The less may change, the faster a step "
        "and the less can be spoilt; the more, the further from its first training the network "
        "can go. A SAM's image encoder needs much memory to learn.",
    )
    minutes: Annotated[PositiveFloat | None, _MINUTES] = Field(
        default=5.0,
        description="How long to train. The learning rate follows, so that the end is calm.",
    )
    epochs: Annotated[PositiveInt | None, SettingField((1, 100_000), plain=True)] = Field(
        default=None,
        description="Instead of minutes: how often to go through all training objects.",
    )
    device: Annotated[Device, SettingField(choices=_DEVICES, plain=True)] = Field(
        default="auto", description="What computes. Automatic takes a graphics card if it can."
    )
    batch: Annotated[NonNegativeInt, SettingField((0, 64))] = Field(
        default=0,
        description="Objects in each step; 0 for what suits the side of the pictures. Halved by "
        "itself when the memory does not suffice.",
    )
    learning_rate: Annotated[PositiveFloat | None, SettingField((1e-7, 1e-1))] = Field(
        default=None,
        description="Size of the steps. Empty: what suits the base and what learns.",
    )
    frame: Annotated[NonNegativeInt, SettingField((0, 1024), "Picture side", "px")] = Field(
        default=0,
        description="Largest side of the pictures that the network is shown; 0 for what the "
        "predictor shows it. Smaller is faster by its square, and loses fine edges.",
    )
    validate_seconds: Annotated[PositiveFloat, _VALIDATE] = Field(
        default=30.0,
        description="Training time between two validations. Each is a point of the curves, and "
        "only what was validated can become the result.",
    )
    checkpoint_seconds: Annotated[PositiveFloat, _CHECKPOINT] = Field(
        default=20.0,
        description="Training time between two saves: what a power cut may cost.",
    )
    patience: Annotated[NonNegativeInt, SettingField((0, 1000))] = Field(
        default=8,
        description="Validations in a row without a better one after which training stops early; "
        "0 for never.",
    )
    validation_objects: Annotated[PositiveInt, SettingField((1, 500))] = Field(
        default=16,
        description="Most objects that are validated on, drawn from those that validate.",
    )
    training_objects: Annotated[PositiveInt, SettingField((1, 100_000))] = Field(
        default=2000, description="Most objects that are trained on, drawn from those that train."
    )
    cache_gb: Annotated[float, SettingField((0.0, 1000.0), "Cache", "GB")] = Field(
        default=5.0,
        ge=0,
        description="What the run may keep of a frozen image encoder's results, in its folder.",
    )
    seed: Annotated[NonNegativeInt, SettingField((0, 2**31 - 1))] = Field(
        default=0, description="Another number, other random choices (crops, colours, clicks)."
    )
    licence: Annotated[str, SettingField()] = Field(
        default=UNSTATED,
        min_length=1,
        description="Licence of the new weights, part of their file; that of the base if nothing "
        "else is stated.",
    )
    images: Path | None = Field(
        default=None, description="For a run from a file: folder of images."
    )
    masks: Path | None = Field(
        default=None, description="For a run from a file: folder of masks of the same names."
    )
    mask_kind: MaskKind | Literal["auto"] = Field(
        default="auto", description="What the numbers in the masks mean; told from each one."
    )
    validation_fraction: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the objects that validate."
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if (self.minutes is None) == (self.epochs is None):
            raise ValueError("give either minutes or epochs, the other one empty")
        if (self.images is None) != (self.masks is None):
            raise ValueError("images and masks go together, give both or neither")
        if self.frame % 32:
            raise ValueError(f"frame is {self.frame}, expected a multiple of 32 px")
        return self

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> FineTuneSettings:
        """Make settings from values.

        Raises
        ------
        ValueError
            In one sentence, if one of them is wrong.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ValueError(explain(error)) from None

    @classmethod
    def from_toml(cls, path: Path) -> FineTuneSettings:
        """Read a file that `to_toml` wrote.

        Relative folders in it are relative to the file.

        Raises
        ------
        ValueError
            If there is none, it is not TOML, or a setting is wrong.
        """
        values = read_toml(path)
        try:
            values = _translated(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        for key in ("images", "masks"):
            if isinstance(values.get(key), str):
                values[key] = path.parent / values[key]
        # TOML has no empty value: with epochs there are no minutes.
        if "epochs" in values:
            values.setdefault("minutes", None)
        try:
            return cls.checked(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_toml(self) -> str:
        """Write the settings as TOML text that `from_toml` reads."""
        return to_toml(self)


# What the settings of the loop itself were called, when a run could be started from them.
_RENAMED = {"accelerator": "device", "frozen": "trains"}
_TRAINS = {"nothing": "all", "encoder": "decoder", "base": "both"}
_IN_SECONDS = {"save_minutes": "checkpoint_seconds", "validate_minutes": "validate_seconds"}


def _translated(values: dict[str, Any]) -> dict[str, Any]:
    """Read what earlier versions wrote.

    Raises
    ------
    ValueError
        If the file is of the recipe of an embedded model, or a number is none.
    """
    if values.get("kind") == KIND:
        return {key: value for key, value in values.items() if key != "generated"}
    if "kind" in values or not ({"images", "output"} & values.keys() or "data" in values):
        return values
    if "data" in values:
        raise ValueError(
            "data names sets of images, which only the recipe of the embedded model trains on "
            "(python -m recipes.tiny train FILE). Give images and masks instead."
        )
    if "minutes" not in values:
        raise ValueError("how long to train is not said; add minutes.")
    values = {_RENAMED.get(key, key): value for key, value in values.items()}
    values["trains"] = _TRAINS.get(str(values.get("trains")), "auto")
    for key, name in _IN_SECONDS.items():
        if isinstance(values.get(key), (int, float)):
            values[name] = 60 * values[key]
    known = FineTuneSettings.model_fields.keys()
    gone = sorted(values.keys() - known - {"output", *_IN_SECONDS})
    if gone:
        logger.warning("These settings mean nothing any more: %s", ", ".join(gone))
    return {key: value for key, value in values.items() if key in known}


def setting_fields() -> list[SettingField]:
    """List the settings in the order in which to show them, the plain ones first."""
    found = []
    for name, info in FineTuneSettings.model_fields.items():
        for shown in info.metadata:
            if isinstance(shown, SettingField):
                title = shown.title or name.replace("_", " ").capitalize()
                about: dict[str, Any] = {"name": name, "title": title, "help": info.description}
                found.append(replace(shown, **about, default=info.default))
    return sorted(found, key=lambda field: not field.plain)
