"""Objects through a stack: how far to carry them, split, merge, tracks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, Container, FloatSlider
from qtpy.QtWidgets import QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_pisam.predict.propagation import EndOfObject
from napari_pisam.widgets.file_dialogs import ask_save_path
from napari_pisam.widgets.parts import Quiet, QuietCombo, Section, button, row
from napari_pisam.widgets.strip import Strip

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.controller import SegmentController
    from napari_pisam.docks.segment.stacks import Stacks

_WAYS = (
    (-1, "◀ Down", "from the displayed slice to lower numbers"),
    (0, "◀ Both ▶", "from the displayed slice to lower and to higher numbers"),
    (1, "Up ▶", "from the displayed slice to higher numbers"),
)


_BOTH = -1
"""Along one axis, and from every slice where the object is along the other one."""


class _Slice(Quiet, QSpinBox):
    """The number of a slice."""


class StackPanel(QWidget):
    """Buttons that carry the current object on, and what goes with that.

    Parameters
    ----------
    controller : SegmentController
        What the buttons call.
    """

    def __init__(self, controller: SegmentController, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self.ways = {
            way: button(
                text,
                f"Propagate: carry the current object on {tip}, slice by slice, until it ends. "
                "Slices that you corrected stay; one undo takes the whole run back.",
                partial(self._propagate, way),
            )
            for way, text, tip in _WAYS
        }
        self.stop = button(
            "Stop", "What has come stays; undo takes it back", controller.stacks.stop
        )
        self.busy = Strip()
        self.axis = QuietCombo()
        self.axis.setToolTip(
            "Along which axis objects are carried on. Both: first along one, with the other as it "
            "is displayed, then from each of its slices along the other"
        )
        self.axis.activated.connect(self._choose_axis)
        self.first, self.last = _Slice(), _Slice()
        self.first.setToolTip("The lowest slice that is written")
        self.last.setToolTip("The highest slice that is written")
        self.split = button(
            "Split here",
            "From the displayed slice on, the current object is another one",
            controller.split,
        )
        self.merge = button(
            "Merge…",
            "The object that you click next, in any slice, and the current one become one",
            controller.begin_merge,
        )
        self.show_tracks = button(
            "Show tracks",
            "Add a Tracks layer: where the middle of each object of the labels goes",
            controller.show_tracks,
        )
        self.save_tracks = button(
            "Save tracks…",
            "Write track, time, (z,) y, x (px) and area (px) of all objects to a CSV file",
            partial(self._ask_file, "tracks", controller.save_tracks),
        )
        self.save_volumes = button(
            "Save volumes…",
            "Write volume, slices, centroid and intensities of all objects, each through all "
            "slices, to a CSV file",
            partial(self._ask_file, "volumes", controller.save_volumes),
        )
        self._ways_row = row(*self.ways.values())
        self._slices_row = row(QLabel("Slices"), self.first, QLabel("to"), self.last)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for part in (
            self._ways_row,
            self.stop,
            self.busy,
            self.axis,
            self._slices_row,
            row(self.split, self.merge),
            row(self.show_tracks, self.save_tracks, self.save_volumes),
        ):
            layout.addWidget(part)
        self.limits = Section(
            "When it ends",
            self._make_limits(controller.stacks),
            "By these, each slice is compared with the last",
        )
        layout.addWidget(self.limits)
        self.refresh()

    def _make_limits(self, stacks: Stacks) -> QWidget:
        end = stacks.end
        self.overlap = _slider("Overlap below", end.overlap, "IoU with the mask before, moved on")
        self.area = _slider("Area ratio below", end.area_ratio, "Of the two, smaller by larger")
        self.score = _slider("Score below", end.score, "What its IoU is likely to be")
        self.redoes = CheckBox(
            value=stacks.redoes,
            label="Carry corrections on",
            tooltip="When a slice is corrected and committed, do those up to the next slices that "
            "are right again",
        )
        fields: list[Any] = [self.overlap, self.area, self.score, self.redoes]
        form: Any = Container(widgets=fields)
        form.margins = (0, 0, 0, 0)
        for field in (self.overlap, self.area, self.score):
            field.changed.connect(self._tell_end)
        self.redoes.changed.connect(self._tell_redoes)
        self._form = form
        made: QWidget = form.native
        return made

    def _tell_end(self) -> None:
        end = EndOfObject(self.overlap.value, self.area.value, self.score.value)
        self._controller.set_end(end)

    def _tell_redoes(self, redoes: bool) -> None:
        self._controller.stacks.redoes = redoes

    def _choose_axis(self, place: int) -> None:
        stacks, chosen = self._controller.stacks, self.axis.itemData(place)
        stacks.axis = next(iter(stacks.axes), None) if chosen == _BOTH else chosen
        stacks.then = list(stacks.axes)[-1] if chosen == _BOTH else None
        self.refresh()

    def _propagate(self, way: int) -> None:
        self._controller.propagate(way, self.first.value(), self.last.value())

    def _ask_file(self, what: str, save: Callable[[Path], None]) -> None:
        if path := ask_save_path(self, f"Write the {what}", "CSV (*.csv)", f"{what}.csv"):
            save(Path(path))

    @property
    def is_needed(self) -> bool:
        """Whether the image has slices."""
        return self._controller.stacks.line is not None

    def refresh(self) -> None:
        """Show what there is and what is being done."""
        stacks = self._controller.stacks
        axes, line, doing = dict(stacks.axes), stacks.line, stacks.title
        if len(axes) == 2:
            axes[_BOTH] = ", then ".join(name.split(" ")[0] for name in axes.values())
        if {self.axis.itemData(i): self.axis.itemText(i) for i in range(self.axis.count())} != axes:
            self.axis.clear()
            for axis, name in axes.items():
                self.axis.addItem(name, axis)
        self.axis.setVisible(len(axes) > 1)
        if line is not None:
            is_both = stacks.then is not None and stacks.then != line.axis
            self.axis.setCurrentIndex(self.axis.findData(_BOTH if is_both else line.axis))
            self._show_range(line.size - 1)
        self._ways_row.setVisible(not doing)
        self.stop.setVisible(bool(doing))
        self.stop.setText(f"Stop  ({doing})")
        self.busy.setVisible(bool(doing))
        self.busy.show_busy(bool(doing))
        for one in (self.split, self.merge):
            one.setEnabled(not doing)

    def _show_range(self, most: int) -> None:
        if self.last.maximum() == most:
            return
        for field, value in ((self.first, 0), (self.last, most)):
            field.setRange(0, most)
            field.setValue(value)


def _slider(label: str, value: float, tip: str) -> FloatSlider:
    return FloatSlider(value=value, min=0, max=1, step=0.05, label=label, tooltip=tip)
