"""Loss, IoU and boundary IoU while a run goes on."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_pisam.docks.finetune.plot_scale import smooth
from napari_pisam.widgets.finetune.plot import BASE, TRAINING, VALIDATION, Plot, PlotLine

_LEGEND = (
    f"<span style='color:{TRAINING}'>━</span> training &nbsp; "
    f"<span style='color:{VALIDATION}'>━</span> validation &nbsp; "
    f"<span style='color:{BASE}'>╍</span> base model"
)


class CurvesPanel(QWidget):
    """Three plots over the steps of a run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boundary = Plot("Boundary IoU", (0, 1), 0.1)
        self.boundary.setToolTip(
            "How well outlines match, near the outline only: 1 is perfect. What a result is judged "
            "by; from the box alone, on objects that were not trained on."
        )
        self.iou = Plot("IoU", (0, 1), 0.1)
        self.iou.setToolTip("How well areas match: what both cover of what either covers")
        self.loss = Plot("Loss")
        self.loss.setToolTip("What training makes smaller; jumps from step to step are normal")
        legend = QLabel(_LEGEND)
        legend.setToolTip("Across: steps")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(legend)
        for plot in (self.boundary, self.iou, self.loss):
            layout.addWidget(plot, stretch=1)
        self.show_state(None)

    def show_state(self, state: Any) -> None:
        """Show a run's curves, or that there is none."""
        if state is None:
            for plot in (self.boundary, self.iou, self.loss):
                plot.show_lines(())
            return
        for plot, training, validation, base in (
            (self.iou, state.iou_training, state.iou_validation, state.base_iou),
            (
                self.boundary,
                state.boundary_training,
                state.boundary_validation,
                state.base_boundary,
            ),
        ):
            lines = [
                PlotLine(training.x, training.y, TRAINING, has_dots=True),
                PlotLine(validation.x, validation.y, VALIDATION, has_dots=True),
            ]
            plot.show_lines(lines, base, _note(validation.y, base))
        loss = state.loss
        window = max(1, len(loss.y) // 20)
        lines = [PlotLine(loss.x, loss.y, TRAINING, 1.0, 0.35)] if window > 1 else []
        lines.append(PlotLine(loss.x, smooth(loss.y, window), TRAINING))
        self.loss.show_lines(lines, None, f"{loss.y[-1]:.3f}" if len(loss.y) else "")


def _note(values: Any, base: float | None) -> str:
    if not len(values):
        return ""
    text = f"{values[-1]:.3f}"
    return text if base is None else f"{text}   (base {base:.3f})"
