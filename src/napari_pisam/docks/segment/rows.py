"""The session's objects as the object list shows them. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from napari_pisam.layers import LabelsPlane
    from napari_pisam.session.session import Session, SessionObject

Color = tuple[float, float, float]

_GREY = (0.5, 0.5, 0.5)
LOW_SCORE = 0.5
"""Below this estimate of its own, the network is more wrong than right as a rule."""


class ListedObject(NamedTuple):
    """What the list shows of an object; the colour as RGB from 0 to 1."""

    id: int
    score: float | None
    area: int | None
    status: str
    color: Color

    @property
    def is_low(self) -> bool:
        """Whether the network itself thinks little of the mask."""
        return self.score is not None and self.score < LOW_SCORE

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The texts of the columns."""
        score = "" if self.score is None else f"{self.score:.2f}"
        area = "" if self.area is None else f"{self.area:,}"
        return str(self.id), f"low {score}" if self.is_low else score, area, self.status

    def sort_key(self, column: int) -> tuple[Any, int]:
        """Return what a column is sorted by; objects without a value come first."""
        values = (self.id, self.score, self.area, self.status)
        value = values[column]
        return (-1 if value is None else value), self.id


class ObjectRows:
    """Makes rows, each once: areas of many large masks take time to count."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[SessionObject, Any, bool, ListedObject]] = {}
        self._session: Session | None = None
        self._erased: set[int] = set()
        self._is_edited = False

    def mark_edited(self, _event: Any = None) -> None:
        """Note that somebody else may have written into the labels."""
        self._is_edited = True

    def rows(self, session: Session | None, labels: Any, plane: LabelsPlane | None) -> list[Any]:
        """Return a row for each object.

        Parameters
        ----------
        session : Session or None
        labels : napari Labels layer or None
            In whose colours; grey without.
        plane : LabelsPlane or None
            Its part that the session writes to.
        """
        if session is None:
            return []
        if self._is_edited or session is not self._session:
            self._erased = set() if plane is None else _erased(session, plane)
            self._session, self._is_edited = session, False
        known, self._rows = self._rows, {}
        for one in session.objects:
            is_erased = one.committed and one.id in self._erased
            before = known.get(one.id)
            if before is not None and before[:3] == (one, labels, is_erased):
                self._rows[one.id] = before
            else:
                self._rows[one.id] = one, labels, is_erased, _row(one, labels, is_erased)
        return [row for *_, row in self._rows.values()]


def _row(one: SessionObject, labels: Any, is_erased: bool) -> ListedObject:
    color = None if labels is None else labels.get_color(one.id)
    rgb = _GREY if color is None else (float(color[0]), float(color[1]), float(color[2]))
    score = None if one.mask is None else one.mask.score
    area = None if one.mask is None else one.mask.area
    return ListedObject(one.id, score, area, "erased" if is_erased else _status(one), rgb)


def _status(one: SessionObject) -> str:
    if one.committed:
        return "committed"
    if one.prompts is None:
        return "empty"
    if one.mask is None:
        return "waiting"
    return "outdated" if one.stale else "preview"


def _erased(session: Session, plane: LabelsPlane) -> set[int]:
    """Return the committed objects of which the labels have no pixel left."""
    gone = set()
    for one in session.objects:
        if not one.committed or one.mask is None:
            continue
        row0, col0, row1, col1 = one.mask.bbox
        window, middle = plane[row0:row1, col0:col1], (row1 - row0) // 2
        # Its middle tells of nearly every object that it is there.
        if (window[middle] == one.id).any():
            continue
        if not (np.asarray(window) == one.id).any():
            gone.add(one.id)
    return gone
