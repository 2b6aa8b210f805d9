"""A run as the program that started it sees it: start, pause, stop, watch."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_pisam.images.files import replacing
from napari_pisam.learn.finetune.crops import plan_crops, used_rows, write_crops
from napari_pisam.learn.finetune.layout import (
    BEST,
    FAILED,
    FORMAT,
    OUTPUT,
    RUN,
    SETTINGS,
    STATE,
    disk_full,
    is_disk_full,
    read_json,
    text,
    write_json,
)
from napari_pisam.learn.finetune.lock import is_held, refuse_if_held, taken
from napari_pisam.learn.finetune.process import REFUSED, Child, how_it_ended
from napari_pisam.learn.finetune.runs import new_folder
from napari_pisam.learn.finetune.settings import FineTuneSettings
from napari_pisam.learn.finetune.sources import check_images, check_split
from napari_pisam.learn.finetune.state import RunState, StateReader, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage

__all__ = ["FineTuneRun", "new_folder"]

PATIENCE = 1.4
"""Seconds that a child has to stop by itself."""


class FineTuneRun:
    """A fine-tuning in a folder, and the process that does it, if there is one.

    `create` or `open` give one. Nothing here waits for the child but `wait` and `kill`. The child
    ends by itself, with all saved, when the program that started it ends in whatever way.

    Parameters
    ----------
    folder : Path
        Of the run.
    settings : FineTuneSettings
    """

    def __init__(self, folder: Path, settings: FineTuneSettings) -> None:
        self.folder = folder
        self.settings = settings
        self._reader = StateReader(folder)
        self._child: Child | None = None
        self._asked: Status | None = None
        self._stamp: tuple[int, int] | None = None
        self._asked_at = 0.0

    # -- making and opening ---------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: FineTuneSettings,
        images: Sequence[SourceImage],
        rows: Sequence[ObjectRow],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> FineTuneRun:
        """Write all that a run needs into a folder, pictures included.

        Parameters
        ----------
        folder : Path
            New, or empty.
        settings : FineTuneSettings
        images : sequence of SourceImage
        rows : sequence of ObjectRow
            With their parts, from `split`.
        progress : callable, optional
            Called with (windows written, windows in all).

        Raises
        ------
        ValueError
            If the folder is in use, the parts are wrong, or something cannot be read or written;
            nothing is left behind.
        """
        refuse_in_use(folder)
        check_images(images)
        problems = check_split(rows)
        if problems:
            raise ValueError(" ".join(problems))
        used = used_rows(settings, rows)
        crops = plan_crops(images, used)
        is_new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_crops(folder, crops, progress)
            with replacing(folder / SETTINGS) as part:
                part.write_text(settings.to_toml(), encoding="utf-8")
            about = {
                "format": FORMAT,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S"),
                "base": settings.base,
                "objects": len(used),
            }
            write_json(folder / RUN, about)
        except BaseException as error:
            _remove_content(folder, is_new=is_new)
            if is_disk_full(error):
                raise ValueError(
                    f"The disk of {folder} is full; nothing was kept. Free some space, or choose "
                    "another folder."
                ) from error
            if isinstance(error, OSError):
                raise ValueError(
                    f"The run cannot be written to {folder} ({error}). Choose another folder."
                ) from error
            raise
        return cls(folder, settings)

    @classmethod
    def open(cls, folder: Path) -> FineTuneRun:
        """Open a run that was made before, whether or not it came to its end.

        Raises
        ------
        ValueError
            If the folder holds none, or its settings cannot be read.
        """
        if read_json(folder / RUN) is None:
            raise ValueError(f"There is no fine-tuning in {folder}. Check the path.")
        return cls(folder, FineTuneSettings.from_toml(folder / SETTINGS))

    # -- control --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or go on, in a process of its own.

        Raises
        ------
        ValueError
            If it runs already, here or elsewhere (with who has it), came to its end, or no
            process can be started.
        """
        if self._is_running():
            raise ValueError(taken(self.folder))
        refuse_if_held(self.folder)
        if self._reader.read().status == "finished":
            raise ValueError(f"The run in {self.folder} came to its end. Start a new one.")
        if self._child is not None:
            self._child.close()
        # Only who has the run's lock, the child, writes how it stands; until then nothing is new.
        self._asked, self._stamp = None, self._reader.stamp
        self._child = Child.start(self.folder, self.folder / OUTPUT)

    def pause(self) -> None:
        """Ask for a pause after the step that is being computed; all is saved then.

        Raises
        ------
        ValueError
            If the run goes on elsewhere.
        """
        self._ask("pausing", "pause")

    def resume(self) -> None:
        """Go on after a pause; or start a process that goes on with a run that ended early.

        Raises
        ------
        ValueError
            As for `start`.
        """
        if self._is_running():
            self._ask(None, "resume")
        else:
            self.start()

    def stop(self) -> None:
        """Ask for the end; what was best stays. `poll` sees to it that 2 s suffice.

        Raises
        ------
        ValueError
            If the run goes on elsewhere.
        """
        self._ask("stopping", "stop")

    def kill(self) -> None:
        """End the process at once; at most one interval between two saves is lost."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Leave the run: its process saves and ends by itself, and can be resumed."""
        if self._child is not None:
            self._child.close()

    def _ask(self, status: Status | None, command: str) -> None:
        if self._child is None or not self._is_running():
            refuse_if_held(self.folder)
            return
        self._asked, self._asked_at = status, time.monotonic()
        self._child.send(command)

    def _is_running(self) -> bool:
        return self._child is not None and self._child.exit_code() is None

    # -- watching -------------------------------------------------------------------------------

    def poll(self) -> RunState:
        """Return the state of now; quick enough for a timer of the interface.

        Raises
        ------
        ValueError
            Once, if another process was quicker to start the run; from then on it is watched.
        """
        child = self._child
        if child is None:
            return self._reader.read()
        code = child.exit_code()
        state = self._reader.read(must_be_held=code is not None)
        is_old = self._reader.stamp == self._stamp
        # One that was killed is gone, even where the system takes its time to clear it away.
        if code is None and not child.was_killed:
            return self._while_running(state, is_old=is_old)
        child.close()
        if state.status in ("finished", "stopped", "failed") and not is_old:
            return state
        if code == REFUSED or (code is not None and is_held(self.folder)):
            # It is another one's now, who says how it stands.
            self._child = None
            if code == REFUSED:
                raise ValueError(taken(self.folder))
            return self._reader.read()
        if self._asked == "stopping":
            return self._mark(state, "stopped", f"Stopped after step {state.step}.", "")
        if code is None or child.was_killed or (code == 0 and not state.is_active):
            return self._mark(state, "interrupted", f"Ended after step {state.step}.", "")
        return self._mark(state, "failed", FAILED, how_it_ended(code, self.folder))

    def _while_running(self, state: RunState, *, is_old: bool) -> RunState:
        """Add what was asked of the process, and see to it that an end does not take long."""
        if is_old and self._asked is None:
            state = replace(state, status="starting", message="Starting", error="")
            return replace(state, eta=None, can_resume=False)
        if self._asked == "stopping":
            if time.monotonic() - self._asked_at < PATIENCE:
                return replace(state, status="stopping", eta=None, can_resume=False)
            # Every file is whole at any moment: it need not be waited for.
            self.kill()
            return self._mark(state, "stopped", f"Stopped after step {state.step}.", "")
        if self._asked == "pausing" and (is_old or state.status != "paused"):
            return replace(state, status="pausing", can_resume=False)
        return state

    def _mark(self, state: RunState, status: Status, message: str, error: str) -> RunState:
        """Write down what the child could not."""
        content = read_json(self.folder / STATE) or {}
        content |= {"status": status, "message": message, "error": error, "eta": None}
        verdict = state.verdict
        if status == "stopped":
            verdict = text(content.get("final_verdict")) or verdict
        content["verdict"] = verdict
        with contextlib.suppress(OSError):  # a full disk: then this program knows at least
            write_json(self.folder / STATE, content)
        return replace(
            state,
            status=status,
            message=message,
            error=error,
            verdict=verdict,
            eta=None,
            can_resume=True,
        )

    def wait(self, timeout: float | None = None) -> RunState:
        """Wait until the process is gone, and give the state then.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which to give the state as it is.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._is_running() and (end is None or time.monotonic() < end):
            self.poll()
            time.sleep(0.05)
        return self.poll()

    # -- the result -----------------------------------------------------------------------------

    def export(self, path: Path) -> Path:
        """Copy the best weights, with their header of where they come from.

        Parameters
        ----------
        path : Path
            Ends with ``.safetensors``; an existing file is replaced.

        Raises
        ------
        ValueError
            If there are none, or the file cannot be written.
        """
        best = self.folder / BEST
        if not best.is_file():
            raise ValueError("No weights were better than the base: there is nothing to export.")
        if path.suffix != ".safetensors":
            raise ValueError(f"The name {path.name!r} must end with '.safetensors'.")
        try:
            with replacing(path) as part:
                shutil.copyfile(best, part)
        except OSError as error:
            if is_disk_full(error):
                raise ValueError(disk_full(path.parent)) from error
            raise ValueError(f"{path} cannot be written ({error.strerror}).") from error
        return path


def refuse_in_use(folder: Path) -> None:
    """Check that a new run may be written into a folder: that it is new, or empty.

    Raises
    ------
    ValueError
        If it is not, or cannot be looked into.
    """
    try:
        in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be looked into ({error.strerror}). Choose another folder."
        ) from error
    if in_use:
        raise ValueError(
            f"{folder} is in use already: it is not empty. Choose a new folder for the run, so "
            "that nothing in it is replaced."
        )


def _remove_content(folder: Path, *, is_new: bool) -> None:
    """Remove what a run that could not be made left; the folder too, if it was not there."""
    if is_new:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
