"""``napari-pisam train --config`` with the settings of a fine-tuning: what the dock runs, too."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import typer

from napari_pisam.cli.console import download_progress, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.cli.train import TrainRequest
    from napari_pisam.learn.finetune.run import FineTuneRun
    from napari_pisam.learn.finetune.settings import FineTuneSettings


def begun_folder(request: TrainRequest) -> Path | None:
    """Find the folder of a fine-tuning that the request goes on with, or starts; None without."""
    from napari_pisam.learn.finetune.layout import RUN

    beside = None if request.config is None else request.config.parent
    for folder in (request.output, beside if request.output is None else None):
        if folder is not None and (folder / RUN).is_file():
            return folder
    return None


def fine_tune(request: TrainRequest) -> bool:
    """Run, or go on with, a fine-tuning, and say whether it was worth it.

    Returns
    -------
    bool
        Whether it came to its end; otherwise it can be resumed.

    Raises
    ------
    ValueError
        If an input cannot be used.
    RuntimeError
        If the training fails.
    """
    from napari_pisam.learn.finetune.worker import train_folder
    from napari_pisam.weights import loading as weights

    run = _run(request)
    with download_progress(f"Downloading {run.settings.base}") as update:
        weights.load_model(run.settings.base, progress=update)
    say(f"The run is in {run.folder}")
    code, state = train_folder(run.folder, is_child=False)
    if code:
        raise RuntimeError(state.get("error") or f"The training failed; see {run.folder}.")
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


def _run(request: TrainRequest) -> FineTuneRun:
    """Make the run, or open it."""
    from napari_pisam.learn.finetune.layout import CHECKPOINT, RUN
    from napari_pisam.learn.finetune.lock import refuse_if_held
    from napari_pisam.learn.finetune.run import FineTuneRun, new_folder
    from napari_pisam.learn.finetune.settings import FineTuneSettings

    folder = begun_folder(request)
    if folder is not None:
        begun = (folder / CHECKPOINT).is_file()
        if begun and not request.resume:
            raise ValueError(
                f"{folder} holds a run already. Go on with it by --resume, or write elsewhere by "
                "-o DIR."
            )
        if request.resume and not begun:
            raise ValueError(f"The run in {folder} did not begin yet. Leave out --resume.")
        run = FineTuneRun.open(folder)
        refuse_if_held(folder)
        return _changed(run, _overrides(run.settings, request))
    if request.config is None or request.resume:
        raise ValueError(f"There is no run in {request.output} to go on with. Check the path.")
    settings = _overrides(FineTuneSettings.from_toml(request.config), request)
    folder = request.output or new_folder(title=settings.base)
    source = request.config.parent
    if settings.images is None and (source / RUN).is_file():
        _copy(source, folder)
        return _changed(FineTuneRun.open(folder), settings)
    return _from_folders(settings, folder, request.config)


def _overrides(settings: FineTuneSettings, request: TrainRequest) -> FineTuneSettings:
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

    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is in use already. Choose a new folder for the run.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "data", folder / "data")
    for name in (SETTINGS, RUN):
        shutil.copyfile(source / name, folder / name)


def _from_folders(settings: FineTuneSettings, folder: Path, config: Path) -> FineTuneRun:
    from napari_pisam.learn.finetune.run import FineTuneRun
    from napari_pisam.learn.finetune.sources import from_folders, list_objects, split

    if settings.images is None or settings.masks is None:
        raise ValueError(
            f"{config} names no images and masks, and there are no objects of a run beside it. "
            "Add images = and masks =, or give the config.toml inside a run's folder."
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
