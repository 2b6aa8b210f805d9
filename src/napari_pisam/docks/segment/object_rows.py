"""The session's objects as rows of the object list. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_pisam.docks.segment.object_row import ObjectRow

if TYPE_CHECKING:
    from napari_pisam.session.session import Session, SessionObject

_GREY = (0.5, 0.5, 0.5)


class ObjectRows:
    """Makes rows, each once: areas of many large masks take time to count."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[SessionObject, Any, ObjectRow]] = {}

    def rows(self, session: Session | None, labels: Any) -> list[ObjectRow]:
        """Give a row for each object; in the colours of a Labels layer, or grey."""
        if session is None:
            return []
        known, self._rows = self._rows, {}
        for one in session.objects:
            before = known.get(one.id)
            if before is not None and before[0] is one and before[1] is labels:
                self._rows[one.id] = before
            else:
                self._rows[one.id] = one, labels, _row(one, labels)
        return [row for _, _, row in self._rows.values()]


def _row(one: SessionObject, labels: Any) -> ObjectRow:
    color = None if labels is None else labels.get_color(one.id)
    rgb = _GREY if color is None else (float(color[0]), float(color[1]), float(color[2]))
    score = None if one.mask is None else one.mask.score
    area = None if one.mask is None else one.mask.area
    return ObjectRow(one.id, score, area, _status(one), rgb)


def _status(one: SessionObject) -> str:
    if one.committed:
        return "committed"
    if one.prompts is None:
        return "empty"
    if one.mask is None:
        return "waiting"
    return "outdated" if one.stale else "preview"


def hint(session: Session | None, problem: str, *, is_loading: bool) -> str:
    """Say what to do next."""
    if session is None:
        return problem or "Open an image to begin."
    if is_loading:
        return "Loading the model … you can go on drawing."
    current = session.current
    if current is None or current.prompts is None:
        if not session.live:
            return "Draw boxes; then Predict, or Segment all boxes."
        return "Draw a box around an object, or click on it."
    if current.mask is None:
        return f"Object {current.id}: waiting for its mask …" if session.live else "Press Predict."
    return f"Object {current.id}: click where it is wrong; W commits."
