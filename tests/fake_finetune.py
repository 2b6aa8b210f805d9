"""What the Fine-tune dock needs from outside: a run that does what it is told, jobs by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage.io import imsave

from napari_pisam.docks.finetune.run_control import TrainingBackend
from napari_pisam.learn.finetune.preflight import Preflight
from napari_pisam.learn.finetune.runs import RunSummary
from napari_pisam.learn.finetune.state import Curve, RunState, ValidationPicture


class FakeJob:
    """Stands for a job in a worker."""

    def __init__(self):
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Jobs:
    """`Background.start` without a thread: at once, or the oldest one when told to."""

    def __init__(self, *, by_hand=False):
        self.by_hand, self.waiting, self.titles = by_hand, [], []

    def __call__(self, title, job, done, failed):
        handle = FakeJob()
        self.titles.append(title)
        self.waiting.append((handle, job, done, failed))
        if not self.by_hand:
            self.run()
        return handle

    def run(self):
        handle, job, done, failed = self.waiting.pop(0)
        try:
            result = job(lambda count, total: None, lambda: handle.is_cancelled)
        except Exception as error:  # noqa: BLE001
            failed(error)
        else:
            done(result)


class FakeRun:
    """A run whose state the test writes; commands are noted and obeyed at once."""

    def __init__(self, folder, settings=None):
        self.folder, self.settings = Path(folder), settings
        self.state, self.commands = RunState(), []
        self.refusal = None

    def _note(self, command, status):
        if self.refusal:
            raise ValueError(self.refusal)
        self.commands.append(command)
        self.state = replace(
            self.state, status=status, can_resume=status in ("paused", "stopped", "interrupted")
        )

    def start(self):
        self._note("start", "running")

    def pause(self):
        self._note("pause", "paused")

    def resume(self):
        self._note("resume", "running")

    def stop(self):
        self._note("stop", "stopped")

    def close(self):
        self._note("close", "interrupted")

    def poll(self):
        return self.state

    def export(self, path):
        path.write_bytes(b"weights")
        return path

    def finish(self, *, is_better, step=40):
        """Come to the end with curves and pictures."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights, gain = self.folder / "best.safetensors", 0.1 if is_better else -0.1
        if is_better:
            weights.write_bytes(b"weights")
        x, loss = np.arange(0.0, step + 1, 10), np.arange(1.0, step + 1)
        y = 0.6 + gain * x / step
        before, after = self.folder / "before.png", self.folder / "after.png"
        for path, value in ((before, 60), (after, 200)):
            imsave(path, np.full((48, 48, 3), value, np.uint8), check_contrast=False)
        self.state = RunState(
            status="finished",
            message="Finished: the time is over.",
            step=step,
            elapsed=83.0,
            progress=1.0,
            loss=Curve(loss, 1 / loss),
            iou_training=Curve(x, y + 0.1),
            iou_validation=Curve(x, y),
            boundary_training=Curve(x, y),
            boundary_validation=Curve(x, y - 0.2),
            base_iou=0.6,
            base_boundary=0.4,
            best_step=step if is_better else 0,
            is_better=is_better,
            verdict="Better: boundary IoU 0.40 -> 0.50." if is_better else "Not better: keep tiny.",
            best_weights=weights if is_better else None,
            previews=(ValidationPicture("coins", 3, before, after, 0.6, 0.7, step),),
            can_resume=False,
        )


class FakeBackend(TrainingBackend):
    """The training package with runs that are fakes; objects and settings are the real ones.

    Attributes
    ----------
    result : Preflight
        What checks find.
    runs : list of FakeRun
        That were created or, by `open`, found again.
    """

    def __init__(self, root, **result):
        self.root = Path(root)
        values = {"training_objects": 3, "validation_objects": 1, "batch": 4}
        self.result = Preflight(**(values | result))
        self.runs, self.checks, self.created = [], [], []
        self.missing, self.create_error, self.fetched = [], None, []
        self.refusal = None

    def missing_packages(self):
        return self.missing

    def fetch(self, base, report, cancel):
        self.fetched.append(base)
        report(1_000_000, 2_000_000)

    def preflight(self, settings, images, rows, cancel, progress):
        progress("One step")
        self.checks.append((settings, images, rows))
        return self.result

    def create(self, settings, images, rows):
        if self.create_error is not None:
            raise self.create_error
        self.created.append((settings, images, rows))
        self.runs.append(FakeRun(self.root / f"run{len(self.runs) + 1}", settings))
        self.runs[-1].refusal = self.refusal
        return self.runs[-1]

    def open(self, folder):
        found = next((run for run in self.runs if run.folder == folder), None)
        if found is None:
            raise ValueError(f"{folder} is no run.")
        return found

    def list_runs(self):
        return [
            RunSummary(
                run.folder,
                run.folder.name,
                "tiny",
                run.state.status in ("finished", "stopped"),
                "2026-01-01T00:00:00",
                run.state.verdict,
                run.state.best_weights,
                4,
                None,
            )
            for run in reversed(self.runs)
        ]
