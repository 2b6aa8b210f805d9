"""What can be seen of a run while it goes on, read from small files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from napari_pisam.learn.finetune.layout import (
    BEST,
    CHECKPOINT,
    LOG,
    REPORT,
    STATE,
    count,
    dicts,
    number,
    picture_inside,
    read_json,
    text,
)
from napari_pisam.learn.finetune.lock import is_held

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
_CURVES = ("iou_training", "iou_validation", "boundary_training", "boundary_validation")
_KNOWN = frozenset(Status.__args__)  # type: ignore[attr-defined]


def _none() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve: ``x`` are steps, ``y`` values, both (n,) float."""

    x: NDArray[np.float64] = field(default_factory=_none)
    y: NDArray[np.float64] = field(default_factory=_none)


@dataclass(frozen=True)
class ValidationPicture:
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


@dataclass(frozen=True)
class RunState:
    """Where a run stands; curves are equal where they are the same ones.

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
        A sentence on that; until the end only how it looks so far.
    best_weights : Path or None
        Only where they are better.
    previews : tuple of ValidationPicture
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
    previews: tuple[ValidationPicture, ...] = ()
    report: Path | None = None
    can_resume: bool = True

    @property
    def is_active(self) -> bool:
        """Whether a process works on it, or waits in a pause."""
        return self.status in ACTIVE

    @property
    def is_over(self) -> bool:
        """Whether no process works on it any more."""
        return not self.is_active and self.status != "ready"


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

    def read(self, *, must_be_held: bool = True) -> RunState:
        """Read the state from the files.

        Parameters
        ----------
        must_be_held : bool
            An active run whose lock nobody holds has lost its process: it is ``"interrupted"``.
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
        if must_be_held and state.is_active and not is_held(self.folder):
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
            cells = [*line.split(","), "", ""]
            with contextlib.suppress(ValueError):
                step, loss = int(cells[0]), float(cells[2])
                self._rows.append((step, loss))
        table = np.array(self._rows, dtype=np.float64).reshape(-1, 2)
        self._curve = Curve(table[:, 0], table[:, 1])
        return self._curve


def _parse(folder: Path, content: dict[str, Any]) -> RunState:
    points = dicts(content.get("points"))
    best, report = folder / BEST, folder / REPORT
    is_better = content.get("is_better") is True and best.is_file()
    status = _status(content.get("status", "ready"))
    begun = (folder / CHECKPOINT).is_file() or count(content.get("step")) == 0
    # Numbers and texts have the names in the file that they have here.
    plain = {
        field.name: _like(field.default, content.get(field.name))
        for field in fields(RunState)
        if field.default is None or type(field.default) in (str, int, float)
    }
    curves: dict[str, Any] = {key: _curve(points, key) for key in _CURVES}
    return replace(
        RunState(**plain),
        status=status,
        is_better=is_better,
        best_weights=best if is_better else None,
        previews=_previews(folder, content.get("previews")),
        report=report if report.is_file() else None,
        can_resume=_can_resume(status, begun=begun),
        **curves,
    )


def _like(default: Any, value: Any) -> Any:
    """Read a value of the kind of a default; the default for anything else."""
    if isinstance(default, str):
        return text(value)
    if isinstance(default, int):
        return count(value)
    known = number(value)
    return default if known is None else known


def _status(value: Any) -> Status:
    return cast("Status", value if isinstance(value, str) and value in _KNOWN else "failed")


def _can_resume(status: Status, *, begun: bool) -> bool:
    if status == "failed":
        return begun
    # In a pause the process goes on, or, where it is gone meanwhile, another one does.
    return status == "paused" or (status not in ACTIVE and status != "finished")


def _curve(points: list[dict[str, Any]], key: str) -> Curve:
    pairs = [(number(point.get("step")), number(point.get(key))) for point in points]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    table = np.array(known, dtype=np.float64).reshape(-1, 2)
    return Curve(table[:, 0], table[:, 1])


def _previews(folder: Path, value: Any) -> tuple[ValidationPicture, ...]:
    found = []
    for one in dicts(value):
        before, after = (picture_inside(folder, one.get(key)) for key in ("before", "after"))
        scores = number(one.get("iou_before")), number(one.get("iou_after"))
        if before is not None and after is not None and None not in scores:
            image, label, step = text(one.get("image")), count(one.get("label")), one.get("step")
            pair = scores[0] or 0.0, scores[1] or 0.0
            found.append(ValidationPicture(image, label, before, after, *pair, count(step)))
    return tuple(found)
