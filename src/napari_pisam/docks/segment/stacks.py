"""Objects through the slices of a stack: carried on, split, merged, and shown as tracks. No Qt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.docks.segment.stack_run import (
    InSlices,
    LabelStack,
    StackRun,
    StackSlices,
    StackSnapshot,
    Task,
    relabel_steps,
    source_of,
    views_of,
)
from napari_pisam.docks.segment.writing import commit
from napari_pisam.images.label_formats.table import write_rows
from napari_pisam.images.track_files import write_tracks
from napari_pisam.layers.images import axis_name
from napari_pisam.layers.measuring import channels_of, volumes_job, voxel_of
from napari_pisam.layers.tracks import show_tracks
from napari_pisam.measure.tracks import tracks
from napari_pisam.predict.propagation import EndOfObject
from napari_pisam.session.requests import Request, Requests, failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.segment.stack_run import Pixels
    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.predict.propagation import FollowedSlice
    from napari_pisam.session.session import Execute, Session

_NONE = "Choose an object first: click its row, or press J over it."
_NO_LABELS = "There are no labels with slices. Propagate an object first."
_TO_WHERE = {1: "to higher slices", -1: "to lower slices", 0: "both ways"}


class Stacks:
    """Carries objects through the slices of the displayed image, one thing at a time.

    Masks are made where all predictions are made, slice by slice, so that clicks come in between;
    they are written on the main thread.

    Parameters
    ----------
    workspace : Workspace
        Whose planes.
    execute : Execute
        Runs a job in the background and delivers on the main thread.

    Attributes
    ----------
    changed : Signal()
        Something is being done, or is done, or another slice came.
    end : EndOfObject
        When an object is taken to have ended.
    axis : int or None
        Along which axis to go, of those in `axes`; None: the last of them.
    then : int or None
        Along which other axis to go on from every slice where the object is.
    redoes : bool
        Whether a correction is carried to the slices beside it by itself.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, execute: Execute) -> None:
        self.end = EndOfObject()
        self.axis: int | None = None
        self.then: int | None = None
        self.redoes = True
        self.merging: int | None = None
        self._work, self._execute = workspace, execute
        self._requests = Requests(execute, lambda _busy: self.changed.emit())
        self._run: StackRun | None = None
        self._last: StackRun | None = None
        self._count = 0

    # -- what there is ------------------------------------------------------------------------

    @property
    def axes(self) -> dict[int, str]:
        """The axes that there are slices along, and what they are called."""
        planes = self._work.planes
        if planes.plane is None:
            return {}
        return {
            axis: f"{axis_name(planes.image, axis)} ({planes.plane.shape[axis]})"
            for axis in planes.plane.sliced
            if axis != planes.plane.channel_axis and planes.plane.shape[axis] > 1
        }

    @property
    def line(self) -> StackSlices | None:
        """The slices that an object is carried through; None where there are none."""
        planes, axes = self._work.planes, self.axes
        if planes.plane is None or not axes:
            return None
        axis = self.axis if self.axis in axes else list(axes)[-1]
        return StackSlices(planes.image, planes.plane, axis)

    @property
    def title(self) -> str:
        """What is being done, and how far it is; empty where nothing is."""
        if self._run is None:
            return ""
        return f"{self._run.title}: {self._count} slice{'' if self._count == 1 else 's'}"

    # -- what can be done ---------------------------------------------------------------------

    def propagate(self, direction: int, first: int = 0, last: int | None = None) -> None:
        """Carry the current object from the displayed slice to the others.

        Parameters
        ----------
        direction : int
            1 to higher slices, -1 to lower ones, 0 both.
        first, last : int
            Slices to stay within, both included; by default all.

        Raises
        ------
        ValueError
            If there is no object, no stack, or no model.
        """
        number, line = self._begin(), self.line
        if line is None or number is None:
            return
        task = Task(number, direction, first, line.size - 1 if last is None else last, self.end)
        then = self.then if self.then in self.axes and self.then != line.axis else None
        self._carry(line, task, f"Object {number} {_TO_WHERE[direction]}", then)

    def corrected(self, number: int) -> None:
        """Carry a correction on up to the next slices that are right, if that is wanted."""
        line, planes = self.line, self._work.planes
        if line is None or self._run is not None or not self.redoes:
            return
        if planes.predictor is None or planes.labels is None:
            return
        views = views_of(line, planes.sessions.get(line.image, {}))
        there = [index for index, of_slice in views.items() if number in of_slice]
        if any(views[index][number].is_carried for index in there):
            task = Task(number, 0, min(there), max(there), self.end)
            self._carry(line, task, f"Object {number} corrected")

    def _carry(self, line: StackSlices, task: Task, title: str, then: int | None = None) -> None:
        found, predictor = self._found(line), self._work.planes.predictor
        if predictor is None or found is None:
            raise ValueError("There is no model to propagate with. Load one first.")
        start = self._session_at(line, line.here)
        self._count = 0
        self._follow(StackRun(title, found, task.number, start, then=then), task)

    def _follow(self, run: StackRun, task: Task) -> None:
        planes = self._work.planes
        predictor, prepare, line = planes.predictor, planes.prepare, run.found.line
        steps = task.steps(run.found, source_of(line, planes.channels), predictor)

        def step() -> FollowedSlice | None:
            try:
                return next(steps, None)
            finally:
                # The displayed slice's session relies on what it showed the predictor.
                prepare(predictor)

        self._start(run, step, partial(self._write_mask, run))

    def _go_on(self, run: StackRun) -> bool:
        """Go along the next line of a run through two axes; whether there is one."""
        planes, first = self._work.planes, run.found.line
        if run.then is not None:
            axis, then, run.then = first.axis, run.then, None
            there = views_of(first, planes.sessions.get(first.image, {}))
            run.lines = [
                StackSlices(first.image, first.plane.at(axis, index), then)
                for index, views in there.items()
                if run.number in views
            ]
        if not run.lines or planes.labels is None or planes.image is not first.image:
            return False
        line = run.lines.pop(0)
        labels = planes.labels
        for axis, index in enumerate(line.plane.index):
            if axis not in line.plane.axes and index is not None:
                labels = labels.at(axis - len(line.plane.shape), index)
        views = views_of(line, planes.sessions.get(line.image, {}))
        run.found = StackSnapshot(line, labels.frozen(), views)
        self._follow(run, Task(run.number, 0, 0, line.size - 1, self.end))
        return True

    def split(self) -> None:
        """Give what the current object has from the displayed slice on to a new object.

        Raises
        ------
        ValueError
            If there is no object, or no stack.
        """
        number, line, planes = self._begin(), self.line, self._work.planes
        found = None if line is None else self._found(line)
        if line is None or number is None or found is None:
            return
        if line.here == 0:
            raise ValueError("This is the first slice: there is nothing before it to split off.")
        new = max(session.first_id for session in planes.sessions[line.image].values())
        planes.widen_labels(new)
        self._relabel(line, (number,), new, f"Object {number} is {new} from here on", line.here)

    def begin_merge(self) -> None:
        """Wait for the object that is the same one as the current object to be picked.

        Raises
        ------
        ValueError
            If there is no object, or no stack.
        """
        self.merging = self._begin()
        if self.merging is not None:
            self._work.hinted.emit(
                f"Now click, in any slice, on the object that is object {self.merging} too."
            )
        self.changed.emit()

    def cancel_merge(self) -> None:
        """Wait no longer."""
        self.merging = None
        self.changed.emit()

    def merge(self, other: int) -> None:
        """Make another object, in all slices, the one that was current before.

        Raises
        ------
        ValueError
            If it is the same one, or there is no stack.
        """
        number, line = self.merging, self.line
        self.cancel_merge()
        if number is None or line is None:
            return
        if number == other:
            raise ValueError(f"Both are object {number} already. Choose another one to merge with.")
        self._relabel(line, (number, other), number, f"Object {other} is {number}", 0)

    def _relabel(
        self, line: StackSlices, numbers: tuple[int, ...], target: int, title: str, first: int
    ) -> None:
        found = self._found(line)
        if found is not None:
            run = StackRun(title, found, target, self._session_at(line, line.here))
            steps = relabel_steps(found, numbers, target, first)
            self._count = 0
            self._start(run, lambda: next(steps, None), partial(self._write_pixels, run))

    def _begin(self) -> int | None:
        """Return the current object's number, once it is in the labels; None: it has to wait.

        Raises
        ------
        ValueError
            If there is none, or something runs already.
        """
        work, session = self._work, self._work.session
        if self._run is not None:
            raise ValueError(f"{self._run.title}: that still runs. Stop it first.")
        if self.line is None or session is None:
            raise ValueError("The image has one slice only. Open a stack or a series of times.")
        current = session.current
        if current is None:
            raise ValueError(_NONE)
        if current.committed:
            return current.id
        before = {one.id for one in session.objects if one.committed}
        commit(work, session, current.id)
        written = [one.id for one in session.objects if one.committed and one.id not in before]
        if not written:
            work.hinted.emit(f"Object {current.id} has no mask yet. Try again when it is there.")
            return None
        # It may have got another number.
        session.select(written[0])
        return written[0]

    # -- running ------------------------------------------------------------------------------

    def _found(self, line: StackSlices) -> StackSnapshot | None:
        planes = self._work.planes
        if planes.labels is None:
            return None
        views = views_of(line, planes.sessions.get(line.image, {}))
        return StackSnapshot(line, planes.labels.frozen(), views)

    def _session_at(self, line: StackSlices, index: int) -> Session:
        planes, plane = self._work.planes, line.at(index)
        session = planes.session_of(line.image, plane)
        is_attached = getattr(session.labels, "layer", None) is self._work.choice["labels"]
        if session is not planes.session and not is_attached:
            planes.attach_labels_to(plane, session)
        return session

    def _start(
        self, run: StackRun, step: Callable[[], Any], write: Callable[[Any], object]
    ) -> None:
        self._run = self._last = run
        self._next(run, step, write)

    def _next(self, run: StackRun, step: Callable[[], Any], write: Callable[[Any], object]) -> None:
        def done(came: Any) -> None:
            if run is not self._run:
                return
            if came is None:
                self._finish(run)
                return
            # Asked for first: it is computed while this one is written and drawn.
            self._next(run, step, write)
            try:
                write(came)
            except (ValueError, OSError, MemoryError) as error:
                self.stop()
                self._work.failed.emit(str(error))
            self.changed.emit()

        def failed(error: BaseException) -> None:
            if run is self._run:
                self.stop()
                self._work.failed.emit(failure_sentence(error, run.title))

        self._requests.submit(Request("stack", lambda: step, done, failed))

    def stop(self) -> None:
        """End what runs; what came by then stays, and one undo takes it back."""
        self._run = None
        self._requests.invalidate()
        self.changed.emit()

    def _finish(self, run: StackRun) -> None:
        if self._go_on(run):
            return
        self._run = None
        parts = [f"{run.title}: {self._count} slice{'' if self._count == 1 else 's'}", *run.ends]
        if run.refused:
            parts.append(f"other labels cover it in {run.refused}")
        self._work.hinted.emit("; ".join(parts) + ". Undo takes that back.")
        self.changed.emit()

    def _write_mask(self, run: StackRun, step: FollowedSlice) -> None:
        if step.end:
            run.ends.append(f"ends before {step.index} ({step.end})")
        session = self._session_for(run, step.index)
        one = session.get(run.number)
        if one is not None and not (one.committed and one.is_carried):
            # Somebody works on it.
            return
        if step.mask is None and one is None:
            return
        try:
            rule = self._work.planes.rule
            done = session.carry(
                run.number,
                step.mask,
                step.source,
                rule=rule,
                group=run,
                class_name=run.class_name,
            )
        except ValueError:
            run.refused += 1
            return
        self._wrote(run, session, step.index, done)

    def _write_pixels(self, run: StackRun, came: Pixels) -> None:
        index, pixels = came
        session = self._session_for(run, index)
        self._wrote(run, session, index, session.relabel(pixels, run.number, group=run))

    def _session_for(self, run: StackRun, index: int) -> Session:
        planes, line = self._work.planes, run.found.line
        if planes.image is not line.image or planes.labels is None:
            raise ValueError(f"{run.title}: stopped, the image or the labels were changed.")
        return self._session_at(line, index)

    def _wrote(self, run: StackRun, session: Session, index: int, done: bool) -> None:
        if not done:
            raise OSError(f"{run.title}: slice {index} could not be written. Check the disk.")
        run.note(session)
        self._count += 1

    # -- undo and redo ------------------------------------------------------------------------

    def undo(self, session: Session) -> None:
        """Take the last step back; of a run in all slices that were not changed since."""
        group = session.undo_group
        if group is None and not session.can_undo:
            group = self._last
        if group is self._run and group is not None:
            self.stop()
        session.undo()
        if isinstance(group, InSlices):
            group.repeat(session, undo=True)

    def redo(self, session: Session) -> None:
        """Do again what was undone; a run in all slices."""
        group = session.redo_group
        if group is None and not session.can_redo:
            group = self._last
        session.redo()
        if isinstance(group, InSlices):
            group.repeat(session, undo=False)

    # -- tracks -------------------------------------------------------------------------------

    def show_tracks(self) -> None:
        """Show how all objects of the labels move, as a Tracks layer of napari."""
        layer = self._work.choice["labels"]

        def done(table: Any) -> None:
            if layer in self._work.viewer.layers:
                show_tracks(self._work.viewer, layer, table)

        self._tracks("Showing tracks", done)

    def save_tracks(self, path: Path) -> None:
        """Write how all objects of the labels move to a CSV file."""
        then = partial(write_tracks, path)
        self._tracks("Saving tracks", lambda _table: self._tell_written(path), then)

    def _tell_written(self, path: Path) -> None:
        self._work.hinted.emit(f"Wrote {path.name}.")

    def save_volumes(self, path: Path) -> None:
        """Write what all objects of the labels measure through the slices to a CSV file.

        Raises
        ------
        ValueError
            If there are no labels with slices, or they are times.
        """
        work, line, labels = self._work, self.line, self._work.planes.labels
        if line is None or labels is None:
            raise ValueError(_NO_LABELS)
        voxel = voxel_of(line.image, line.plane, line.axis)
        if voxel is None:
            raise ValueError("The slices are times, which have no volume. Save tracks instead.")
        views = views_of(line, work.planes.sessions.get(line.image, {})).values()
        classes = {number: one.class_name for view in views for number, one in view.items()}
        channels = channels_of(work.viewer.layers, line.image, line.plane)
        stack = LabelStack(line, labels)
        measure = volumes_job(stack, channels, line.plane, line.axis, voxel)

        def job() -> None:
            rows = measure()
            write_rows(path, {n: {"class": classes.get(n, "")} | row for n, row in rows.items()})

        self._run_aside(
            "Saving volumes", job, lambda _none: work.hinted.emit(f"Wrote {path.name}.")
        )

    def _tracks(
        self,
        what: str,
        done: Callable[[Any], None],
        then: Callable[[Any], object] = lambda _table: None,
    ) -> None:
        layer = self._work.choice["labels"]
        if layer is None or layer.data.ndim < 3:
            raise ValueError(_NO_LABELS)
        data = layer.data

        def job() -> Any:
            table = tracks(data)
            then(table)
            return table

        self._run_aside(what, job, done)

    def _run_aside(self, what: str, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._execute(
            job, done, lambda error: self._work.failed.emit(failure_sentence(error, what))
        )
