"""One line of the object list."""

from __future__ import annotations

from typing import NamedTuple

Color = tuple[float, float, float]


class ObjectRow(NamedTuple):
    """What the list shows of an object; the colour as RGB from 0 to 1."""

    id: int
    score: float | None
    area: int | None
    status: str
    color: Color

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The texts of the columns."""
        score = "" if self.score is None else f"{self.score:.2f}"
        area = "" if self.area is None else f"{self.area:,}"
        return str(self.id), score, area, self.status
