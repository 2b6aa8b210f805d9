"""Small images with discs, and fine-tunings of the micro model inside the test's own process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from micro import MICRO, micro_model
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.sources import SourceImage, UserClicks, list_objects, split
from napari_pisam.learn.finetune.worker import train_folder
from napari_pisam.model import variants
from napari_pisam.weights import loading as weights

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SWITCHES: dict[str, Any] = {"residual": True}
SHORT: dict[str, Any] = {"epochs": 1, "validate_seconds": 60}
"""Changes of `settings`: two steps, and validations of the base and of the end only."""


def discs(name: str = "discs", count: int = 4, *, seed: int = 0, **changes: Any) -> SourceImage:
    """Return an image of bright discs in a row, with labels 10, 20, 30..."""
    rng = np.random.default_rng(seed)
    image = rng.normal(1000, 30, (60, 50 * count))
    labels = np.zeros(image.shape, np.uint16)
    rows, cols = np.mgrid[:60, : 50 * count]
    for number in range(count):
        inside = (rows - 30) ** 2 + (cols - 25 - 50 * number) ** 2 < (12 + number % 3) ** 2
        labels[inside] = 10 * (number + 1)
        image[inside] += 500
    return SourceImage(name, image.astype(np.uint16), labels, **changes)


def clicks(*points: tuple[float, float, bool]) -> UserClicks:
    """Return clicks from (row, col, is foreground)."""
    return UserClicks(
        np.array([point[:2] for point in points], dtype=float).reshape(-1, 2),
        np.array([point[2] for point in points], dtype=bool),
    )


def use_micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the micro Pi-SAM count as a model of the name ``micro``."""
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, **SWITCHES))
    loaded = weights.LoadedModel(micro_model(**SWITCHES), "ab" * 32, "MIT", "embedded")
    monkeypatch.setattr(weights, "load_model", lambda name, **_: loaded)


def settings(**changes: Any) -> FineTuneSettings:
    """Return settings of a run of three steps, each with a validation after it."""
    values: dict[str, Any] = {
        "base": "micro",
        "device": "cpu",
        "epochs": 2,
        "minutes": None,
        "batch": 2,
        "validate_seconds": 1e-6,
    }
    return FineTuneSettings.checked(values | changes)


def make_run(folder: Path, images: list[SourceImage] | None = None, **changes: Any) -> FineTuneRun:
    """Write a run of the micro model: three discs train, one validates."""
    images = images or [discs()]
    return FineTuneRun.create(folder, settings(**changes), images, split(list_objects(images)))


def train(run: FineTuneRun) -> tuple[int, dict[str, Any]]:
    """Train in this process; give the exit code and the state."""
    return train_folder(run.folder, is_child=False)
