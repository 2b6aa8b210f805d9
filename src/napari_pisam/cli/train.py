"""``napari-pisam train``: fine-tune a model on folders of images and masks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from napari_pisam.cli.console import download_progress, say
from napari_pisam.images.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_pisam.learn.config import MaskKind, TrainConfig
    from napari_pisam.learn.engine import FitResult
    from napari_pisam.learn.run_state import Scores

_MINUTES = 20.0
_TUNING: dict[str, Any] = {
    "warmup": 20,
    "ema": 0.99,
    "validation_objects": 40,
    "save_minutes": 1.0,
    # The schedule is one of time.
    "steps": 1_000_000,
}
# A network that was trained on crops of this size, all of which learns. Some generated images keep
# it from forgetting what else there is.
_SMALL: dict[str, Any] = {
    "frame": 256,
    "batch": 4,
    "learning_rate": 1e-4,
    "frozen_norms": True,
    "mixture": (0.85, 0.15, 0.0),
}
# A SAM stays as it is; what it says of each view is computed once.
_LARGE: dict[str, Any] = {
    "batch": 1,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "frozen": "base",
    "views": 200,
    "mixture": (1.0, 0.0, 0.0),
    "workers": 0,
}


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained on what; see the command's options."""

    config: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    base: str = "tiny"
    output: Path | None = None
    resume: bool = False
    minutes: float | None = None
    mask_kind: MaskKind = "auto"
    device: str = "auto"


def train(request: TrainRequest) -> bool:
    """Train, write, and say whether it was worth it.

    Returns
    -------
    bool
        Whether the run came to its end; otherwise it was asked to stop, and can be resumed.

    Raises
    ------
    ValueError
        If an input cannot be used.
    RuntimeError
        If the loss is not finite.
    ImportError
        If what training needs is not installed.
    """
    absent = [
        name for name in ("lightning_fabric", "pydantic") if not importlib.util.find_spec(name)
    ]
    if absent:
        raise ImportError(
            f"Training needs {' and '.join(absent)}. Run: pip install 'napari-pisam[train]'"
        )
    if _is_fine_tuning(request):
        from napari_pisam.cli.finetune import fine_tune

        with _log_on_stderr():
            return fine_tune(request)
    config = settings(request)
    from napari_pisam.learn.engine import fit

    with _log_on_stderr():
        try:
            result = fit(config)
        except FloatingPointError as error:
            raise RuntimeError(str(error)) from error
    report(config, result)
    if result.stopped:
        say(
            f"Stopped after step {result.step}; all is saved. Go on with: napari-pisam train -o "
            f"{config.output} --resume"
        )
    return not result.stopped


def _is_fine_tuning(request: TrainRequest) -> bool:
    """Whether the settings, or the run to go on with, are those of the dock."""
    from napari_pisam.cli.finetune import begun_folder
    from napari_pisam.learn.finetune.settings import is_fine_tuning

    folders = request.images is not None or request.masks is not None
    if request.config is not None:
        return not folders and is_fine_tuning(request.config)
    return not folders and request.resume and begun_folder(request) is not None


def settings(request: TrainRequest) -> TrainConfig:
    """Make the settings of a run from a file, from folders, or from an earlier run.

    Raises
    ------
    ValueError
        If the request contradicts itself, or would overwrite a run.
    """
    from pydantic import ValidationError

    from napari_pisam.learn.config import TrainConfig, explain
    from napari_pisam.learn.run_state import LAST

    folders = request.images is not None or request.masks is not None
    if request.config is not None and folders:
        raise ValueError("--config names the data itself. Leave out --images and --masks.")
    if (request.images is None) != (request.masks is None):
        raise ValueError("--images and --masks go together. Give both.")
    changes: dict[str, Any] = {}
    if request.minutes is not None:
        changes["minutes"] = request.minutes
    if request.output is not None:
        changes["output"] = request.output
    if request.device != "auto":
        changes["accelerator"] = request.device
    path = request.config
    if path is None and not folders:
        if request.output is None or not request.resume:
            raise ValueError(
                "There is nothing to train on. Give --images DIR --masks DIR -o DIR, or --config "
                "FILE; or -o DIR --resume to go on with a run."
            )
        path = request.output / "config.toml"
        if not path.is_file():
            raise ValueError(f"There is no run in {request.output} to go on with. Check the path.")
    try:
        if path is not None:
            values = TrainConfig.from_toml(path).model_dump() | changes
        elif request.output is None:
            raise ValueError("There is no folder for the run. Give -o DIR.")
        else:
            values = _tuning(request) | changes
        config = TrainConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    if config.output.exists() and not config.output.is_dir():
        raise ValueError(f"The output {config.output} is a file, expected a folder.")
    begun = (config.output / LAST).exists()
    if begun and not request.resume:
        raise ValueError(
            f"{config.output} holds a run already. Go on with it by --resume, or write elsewhere."
        )
    if request.resume and not begun:
        raise ValueError(f"There is no run in {config.output} to go on with. Leave out --resume.")
    return config


def _tuning(request: TrainRequest) -> dict[str, Any]:
    """Give the settings that suit a base and a user's images."""
    from pathlib import Path

    from napari_pisam.images.folders import match_images
    from napari_pisam.learn.starting import is_never_deformed, pisam_variant
    from napari_pisam.weights import loading as weights

    if request.images is None or request.masks is None:
        raise ValueError("--images and --masks go together. Give both.")
    match_images(request.images, request.masks)  # before a download
    with download_progress(f"Downloading {request.base}") as update:
        loaded = weights.load_model(request.base, progress=update)
    variant = pisam_variant(loaded.model.variant)
    is_large = variant.encoder.is_pretrained_sam
    minutes = request.minutes or _MINUTES
    is_file = loaded.source == request.base
    values = {
        "images": request.images.absolute(),
        "masks": request.masks.absolute(),
        "mask_kind": request.mask_kind,
        "output": request.output,
        "base": str(Path(request.base).absolute()) if is_file else request.base,
        "variant": variant.name,
        "minutes": minutes,
        "validate_minutes": max(minutes / 8, 0.1),
        "licence": loaded.licence or "not stated",
        **_TUNING,
    }
    values["rigid"] = is_never_deformed(loaded.model)
    return values | (_LARGE | {"frame": variant.frame} if is_large else _SMALL)


def report(config: TrainConfig, result: FitResult) -> None:
    """Print base and result on the validation images, and write ``report.json``."""
    from napari_pisam.learn.run_state import BEST, overall

    improved = bool(result.best_step)
    content = {
        "base": config.base,
        "steps": result.step,
        "stopped": result.stopped,
        "best_step": result.best_step,
        "improved": improved,
        "weights": BEST if improved else None,
        "validation": {"base": result.base, "best": result.best, "last": result.last},
    }
    with replacing(config.output / "report.json") as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    rows = {"base": result.base, "result": result.best if improved else result.last}
    for title, scores in rows.items():
        if scores:
            typer.echo(f"{title:<8} {_means(scores)}")
    name = config.base or "nothing"
    if improved:
        was = f" (before: {overall(result.base):.3f})" if result.base else ""
        say(f"Mean IoU {overall(result.best):.3f}{was} -> {config.output / BEST}")
    elif result.last and result.base:
        say(
            f"The result is not better than {name} ({overall(result.last):.3f} against "
            f"{overall(result.base):.3f}): keep {name}. No new weights were written."
        )


def _means(scores: Scores) -> str:
    counts = next(iter(scores.values()))
    means = {n: sum(source[n] for source in scores.values()) / len(scores) for n in counts}
    return "  ".join(f"{n} clicks {mean:.3f}" for n, mean in means.items())


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    logger, handler = logging.getLogger("napari_pisam.learn"), _ToStderr()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
