"""Before a run: whether it can work, what it needs, and how long it takes, measured on one step."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.learn.finetune.crops import plan_crops, used_rows
from napari_pisam.learn.finetune.layout import OUTPUT, PROBE, read_json
from napari_pisam.learn.finetune.parts import check_split, dividing_cut
from napari_pisam.learn.finetune.process import Child, how_it_ended
from napari_pisam.learn.finetune.run import FineTuneRun
from napari_pisam.learn.finetune.runs import default_root
from napari_pisam.learn.finetune.sources import check_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage

_PROBE_OBJECTS = 4
_PROBE_SECONDS = 600.0
_FEW = 4
_SPARE = 0.9
"""Share of the free memory that may be asked for."""


@dataclass(frozen=True)
class Preflight:
    """What a run will need.

    Attributes
    ----------
    problems : tuple of str
        Why not to start; sentences.
    warnings : tuple of str
    training_objects, validation_objects : int
    memory_bytes, memory_free_bytes : int or None
        Peak of the process in a real step, and what the machine (or its graphics card) has left.
    seconds_per_step : float or None
        Measured.
    steps : int or None
        That fit into the time, or that the epochs need.
    total_seconds : float or None
    disk_bytes : int
    disk_free_bytes : int or None
    batch : int
        Objects a step, after halving if the memory did not suffice.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    training_objects: int = 0
    validation_objects: int = 0
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    seconds_per_step: float | None = None
    steps: int | None = None
    total_seconds: float | None = None
    disk_bytes: int = 0
    disk_free_bytes: int | None = None
    batch: int = 0

    @property
    def ok(self) -> bool:
        """Whether the run can be started."""
        return not self.problems

    @property
    def summary(self) -> str:
        """The numbers in a line."""
        parts = [f"{self.training_objects} train, {self.validation_objects} validate"]
        if self.total_seconds is not None:
            parts.append(f"about {_time(self.total_seconds)}")
        if self.seconds_per_step is not None and self.steps is not None:
            parts.append(f"{self.steps} steps of {self.seconds_per_step:.2g} s")
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes / 1e9:.1f} GB of memory")
        if self.disk_bytes:
            parts.append(f"{self.disk_bytes / 1e9:.2f} GB on the disk")
        return " · ".join(parts)


def preflight(
    settings: FineTuneSettings,
    images: Sequence[SourceImage],
    rows: Sequence[ObjectRow],
    *,
    root: Path | None = None,
    cancel: Callable[[], bool] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Preflight:
    """Check a run before it starts; a child loads the model and takes one real step.

    Parameters
    ----------
    settings : FineTuneSettings
    images : sequence of SourceImage
    rows : sequence of ObjectRow
        With their parts.
    root : Path, optional
        Where the run will be; `default_root` unless given.
    cancel : callable, optional
        Asked now and then; true ends the check with a problem that says so.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Preflight
        Whatever a user can mend is one of its problems, never an error.
    """
    say = progress or (lambda text: None)
    say("Checking the objects")
    result, used = _objects(settings, images, rows)
    if result.problems:
        return result
    folder = default_root() if root is None else root
    result = replace(result, disk_free_bytes=_free_disk(folder), memory_free_bytes=free_memory())
    with tempfile.TemporaryDirectory(prefix="napari-pisam-", ignore_cleanup_errors=True) as name:
        say("Loading the model and taking one step")
        try:
            probe = _probe(Path(name) / "run", settings, images, used, cancel)
        except ValueError as error:
            return replace(result, problems=(str(error),))
    disk = int(probe["disk_bytes"]) + crop_bytes(images, used)
    return _judge(replace(result, disk_bytes=disk), probe, settings, folder)


def _objects(
    settings: FineTuneSettings, images: Sequence[SourceImage], rows: Sequence[ObjectRow]
) -> tuple[Preflight, list[ObjectRow]]:
    try:
        check_images(images)
    except ValueError as error:
        return Preflight(problems=(str(error),)), []
    used = used_rows(settings, rows)
    counts = [sum(row.part == part for row in used) for part in ("training", "validation")]
    problems = check_split(rows)
    warnings = []
    if not problems and min(counts) < _FEW:
        least, verb = min(zip(counts, ("train", "validate"), strict=True))
        few = f"1 object {verb}s" if least == 1 else f"{least} objects {verb}"
        warnings.append(
            f"Only {few}. With so few, only a clear gain can be told from chance; a "
            "dozen objects in all is a good start."
        )
    listed = sum(row.part != "unused" for row in rows)
    if len(used) < listed:
        warnings.append(
            f"{len(used)} of {listed} objects are used, drawn at random; the limits are among the "
            "advanced settings."
        )
    shared = _shared_images(rows)
    if shared:
        warnings.append(
            f"Objects of {shared!r} both train and validate, and lie too close for a straight cut "
            "between them; the validation may look a little too good."
        )
    return (
        Preflight(
            problems=tuple(problems),
            warnings=tuple(warnings),
            training_objects=counts[0],
            validation_objects=counts[1],
        ),
        used,
    )


def _shared_images(rows: Sequence[ObjectRow]) -> str:
    """Name an image whose two parts no straight cut divides; empty without one."""
    by_image: dict[str, dict[str, list[tuple[int, int, int, int]]]] = {}
    for row in rows:
        by_image.setdefault(row.image, {}).setdefault(row.part, []).append(row.box)
    for name, parts in by_image.items():
        both = parts.get("training"), parts.get("validation")
        if both[0] and both[1] and dividing_cut(both[0], both[1]) is None:
            return name
    return ""


def _probe(
    folder: Path,
    settings: FineTuneSettings,
    images: Sequence[SourceImage],
    rows: Sequence[ObjectRow],
    cancel: Callable[[], bool] | None,
) -> dict[str, Any]:
    """Let a child take a step with a few of the objects.

    Raises
    ------
    ValueError
        If it cannot.
    """
    few: list[ObjectRow] = []
    for part in ("training", "validation"):
        few += [row for row in rows if row.part == part][:_PROBE_OBJECTS]
    run = FineTuneRun.create(folder, settings, images, few)
    child = Child.start(run.folder, run.folder / OUTPUT, ["--probe"])
    end = time.monotonic() + _PROBE_SECONDS
    try:
        while not child.wait(0.1):
            if cancel is not None and cancel():
                raise ValueError("The check was cancelled.")
            if time.monotonic() > end:
                raise ValueError(
                    f"One step takes longer than {_PROBE_SECONDS:.0f} s on this machine. Choose a "
                    "smaller base, let less learn, or use a machine with a graphics card."
                )
    finally:
        if child.exit_code() is None:
            child.kill()
        child.close()
    probe = read_json(run.folder / PROBE)
    if probe is None:
        raise ValueError(how_it_ended(child.exit_code() or 0, run.folder))
    if probe.get("error"):
        raise ValueError(str(probe["error"]))
    return probe


def _judge(
    result: Preflight, probe: dict[str, Any], settings: FineTuneSettings, folder: Path
) -> Preflight:
    seconds, batch = float(probe["seconds_per_step"]), int(probe["batch"])
    wanted = int(probe["batch_wanted"])
    validation = float(probe["seconds_per_validation"]) * (
        result.validation_objects + min(result.validation_objects, result.training_objects)
    )
    if settings.minutes is not None:
        total = 60 * settings.minutes
        rounds = total / (settings.validate_seconds + validation)
        steps = max(0, int((total - (rounds + 1) * validation) / seconds))
    else:
        steps = max(1, round((settings.epochs or 1) * result.training_objects / batch))
        total = steps * seconds
        total += (total / settings.validate_seconds + 1) * validation
    disk = result.disk_bytes
    memory = probe.get("memory_bytes")
    free = probe.get("memory_free_bytes", result.memory_free_bytes)
    problems, warnings = list(result.problems), list(result.warnings)
    if memory is not None and free is not None and memory > free * _SPARE:
        problems.append(
            f"Training needs about {memory / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free. Close other programs, let less learn, or choose a smaller batch or base."
        )
    if result.disk_free_bytes is not None and 1.1 * disk > result.disk_free_bytes:
        problems.append(
            f"The run needs about {disk / 1e9:.1f} GB on the disk of {folder}, and "
            f"{result.disk_free_bytes / 1e9:.1f} GB are free. Free some space, choose another "
            "folder, or a smaller cache (among the advanced settings)."
        )
    if settings.minutes is not None and steps < 20:
        warnings.append(
            f"Only about {steps} steps fit into {settings.minutes:g} minute(s): one takes "
            f"{seconds:.2g} s. Give more time, or choose a smaller base."
        )
    if batch < wanted:
        warnings.append(
            f"There is enough memory for {batch} object(s) a step, not for {wanted}; training will "
            "go on with that."
        )
    return replace(
        result,
        problems=tuple(problems),
        warnings=tuple(warnings),
        memory_bytes=memory,
        memory_free_bytes=free,
        seconds_per_step=seconds,
        steps=steps,
        total_seconds=total,
        batch=batch,
    )


def _free_disk(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def free_memory() -> int | None:
    """Bytes of memory that programs can still get, or None if that cannot be told."""
    with contextlib.suppress(ImportError):
        psutil = importlib.import_module("psutil")
        return int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def crop_bytes(images: Sequence[SourceImage], rows: Sequence[ObjectRow]) -> int:
    """Return an upper bound of what the pictures of a run's objects take on the disk."""
    return sum(
        crop.pixels * ((3 if len(crop.image.image.shape) == 3 else 1) + 4)
        for crop in plan_crops(images, rows)
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
