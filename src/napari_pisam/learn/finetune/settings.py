"""What a user decides about a fine-tuning, with explanations that an interface can show."""

from __future__ import annotations

import logging
from dataclasses import dataclass
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

    from pydantic.fields import FieldInfo

logger = logging.getLogger(__name__)

TrainsChoice = Literal["auto", "modules", "interactor", "both", "decoder", "all"]
Device = Literal["auto", "cpu", "cuda", "mps"]

KIND = "finetune"
"""What ``kind`` says in the settings' file, so that nobody takes it for another run's."""


@dataclass(frozen=True)
class Shown:
    """How an interface shows a setting; one without is for files only.

    Attributes
    ----------
    limits : (float, float), optional
        Of a number; whole ones for a whole number.
    title : str
        The setting's name unless given.
    unit : str
    choices : tuple of (str, str)
        Value and title.
    plain : bool
        Whether everybody is to see it.
    """

    limits: tuple[float, float] | None = None
    title: str = ""
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    plain: bool = False


_PARTS = (
    ("auto", "What suits the base"),
    ("modules", "High-resolution modules"),
    ("interactor", "Interactor (clicks)"),
    ("both", "Both"),
    ("decoder", "Both and SAM's decoder"),
    ("all", "Everything, the image encoder too"),
)
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
    base: Annotated[str, Shown(title="Base model", plain=True)] = Field(
        default="tiny",
        min_length=1,
        description="The model that learns: its name, or a file with weights. It stays as it is; "
        "the result is a new file.",
    )
    trains: Annotated[TrainsChoice, Shown(title="What learns", choices=_PARTS, plain=True)] = Field(
        default="auto",
        description="Which part of the network may change. What suits the base: all of a small "
        "network, the modules on top of a SAM. The less may change, the faster a step "
        "and the less can be spoilt; the more, the further from its first training the network "
        "can go. A SAM's image encoder needs much memory to learn.",
    )
    minutes: Annotated[PositiveFloat | None, Shown((0.1, 1440.0), unit="min", plain=True)] = Field(
        default=5.0,
        description="How long to train. The learning rate follows, so that the end is calm.",
    )
    epochs: Annotated[PositiveInt | None, Shown((1, 100_000), plain=True)] = Field(
        default=None,
        description="Instead of minutes: how often to go through all training objects.",
    )
    device: Annotated[Device, Shown(choices=_DEVICES, plain=True)] = Field(
        default="auto", description="What computes. Automatic takes a graphics card if it can."
    )
    batch: Annotated[NonNegativeInt, Shown((0, 64))] = Field(
        default=0,
        description="Objects in each step; 0 for what suits the side of the pictures. Halved by "
        "itself when the memory does not suffice.",
    )
    learning_rate: Annotated[PositiveFloat | None, Shown((1e-7, 1e-1))] = Field(
        default=None,
        description="Size of the steps. Empty: what suits the base and what learns.",
    )
    frame: Annotated[NonNegativeInt, Shown((0, 1024), "Picture side", "px")] = Field(
        default=0,
        description="Largest side of the pictures that the network is shown; 0 for what the "
        "predictor shows it. Smaller is faster by its square, and loses fine edges.",
    )
    validate_seconds: Annotated[PositiveFloat, Shown((1.0, 3600.0), "Validate every", "s")] = Field(
        default=30.0,
        description="Training time between two validations. Each is a point of the curves, and "
        "only what was validated can become the result.",
    )
    checkpoint_seconds: Annotated[PositiveFloat, Shown((1.0, 3600.0), "Save every", "s")] = Field(
        default=20.0,
        description="Training time between two saves: what a power cut may cost.",
    )
    patience: Annotated[NonNegativeInt, Shown((0, 1000))] = Field(
        default=8,
        description="Validations in a row without a better one after which training stops early; "
        "0 for never.",
    )
    validation_objects: Annotated[PositiveInt, Shown((1, 500))] = Field(
        default=16,
        description="Most objects that are validated on, drawn from those that validate.",
    )
    training_objects: Annotated[PositiveInt, Shown((1, 100_000))] = Field(
        default=2000, description="Most objects that are trained on, drawn from those that train."
    )
    cache_gb: Annotated[float, Shown((0.0, 1000.0), "Cache", "GB")] = Field(
        default=5.0,
        ge=0,
        description="What the run may keep of a frozen image encoder's results, in its folder.",
    )
    seed: Annotated[NonNegativeInt, Shown((0, 2**31 - 1))] = Field(
        default=0, description="Another number, other random choices (crops, colours, clicks)."
    )
    licence: Annotated[str, Shown()] = Field(
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


# -- for an interface ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SettingField:
    """What a widget needs to know to show one setting.

    Attributes
    ----------
    name, title, help : str
        The attribute of `FineTuneSettings`, a label, and an explanation.
    advanced : bool
        Whether most users leave it alone.
    kind : {"choice", "int", "float", "text"}
    default : object
        None where empty is allowed and means something, which `help` says.
    choices : tuple of (str, str)
        Value and title.
    minimum, maximum : float or None
    unit : str
    """

    name: str
    title: str
    help: str
    advanced: bool
    kind: Literal["choice", "int", "float", "text"]
    default: Any
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""


def setting_fields() -> list[SettingField]:
    """List the settings in the order in which to show them, the plain ones first."""
    found = []
    for name, info in FineTuneSettings.model_fields.items():
        shown = next((one for one in info.metadata if isinstance(one, Shown)), None)
        if shown is not None:
            found.append(_field(name, info, shown))
    return sorted(found, key=lambda field: field.advanced)


def _field(name: str, info: FieldInfo, shown: Shown) -> SettingField:
    kind: Literal["choice", "int", "float", "text"] = "choice" if shown.choices else "text"
    low, high = shown.limits or (None, None)
    if shown.limits is not None:
        kind = "int" if isinstance(low, int) else "float"
    title = shown.title or name.replace("_", " ").capitalize()
    help_text, is_advanced = str(info.description), not shown.plain
    choices, unit = shown.choices, shown.unit
    return SettingField(
        name, title, help_text, is_advanced, kind, info.default, choices, low, high, unit
    )
