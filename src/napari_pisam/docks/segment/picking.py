"""Going on with an object that was worked on before, or with a label. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.docks.segment.label_search import find_label

if TYPE_CHECKING:
    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.layers.labels import LabelsPlane
    from napari_pisam.session.session import Execute, Session


class Picker:
    """Picks objects up again.

    Parameters
    ----------
    workspace : Workspace
        Whose session.
    execute : Execute
        For looking through large labels.
    """

    def __init__(self, workspace: Workspace, execute: Execute) -> None:
        self._workspace, self._execute = workspace, execute

    def pick(self, number: int) -> None:
        """Go on with an object of the list, or with a label that is there.

        Raises
        ------
        ValueError
            If its pixels cannot be taken out of the labels.
        """
        session, labels = self._workspace.session, self._workspace.planes.labels
        if session is None:
            return
        if session.get(number) is not None:
            session.reopen(number)
            self._workspace.take_tool("clicks")
        elif labels is not None:
            self._start_from(session, labels, number)

    def _start_from(self, session: Session, labels: LabelsPlane, number: int) -> None:
        # Looking for a label in a large image takes its time.
        plane = labels.frozen()

        def done(found: tuple[Any, tuple[int, int]]) -> None:
            if session is not self._workspace.session:
                return
            try:
                session.start_from_label(number, *found)
            except ValueError as error:
                self._workspace.failed.emit(str(error))
            else:
                self._workspace.take_tool("clicks")

        self._execute(
            lambda: find_label(plane, number),
            done,
            lambda error: self._workspace.failed.emit(str(error)),
        )


def place_of_cursor(viewer: Any, image: Any, plane: ImagePlane) -> tuple[int, int] | None:
    """Return the (row, col) px of the plane that the mouse is over, None beside the image."""
    world = np.asarray(viewer.cursor.position, dtype=np.float64)
    if len(world) < image.ndim:
        return None
    data = np.asarray(image.world_to_data(world[-image.ndim :]))
    row, col = (round(float(data[axis])) for axis in plane.axes)
    height, width = plane.size
    return (row, col) if 0 <= row < height and 0 <= col < width else None


def object_at(session: Session, labels: LabelsPlane | None, place: tuple[int, int]) -> int | None:
    """Return the open object whose mask covers a pixel, or else the label there, or else None."""
    row, col = place
    for one in session.objects:
        if one.committed or one.mask is None:
            continue
        row0, col0, row1, col1 = one.mask.bbox
        if row0 <= row < row1 and col0 <= col < col1 and one.mask.crop[row - row0, col - col0]:
            return one.id
    if labels is None:
        return None
    return int(labels[row : row + 1, col : col + 1][0, 0]) or None
