"""``napari-pisam train``: what the Fine-tune dock does, on folders or on what the dock wrote."""

from __future__ import annotations

import contextlib
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from napari_pisam.cli.console import download_progress, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_pisam.images.mask_files import MaskKind
    from napari_pisam.learn.finetune.run import FineTuneRun
    from napari_pisam.learn.finetune.settings import FineTuneSettings


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
    mask_kind: MaskKind | Literal["auto"] = "auto"
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
        If the training fails.
    ImportError
        If what training needs is not installed.
    """
    from napari_pisam.learn.finetune import missing_packages

    absent = missing_packages()
    if absent:
        raise ImportError(
            f"Training needs {' and '.join(absent)}. Run: pip install 'napari-pisam[train]'"
        )
    _check(request)
    with _log_on_stderr():
        run = _run_of(request)
        code, state = _train(run)
    if code:
        raise RuntimeError(state.get("error") or f"Training failed; see {run.folder}.")
    if state.get("verdict"):
        typer.echo(state["verdict"])
    if state.get("is_better"):
        from napari_pisam.learn.finetune.layout import BEST

        say(f"-> {run.folder / BEST}")
    if state.get("status") != "finished":
        say(
            f"Stopped after step {state.get('step', 0)}; all is saved. Go on with: napari-pisam "
            f"train -o {run.folder} --resume"
        )
        return False
    return True


def _check(request: TrainRequest) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises
    ------
    ValueError
    """
    folders = request.images is not None or request.masks is not None
    if request.config is not None and folders:
        raise ValueError("--config names the data itself. Leave out --images and --masks.")
    if (request.images is None) != (request.masks is None):
        raise ValueError("--images and --masks go together. Give both.")
    if folders and request.output is None:
        raise ValueError("There is no folder for the run. Give -o DIR.")
    nothing = request.config is None and not folders
    if nothing and (request.output is None or not request.resume):
        raise ValueError(
            "There is nothing to train on. Give --images DIR --masks DIR -o DIR, or --config FILE; "
            "or -o DIR --resume to go on with a run."
        )
    if request.output is not None and request.output.exists() and not request.output.is_dir():
        raise ValueError(f"The output {request.output} is a file, expected a folder.")


def _train(run: FineTuneRun) -> tuple[int, dict[str, Any]]:
    from napari_pisam.learn.finetune.worker import train_folder
    from napari_pisam.weights import loading as weights

    with download_progress(f"Downloading {run.settings.base}") as update:
        weights.load_model(run.settings.base, progress=update)
    say(f"The run is in {run.folder}")
    return train_folder(run.folder, is_child=False)


# -- which run ----------------------------------------------------------------------------------


def _run_of(request: TrainRequest) -> FineTuneRun:
    """Open the run that the request goes on with, or make the one that it asks for."""
    from napari_pisam.learn.finetune.run import FineTuneRun, new_folder, refuse_in_use
    from napari_pisam.learn.finetune.settings import FineTuneSettings

    begun = _begun_folder(request)
    if begun is not None:
        return _opened(begun, request)
    if request.resume:
        raise ValueError(_no_run(request.output))
    if request.config is None:
        settings = FineTuneSettings.checked(
            {
                "base": _base(request),
                "images": request.images,
                "masks": request.masks,
                "mask_kind": request.mask_kind,
            }
        )
    else:
        settings = FineTuneSettings.from_toml(request.config)
    settings = _overridden(settings, request)
    folder = request.output or new_folder(title=settings.base)
    refuse_in_use(folder)
    source = None if request.config is None else request.config.parent
    if source is not None and settings.images is None and _is_run(source):
        _copy(source, folder)
        return _changed(FineTuneRun.open(folder), settings)
    return _from_folders(settings, folder, request)


def _is_run(folder: Path) -> bool:
    from napari_pisam.learn.finetune.layout import RUN

    return (folder / RUN).is_file()


def _begun_folder(request: TrainRequest) -> Path | None:
    """Find the run that the request is about: in the output folder, or beside the settings."""
    if request.output is not None:
        return request.output if _is_run(request.output) else None
    beside = None if request.config is None else request.config.parent
    return beside if beside is not None and _is_run(beside) else None


def _no_run(folder: Path | None) -> str:
    """Say that there is nothing to go on with, and why where an earlier version made it."""
    from napari_pisam.learn.finetune.layout import BEST, CHECKPOINT

    if folder is not None and (folder / CHECKPOINT).is_file():
        best = folder / BEST
        use = f" Its weights can be trained further: --base {best}." if best.is_file() else ""
        return f"{folder} holds a run of an earlier version, which this one cannot go on with.{use}"
    return f"There is no run in {folder} to go on with. Check the path, or leave out --resume."


def _opened(folder: Path, request: TrainRequest) -> FineTuneRun:
    from napari_pisam.learn.finetune.layout import CHECKPOINT
    from napari_pisam.learn.finetune.lock import refuse_if_held
    from napari_pisam.learn.finetune.run import FineTuneRun

    begun = (folder / CHECKPOINT).is_file()
    if not request.resume and (begun or request.images is not None):
        raise ValueError(
            f"{folder} holds a run already. Go on with it by --resume, or write elsewhere by "
            "-o DIR."
        )
    if request.resume and not begun:
        raise ValueError(f"The run in {folder} did not begin yet. Leave out --resume.")
    run = FineTuneRun.open(folder)
    refuse_if_held(folder)
    return _changed(run, _overridden(run.settings, request))


def _base(request: TrainRequest) -> str:
    """Return the base's name, or its file in a form that holds wherever the run goes on."""
    from pathlib import Path

    from napari_pisam.weights.models import network_of

    is_file = network_of(request.base) is None and Path(request.base).exists()
    return str(Path(request.base).absolute()) if is_file else request.base


def _overridden(settings: FineTuneSettings, request: TrainRequest) -> FineTuneSettings:
    changes: dict[str, Any] = {}
    if request.minutes is not None:
        changes |= {"minutes": request.minutes, "epochs": None}
    if request.device != "auto":
        changes["device"] = request.device
    return settings.checked(settings.model_dump() | changes)


def _changed(run: FineTuneRun, settings: FineTuneSettings) -> FineTuneRun:
    """Let a run have other settings; its own file says so."""
    from napari_pisam.images.files import replacing
    from napari_pisam.learn.finetune.layout import SETTINGS
    from napari_pisam.learn.finetune.run import FineTuneRun

    if settings != run.settings:
        with replacing(run.folder / SETTINGS) as part:
            part.write_text(settings.to_toml(), encoding="utf-8")
    return FineTuneRun.open(run.folder)


def _copy(source: Path, folder: Path) -> None:
    """Copy the objects and settings of a run, not what came of it."""
    from napari_pisam.learn.finetune.layout import RUN, SETTINGS

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "data", folder / "data")
    for name in (SETTINGS, RUN):
        shutil.copyfile(source / name, folder / name)


def _from_folders(settings: FineTuneSettings, folder: Path, request: TrainRequest) -> FineTuneRun:
    from napari_pisam.learn.finetune.run import FineTuneRun
    from napari_pisam.learn.finetune.sources import from_folders, list_objects, split

    if settings.images is None or settings.masks is None:
        raise ValueError(
            f"{request.config} names no images and masks, and there are no objects of a run beside "
            "it. Add images = and masks =, or give the config.toml inside a run's folder."
        )
    images, skipped = from_folders(settings.images, settings.masks, kind=settings.mask_kind)
    if skipped:
        listed = "\n".join(skipped)
        say(f"{len(skipped)} unreadable file(s) are skipped:\n{listed}")
    rows = split(list_objects(images), settings.validation_fraction, settings.seed)
    with progress("Reading the objects", len(images)) as update:
        done = 0

        def step(now: int, _: int) -> None:
            nonlocal done
            update(now - done)
            done = now

        return FineTuneRun.create(folder, settings, images, rows, progress=step)


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
