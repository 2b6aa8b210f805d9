"""Writing objects into labels that may have to be made, or made wider, first. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_pisam.session.session import LabelOverflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.predict.prompts import Box
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
    try:
        session.commit(number)
    except LabelOverflowError:
        if not work.planes.widen_labels(number):
            raise
        session.commit(number)


def segment(
    work: Workspace,
    session: Session,
    boxes: list[Box],
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
    work.planes.widen_labels(max([session.first_id + len(boxes), *opened]))
    session.segment_all(boxes, opened=opened, progress=progress)
