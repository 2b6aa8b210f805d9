"""The small header inside this package's own safetensors files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from napari_pisam.images.json_reader import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T", dict[str, Any], list[Any])

FORMAT = "napari-pisam"
FORMAT_VERSION = "1"
_LONGEST_CURVE = 64
_FOCUS_FRAMES = tuple(str(side) for side in range(128, 1025, 128))
# The switches of a variant that weights are trained with, and what each may be.
SWITCHES: dict[str, tuple[Any, ...]] = {
    "coarse_source": ("hq", "sam", "sam+hq"),
    "residual": (False, True),
    "click_maps": (False, True),
    "local_clicks": (False, True),
    "box_maps": (False, True),
    "appearance_prior": (False, True),
    "fine_answer": (False, True),
    "click_order": ("xy", "rc"),
}


@dataclass(frozen=True)
class CheckpointHeader:
    """What a file written by `save_checkpoint` says about itself.

    Attributes
    ----------
    variant
        Name of the variant.
    licence
        Licence of the weights.
    training
        Summary of the training run (data, steps, scores): anything that JSON can hold.
    base_sha256
        SHA-256 of the file with the frozen base that the weights belong to.
    only
        Prefixes of the keys that were saved; empty when all were.
    switches
        The variant's switches (``residual``, ``coarse_source``, ``click_maps``,
        ``local_clicks``, ...) that the weights were trained with.
    software_version
        Version of this package that wrote the file.
    format_version
        Version of the header.
    backbone
        timm's name of a compact encoder's backbone; ``None`` for other encoders.
    focus_frame
        Largest frame that the weights look at one object in, px, where they look so.
    score_curve
        What scores were worth with these weights, see `predict.scores.score`; none by default.
    fine_score_curve
        The same for the fine one of two answers; none where one curve is for both.
    """

    variant: str
    licence: str
    training: dict[str, Any] = field(default_factory=dict)
    base_sha256: str | None = None
    only: tuple[str, ...] = ()
    switches: dict[str, Any] = field(default_factory=dict)
    software_version: str = "unknown"
    format_version: str = FORMAT_VERSION
    backbone: str | None = None
    focus_frame: int | None = None
    score_curve: tuple[tuple[float, float], ...] = ()
    fine_score_curve: tuple[tuple[float, float], ...] = ()

    def to_metadata(self) -> dict[str, str]:
        """Write the header as safetensors metadata (text only)."""
        return {
            "format": FORMAT,
            "format_version": self.format_version,
            "variant": self.variant,
            "licence": self.licence,
            "training": json.dumps(self.training, sort_keys=True),
            "base_sha256": self.base_sha256 or "",
            "only": json.dumps(self.only),
            "switches": json.dumps(self.switches, sort_keys=True),
            "software_version": self.software_version,
            "backbone": self.backbone or "",
            "focus_frame": "" if self.focus_frame is None else str(self.focus_frame),
            "score_curve": json.dumps(self.score_curve),
            "fine_score_curve": json.dumps(self.fine_score_curve),
        }

    @classmethod
    def from_metadata(cls, values: Mapping[str, str]) -> CheckpointHeader:
        """Read the header back.

        Raises
        ------
        ValueError
            If a part is missing, malformed, or of a newer format.
        """
        version = values.get("format_version", "")
        if version != FORMAT_VERSION:
            msg = (
                f"its format version is {version!r} and this version of napari-pisam reads "
                f"{FORMAT_VERSION!r}; update napari-pisam"
            )
            raise ValueError(msg)
        lacking = [key for key in ("variant", "licence") if not values.get(key)]
        if lacking:
            msg = f"its header lacks {', '.join(lacking)}"
            raise ValueError(msg)
        training, switches = (_part(values, key, {}) for key in ("training", "switches"))
        only = _part(values, "only", [])
        # Files from before these switches existed were written without what they stand for.
        switches = {"appearance_prior": False, "fine_answer": False, **switches}
        if "click_maps" in switches:
            # Told by it, before it was a switch of its own.
            switches.setdefault("local_clicks", switches["click_maps"])
        for key, value in switches.items():
            if value not in SWITCHES.get(key, ()):
                msg = f"its header has the unknown switch {key} = {value!r}; update napari-pisam"
                raise ValueError(msg)
        focus_frame = values.get("focus_frame", "")
        if focus_frame and focus_frame not in _FOCUS_FRAMES:
            msg = f"its header has the unknown frame {focus_frame!r}; update napari-pisam"
            raise ValueError(msg)
        return cls(
            variant=values["variant"],
            licence=values["licence"],
            training=training,
            base_sha256=values.get("base_sha256") or None,
            only=tuple(map(str, only)),
            switches=switches,
            software_version=values.get("software_version", "unknown"),
            format_version=version,
            backbone=values.get("backbone") or None,
            focus_frame=int(focus_frame) if focus_frame else None,
            score_curve=_curve(values, "score_curve"),
            fine_score_curve=_curve(values, "fine_score_curve"),
        )


def _part(values: Mapping[str, str], key: str, otherwise: _T) -> _T:
    """Read a part that is JSON, of the type of what stands for it where it is absent."""
    value = parse(values[key], f"its header's {key!r}").value if key in values else otherwise
    if not isinstance(value, type(otherwise)):
        raise ValueError(f"its header's {key!r} is a {type(value).__name__}")
    return value


def _curve(values: Mapping[str, str], key: str) -> tuple[tuple[float, float], ...]:
    """Read a score curve: two to some pairs of numbers from 0 to 1 that rise, or none."""
    value = _part(values, key, [])
    try:
        curve = tuple((float(said), float(was)) for said, was in value)
    except (TypeError, ValueError):
        curve = ((math.nan, math.nan),)
    said, was = [pair[0] for pair in curve], [pair[1] for pair in curve]
    rises = said == sorted(set(said)) and was == sorted(was)
    if curve and not (
        2 <= len(curve) <= _LONGEST_CURVE and rises and all(0 <= v <= 1 for v in (*said, *was))
    ):
        msg = f"its header's {key!r} is not a list of rising pairs of numbers from 0 to 1"
        raise ValueError(msg)
    return curve
