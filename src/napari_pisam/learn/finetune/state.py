"""What can be seen of a run while it goes on, read from small files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from napari_pisam.learn.finetune.layout import (
    BEST,
    CHECKPOINT,
    LAST,
    LOG,
    REPORT,
    STATE,
    is_alive,
    read_json,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Status = Literal[
    "ready",
    "starting",
    "running",
    "pausing",
    "paused",
    "stopping",
    "stopped",
    "finished",
    "interrupted",
    "failed",
]

ACTIVE: frozenset[Status] = frozenset(
    {"starting", "running", "pausing", "paused", "stopping"},
)
_KNOWN = frozenset(Status.__args__)  # type: ignore[attr-defined]


def _none() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve: ``x`` are steps, ``y`` values, both (n,) float."""

    x: NDArray[np.float64] = field(default_factory=_none)
    y: NDArray[np.float64] = field(default_factory=_none)


@dataclass(frozen=True)
class Preview:
    """One validation object before and after.

    Attributes
    ----------
    image : str
    label : int
    before, after : Path
        PNGs of the same size: the truth's outline and the mask's. They change in place.
    iou_before, iou_after : float
        From the box alone.
    step : int
        Of ``after``.
    """

    image: str
    label: int
    before: Path
    after: Path
    iou_before: float
    iou_after: float
    step: int


@dataclass(frozen=True, eq=False)
class RunState:
    """Where a run stands.

    Attributes
    ----------
    status
        ``"stopped"`` by its user; ``"finished"``: time is over, or nothing got better any more;
        ``"interrupted"``: it ended with the program that started it, or was killed.
    message : str
        What it is doing, or why it ended, in a line.
    error : str
        What went wrong, and what to do; empty otherwise.
    step : int
    epoch : float
        How often it went through all training objects.
    elapsed, eta : float
        Seconds of training, pauses left out; and those to go, None if not known.
    progress : float
        0 to 1.
    samples_per_second : float or None
    batch : int
        Objects a step, after halving.
    loss : Curve
    iou_training, iou_validation, boundary_training, boundary_validation : Curve
        Mean IoU and boundary IoU from the box alone; x = 0 is the base.
    base_iou, base_boundary : float or None
        Of the base on the objects that validate.
    best_step : int
        Of the best weights; 0 where none were better than the base.
    is_better : bool
        Whether validation says so beyond its noise.
    verdict : str
    best_weights, last_weights : Path or None
        The best ones only where they are better.
    previews : tuple of Preview
    report : Path or None
    can_resume : bool
    """

    status: Status = "ready"
    message: str = ""
    error: str = ""
    step: int = 0
    epoch: float = 0.0
    elapsed: float = 0.0
    eta: float | None = None
    progress: float = 0.0
    samples_per_second: float | None = None
    batch: int = 0
    loss: Curve = field(default_factory=Curve)
    iou_training: Curve = field(default_factory=Curve)
    iou_validation: Curve = field(default_factory=Curve)
    boundary_training: Curve = field(default_factory=Curve)
    boundary_validation: Curve = field(default_factory=Curve)
    base_iou: float | None = None
    base_boundary: float | None = None
    best_step: int = 0
    is_better: bool = False
    verdict: str = ""
    best_weights: Path | None = None
    last_weights: Path | None = None
    previews: tuple[Preview, ...] = ()
    report: Path | None = None
    can_resume: bool = True

    @property
    def is_active(self) -> bool:
        """Whether a process works on it, or waits in a pause."""
        return self.status in ACTIVE


class StateReader:
    """Reads a run's folder again and again, only what changed.

    Parameters
    ----------
    folder : Path
        Of the run.

    Attributes
    ----------
    stamp : (int, int) or None
        Of the file that was read last: another one, another state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stamp: tuple[int, int] | None = None
        self._state = RunState()
        self._loss = _LossLog(folder / LOG)

    def read(self, *, must_live: bool = True) -> RunState:
        """Give the state by the files.

        Parameters
        ----------
        must_live : bool
            A child that gives no sign of life is gone: the run is ``"interrupted"``.
        """
        path = self.folder / STATE
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = None
        if stamp is not None and stamp != self.stamp:
            content = read_json(path)
            if content is not None:
                self._state, self.stamp = _parse(self.folder, content), stamp
        state = replace(self._state, loss=self._loss.read())
        if must_live and state.is_active and not is_alive(self.folder):
            return replace(
                state,
                status="interrupted",
                eta=None,
                can_resume=True,
                message=f"It ended after step {state.step}; go on with Resume.",
            )
        return state


class _LossLog:
    """The loss of every step, read from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._identity: tuple[int, int] | None = None
        self._rows: list[tuple[float, float]] = []
        self._curve = Curve()

    def read(self) -> Curve:
        try:
            with self.path.open("rb") as file:
                status = self.path.stat()
                identity = (status.st_ino, status.st_dev)
                # A run that went on wrote the file anew, without what came after its checkpoint.
                if identity != self._identity or status.st_size < self._offset:
                    self._identity, self._offset, self._rows = identity, 0, []
                if status.st_size == self._offset:
                    return self._curve
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return self._curve
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            cells = line.split(",")
            if len(cells) > 2 and cells[0].isdigit():
                self._rows.append((float(cells[0]), float(cells[2])))
        table = np.array(self._rows, dtype=np.float64).reshape(-1, 2)
        self._curve = Curve(table[:, 0], table[:, 1])
        return self._curve


def _parse(folder: Path, content: dict[str, Any]) -> RunState:
    points = [point for point in content.get("points", []) if isinstance(point, dict)]

    def curve(key: str) -> Curve:
        known = [(p["step"], p[key]) for p in points if p.get(key) is not None]
        table = np.array(known, dtype=np.float64).reshape(-1, 2)
        return Curve(table[:, 0], table[:, 1])

    status = content.get("status", "ready")
    best, last, report = (folder / name for name in (BEST, LAST, REPORT))
    is_better = bool(content.get("is_better")) and best.is_file()
    previews = tuple(
        Preview(
            str(p["image"]),
            int(p["label"]),
            folder / str(p["before"]),
            folder / str(p["after"]),
            float(p["iou_before"]),
            float(p["iou_after"]),
            int(p["step"]),
        )
        for p in content.get("previews", [])
    )
    known = cast("Status", status if status in _KNOWN else "failed")
    return RunState(
        status=known,
        message=str(content.get("message", "")),
        error=str(content.get("error", "")),
        step=int(content.get("step", 0)),
        epoch=float(content.get("epoch", 0.0)),
        elapsed=float(content.get("elapsed", 0.0)),
        eta=content.get("eta"),
        progress=float(content.get("progress", 0.0)),
        samples_per_second=content.get("samples_per_second"),
        batch=int(content.get("batch", 0)),
        iou_training=curve("iou_training"),
        iou_validation=curve("iou_validation"),
        boundary_training=curve("boundary_training"),
        boundary_validation=curve("boundary_validation"),
        base_iou=content.get("base_iou"),
        base_boundary=content.get("base_boundary"),
        best_step=int(content.get("best_step", 0)),
        is_better=is_better,
        verdict=str(content.get("verdict", "")),
        best_weights=best if is_better else None,
        last_weights=last if last.is_file() else None,
        previews=previews,
        report=report if report.is_file() else None,
        # In a pause the process goes on, or, where it is gone meanwhile, another one does.
        can_resume=(known not in ACTIVE or known == "paused")
        and known != "finished"
        and (
            known != "failed"
            or (folder / CHECKPOINT).is_file()
            or bool(content.get("step", 0) == 0)
        ),
    )
