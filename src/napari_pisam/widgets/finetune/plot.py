"""A small line plot that is painted in less than a millisecond, in the colours of the theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_pisam.docks.finetune.plot_scale import thin, tick_text, ticks, value_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TRAINING, VALIDATION, BASE = "#3d9df2", "#f28c28", "#9a9a9a"
"""Blue, orange and grey: told apart by everybody, on dark and on light."""

_MOST_POINTS = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 20, 16


@dataclass(frozen=True)
class PlotLine:
    """A line of a plot.

    Attributes
    ----------
    x, y : (n,) float array
    color : str
    width : float
        Px.
    alpha : float
        0 to 1.
    has_dots : bool
        Whether every point is shown.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    color: str
    width: float = 2.0
    alpha: float = 1.0
    has_dots: bool = False


class Plot(QWidget):
    """Lines over steps, a level to compare with, and a title with the newest value.

    Parameters
    ----------
    title : str
    bounds : (float, float), optional
        Where the values can be at all.
    least : float
        The axis shows at least that much.
    """

    def __init__(
        self,
        title: str,
        bounds: tuple[float, float] | None = None,
        least: float = 0.0,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._title, self._bounds, self._least = title, bounds, least
        self._note = ""
        self._lines: tuple[PlotLine, ...] = ()
        self._level: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(84)

    def sizeHint(self) -> QSize:
        """Return the size that it likes to have."""
        return QSize(320, 120)

    def show_lines(
        self, lines: Sequence[PlotLine], level: float | None = None, note: str = ""
    ) -> None:
        """Show lines, a dashed level, and a note at the right of the title."""
        self._lines, self._level, self._note = tuple(lines), level, note
        self.update()

    def _ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        xs = [line.x for line in self._lines if line.x.size]
        last = max((float(x[-1]) for x in xs), default=1.0)
        shown = [line.y for line in self._lines if line.y.size]
        if self._level is not None:
            shown.append(np.array([self._level]))
        return (0.0, max(last, 1.0)), value_range(shown, self._least, self._bounds)

    def paintEvent(self, _event: Any) -> None:
        """Paint everything."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(self.foregroundRole())
        area = QRectF(
            _LEFT, _TOP, max(10, self.width() - _LEFT - _RIGHT), self.height() - _TOP - _BOTTOM
        )
        (x0, x1), (y0, y1) = self._ranges()

        def place(x: float, y: float) -> QPointF:
            return QPointF(
                area.left() + (x - x0) / (x1 - x0) * area.width(),
                area.bottom() - (y - y0) / (y1 - y0) * area.height(),
            )

        self._paint_texts(painter, text, area)
        if y1 > y0 and any(line.x.size for line in self._lines):
            self._paint_axes(painter, text, area, (x0, x1), (y0, y1))
            painter.setClipRect(area.adjusted(-1, -3, 3, 3))
            if self._level is not None:
                pen = QPen(QColor(BASE), 1.5, Qt.PenStyle.DashLine)
                painter.setPen(pen)
                painter.drawLine(place(x0, self._level), place(x1, self._level))
            for line in self._lines:
                self._paint_line(painter, line, place)
        painter.end()

    def _paint_texts(self, painter: QPainter, text: QColor, area: QRectF) -> None:
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() * 0.9))
        painter.setFont(font)
        painter.setPen(text)
        head = QRectF(4, 0, self.width() - 8 - _RIGHT / 2, _TOP)
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(head, int(Qt.AlignmentFlag.AlignLeft | middle), self._title)
        painter.drawText(head, int(Qt.AlignmentFlag.AlignRight | middle), self._note)
        if not any(line.x.size for line in self._lines):
            faint = QColor(text)
            faint.setAlphaF(0.5)
            painter.setPen(faint)
            painter.drawText(area, int(Qt.AlignmentFlag.AlignCenter), "nothing measured yet")

    def _paint_axes(
        self,
        painter: QPainter,
        text: QColor,
        area: QRectF,
        xs: tuple[float, float],
        ys: tuple[float, float],
    ) -> None:
        faint, grid = QColor(text), QColor(text)
        faint.setAlphaF(0.75)
        grid.setAlphaF(0.15)
        middle = Qt.AlignmentFlag.AlignVCenter
        for value in ticks(*ys, most=max(3, int(area.height() // 24))):
            y = area.bottom() - (value - ys[0]) / (ys[1] - ys[0]) * area.height()
            painter.setPen(QPen(grid, 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(faint)
            label = QRectF(0, y - 8, area.left() - 4, 16)
            painter.drawText(label, int(Qt.AlignmentFlag.AlignRight | middle), tick_text(value))
        painter.setPen(faint)
        for value in ticks(*xs, most=4):
            x = area.left() + (value - xs[0]) / (xs[1] - xs[0]) * area.width()
            label = QRectF(min(x - 30, area.right() - 55), area.bottom() + 1, 60, _BOTTOM - 1)
            painter.drawText(label, int(Qt.AlignmentFlag.AlignCenter), tick_text(value))
        painter.setPen(QPen(grid, 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())

    def _paint_line(self, painter: QPainter, line: PlotLine, place: Any) -> None:
        x, y = thin(line.x, line.y, _MOST_POINTS)
        points = [place(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True) if b == b]
        color = QColor(line.color)
        color.setAlphaF(line.alpha)
        painter.setPen(QPen(color, line.width))
        painter.drawPolyline(QPolygonF(points))
        if line.has_dots:
            painter.setBrush(color)
            for point in points:
                painter.drawEllipse(point, 2.5, 2.5)
            painter.setBrush(Qt.BrushStyle.NoBrush)
