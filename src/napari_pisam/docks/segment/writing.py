"""Writing objects into labels that may have to be made, or made wider, first. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.session.session import LabelOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.session.session import Session


def commit(work: Workspace, session: Session, number: int) -> None:
    """Write an object into the labels.

    Raises
    ------
    ValueError
        If it cannot be written.
    """
    if work.planes.labels is None:
        work.new_labels()
    _when_numbered(work, lambda: _commit(work, session, number))


def _commit(work: Workspace, session: Session, number: int) -> None:
    try:
        session.commit(number)
    except LabelOverflowError as error:
        if not work.planes.widen_labels(error.value):
            raise
        session.commit(number)


def _when_numbered(work: Workspace, call: Callable[[], None]) -> None:
    """Call when it is known which numbers the labels hold: most often at once."""
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            call()
        except (ValueError, OSError, MemoryError) as error:
            errors.append(error)
            if is_later:
                work.failed.emit(str(error))

    is_later = False
    is_later = not work.planes.when_numbered(attempt)
    if errors:
        raise errors[0]
    if is_later:
        work.hinted.emit(
            "The labels are being looked through for numbers that are in use; then it is written."
        )


def segment(
    work: Workspace,
    session: Session,
    boxes: list[Prompts],
    opened: list[int],
    progress: Callable[[int, int], None],
) -> None:
    """Predict boxes and write them; see `Session.segment_all`.

    Raises
    ------
    ValueError
        If it cannot be begun.
    """
    if work.planes.labels is None:
        work.new_labels()

    def begin() -> None:
        work.planes.widen_labels(max([session.first_id + len(boxes), *opened]))
        session.segment_all(boxes, opened=opened, progress=progress)

    _when_numbered(work, begin)


def adopt(work: Workspace, session: Session, objects: list[tuple[int, Prompts, str]]) -> None:
    """Write objects that were found elsewhere; see `Session.adopt`.

    Raises
    ------
    ValueError
        If they cannot be written.
    """
    if work.planes.labels is None:
        work.new_labels()

    def begin() -> None:
        largest = max(number for number, *_ in objects)
        # Some get other numbers, above all that there are.
        work.planes.widen_labels(max(largest, session.first_id + len(objects)))
        session.adopt(objects, commit=True)

    _when_numbered(work, begin)
