"""Pictures of the Fine-tune dock, made by using it: part of ``make screenshots``.

Somebody wants coins without their rims. A dozen are committed in Segment and corrected by hand
(here: by a watershed of the edges, and an erosion), and a model learns what is wanted. Writes
docs/images/finetune-*.png and prints how long the window did not react. Needs a display, a virtual
one will do.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from scipy.ndimage import binary_erosion
from screenshots import draw, own_places, wait
from skimage.filters import sobel
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from napari_pisam.sample_data import coins
from napari_pisam.widgets.finetune.dock import FineTuneWidget
from napari_pisam.widgets.segment import SegmentWidget

FOLDER = Path(__file__).parent / "images"
OBJECTS, RIM = 12, 4  # RIM: px


class Watch:
    """The longest time that the window did not come back to its events, and its own part of it."""

    def __init__(self) -> None:
        self.longest = self.own = 0.0
        self.reset()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(1)

    def _tick(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self.own = max(self.own, busy - self._busy)
        self._last, self._busy = now, busy

    def reset(self) -> None:
        """Begin a new measurement."""
        QApplication.processEvents()
        self.longest = self.own = 0.0
        self._last, self._busy = time.perf_counter(), time.thread_time()

    def tell(self, what: str) -> None:
        """Print what was measured, and begin a new measurement."""
        text = f"{what}: longest block {1000 * self.longest:.0f} ms, of which the thread worked"
        sys.stdout.write(f"{text} {1000 * self.own:.0f} ms at most\n")
        self.reset()


def outlines(image: np.ndarray) -> list[np.ndarray]:
    """Return bool masks of the coins without their rims."""
    markers = np.zeros(image.shape, int)
    markers[image < 30], markers[image > 150] = 1, 2
    found = label(watershed(sobel(image), markers) == 2)
    shown = [one for one in regionprops(found) if 500 < one.area < 4000]
    return [binary_erosion(found == one.label, iterations=RIM) for one in shown][:OBJECTS]


def main() -> None:
    """Use both docks and take pictures on the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=int, default=3)
    parser.add_argument("--theme", default="dark")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    own_places()
    viewer = napari.Viewer(show=True)
    viewer.theme = given.theme
    viewer.window.resize(1600, 1000)
    data, options, _ = coins()[0]
    viewer.add_image(data, **{"name": "coins"} | options)
    segment = SegmentWidget(viewer)
    viewer.window.add_dock_widget(segment, name="Pi-SAM: Segment", area="right")
    wait(lambda: segment.controller.session is not None)

    def picture(name: str) -> None:
        for _ in range(20):
            QApplication.processEvents()
        path = given.output / f"finetune-{name}.png"
        viewer.screenshot(str(path), canvas_only=False, flash=False)

    choice = segment.controller.workspace.choice
    for number, mask in enumerate(outlines(data), 1):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        draw(segment, (rows[0] - 1.5, cols[0] - 1.5, rows[-1] + 1.5, cols[-1] + 1.5))
        segment.controller.commit()
        wait(lambda: segment.controller.session.current is None)
        choice["labels"].data[choice["labels"].data == number] = 0
        choice["labels"].data[mask] = number
    choice["labels"].refresh()
    watch = Watch()
    dock = FineTuneWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Fine-tune", area="right", tabify=True)
    dock.parent().raise_()
    controller = dock.controller
    wait(lambda: len(controller.learning.rows) == OBJECTS)
    watch.tell("opening the dock")
    dock.settings_panel.length.setValue(given.minutes)
    picture("objects")
    watch.reset()
    started = time.monotonic()
    dock.run_panel.start_button.click()
    runner = controller.runner
    wait(lambda: runner.is_active or not controller.activity.title)
    watch.tell(f"check and start, {time.monotonic() - started:.0f} s")
    if not runner.is_active:
        raise RuntimeError(dock.run_panel.note.text())
    wait(lambda: runner.state.base_boundary is not None)
    watch.tell(f"until the base is known, {time.monotonic() - started:.0f} s")
    wait(lambda: len(runner.state.boundary_validation.x) > 1)
    watch.tell(f"until the second validation, {time.monotonic() - started:.0f} s")
    wait(lambda: runner.state.progress > 0.6 or not runner.is_active)
    watch.tell("training")
    wait(lambda: not runner.is_active)
    watch.tell(f"training to its end, {runner.state.step} steps")
    sys.stdout.write(f"{runner.state.status}: {runner.state.verdict} {runner.state.error}\n")
    picture("result")
    if runner.state.is_better:
        watch.reset()
        dock.training_panel.result.use_button.click()
        weights = str(runner.state.best_weights)
        wait(lambda: segment.loader.loaded is not None and segment.loader.loaded.name == weights)
        segment.parent().raise_()
        watch.tell("use it")
        picture("used")
    viewer.close()


if __name__ == "__main__":
    main()
