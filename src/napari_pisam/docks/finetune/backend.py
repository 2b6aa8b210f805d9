"""The one door to `napari_pisam.learn`: imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.docks.jobs import Cancelled, Report


class TrainingBackend:
    """What trains; a test can put in another one."""

    def missing_packages(self) -> list[str]:
        """Name what has to be installed before anything can be trained."""
        from napari_pisam.learn.finetune import missing_packages

        return list(missing_packages())

    # -- what to learn from -------------------------------------------------------------------

    def list_objects(self, images: Sequence[Any], cancel: Cancelled) -> list[Any]:
        """List the objects of images; for a worker."""
        from napari_pisam.learn.finetune.sources import list_objects

        return list(list_objects(images, cancel=cancel))

    def split(self, rows: Sequence[Any], fraction: float, seed: int) -> list[Any]:
        """Divide objects into those that train and those that validate."""
        from napari_pisam.learn.finetune.sources import split

        return list(split(rows, fraction, seed))

    def check_split(self, rows: Sequence[Any]) -> list[str]:
        """Say what is wrong with the parts."""
        from napari_pisam.learn.finetune.sources import check_split

        return list(check_split(rows))

    def from_folders(self, images: Path, masks: Path) -> tuple[list[Any], list[str]]:
        """Read folders; for a worker."""
        from napari_pisam.learn.finetune.sources import from_folders

        found, notes = from_folders(images, masks)
        return list(found), list(notes)

    # -- settings and runs --------------------------------------------------------------------

    def fields(self) -> list[Any]:
        """Describe every setting."""
        from napari_pisam.learn.finetune.settings import setting_fields

        return list(setting_fields())

    def settings(self, values: dict[str, Any]) -> Any:
        """Check settings.

        Raises
        ------
        ValueError
            With what is wrong.
        """
        from napari_pisam.learn.finetune.settings import FineTuneSettings

        return FineTuneSettings.checked(values)

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
        from napari_pisam.learn.finetune.preflight import preflight

        return preflight(settings, images, rows, cancel=cancel, progress=progress)

    def create(self, settings: Any, images: Sequence[Any], rows: Sequence[Any]) -> Any:
        """Make a run in a new folder; for a worker."""
        from napari_pisam.learn.finetune.run import FineTuneRun, new_folder

        base = str(settings.base).replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
        return FineTuneRun.create(new_folder(title=base), settings, images, rows)

    def open(self, folder: Path) -> Any:
        """Open a run that is there."""
        from napari_pisam.learn.finetune.run import FineTuneRun

        return FineTuneRun.open(folder)

    def list_runs(self) -> list[Any]:
        """List the runs that are there, the newest first."""
        from napari_pisam.learn.finetune.runs import list_runs

        return list_runs()
