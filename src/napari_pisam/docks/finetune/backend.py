"""The one door to `napari_pisam.learn`: imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.docks.jobs import Cancelled, Report


class TrainingBackend:
    """What trains; a test can put in another one."""

    def missing_packages(self) -> list[str]:
        """Name what has to be installed before anything can be trained."""
        return list(_part("").missing_packages())

    # -- what to learn from -------------------------------------------------------------------

    def list_objects(self, images: Sequence[Any], cancel: Cancelled) -> list[Any]:
        """List the objects of images; for a worker."""
        return list(_part("sources").list_objects(images, cancel=cancel))

    def split(self, rows: Sequence[Any], fraction: float, seed: int) -> list[Any]:
        """Divide objects into those that train and those that validate."""
        return list(_part("sources").split(rows, fraction, seed))

    def check_split(self, rows: Sequence[Any]) -> list[str]:
        """Say what is wrong with the parts."""
        return list(_part("sources").check_split(rows))

    def from_folders(self, images: Path, masks: Path) -> tuple[list[Any], list[str]]:
        """Read folders; for a worker."""
        found, notes = _part("sources").from_folders(images, masks)
        return list(found), list(notes)

    # -- settings and runs --------------------------------------------------------------------

    def fields(self) -> list[Any]:
        """Describe every setting."""
        return list(_part("settings").setting_fields())

    def settings(self, values: dict[str, Any]) -> Any:
        """Check settings.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        return _part("settings").FineTuneSettings.checked(values)

    def fetch(self, base: str, report: Report, cancel: Cancelled) -> None:
        """Download a base model where it is public and not on this machine; for a worker.

        The run's own process downloads nothing.

        Raises
        ------
        DownloadError
            If that fails, or was cancelled.
        """
        from napari_pisam.weights.cache import download, missing_entry

        if missing_entry(base) is not None:
            download(base, progress=report, cancel=cancel)

    def preflight(
        self,
        settings: Any,
        images: Sequence[Any],
        rows: Sequence[Any],
        cancel: Cancelled,
        progress: Callable[[str], None],
    ) -> Any:
        """Find out whether it can work; for a worker."""
        return _part("preflight").preflight(
            settings, images, rows, cancel=cancel, progress=progress
        )

    def create(self, settings: Any, images: Sequence[Any], rows: Sequence[Any]) -> Any:
        """Make a run in a new folder; for a worker."""
        run = _part("run")
        base = str(settings.base).replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
        return run.FineTuneRun.create(run.new_folder(title=base), settings, images, rows)

    def open(self, folder: Path) -> Any:
        """Open a run that is there."""
        return _part("run").FineTuneRun.open(folder)

    def list_runs(self) -> list[Any]:
        """List the runs that are there, the newest first."""
        return list(_part("runs").list_runs())


def _part(name: str) -> Any:
    package = "napari_pisam.learn.finetune"
    return importlib.import_module(f"{package}.{name}" if name else package)
