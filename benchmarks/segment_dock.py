"""How the Segment dock feels: the numbers of a real viewer with the embedded model.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/segment_dock.py --json dock.json

A 1024 x 1024 image, `tiny`, prompts added to the layers as the mouse does. Software rendering makes
drawing slower than on a desktop; it is part of the times.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_pisam.widgets.segment import SegmentWidget

SIDE = 1024


def scene() -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """Return 200 noisy discs on a grey ground and their boxes."""
    rng = np.random.default_rng(0)
    image = rng.normal(60, 12, (SIDE, SIDE))
    rows, cols = np.mgrid[:SIDE, :SIDE]
    boxes = []
    for place in range(200):
        row, col = 40 + 50 * (place // 20) * 2, 36 + 50 * (place % 20)
        radius = rng.uniform(12, 20)
        image[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] += 90
        boxes.append((row - radius - 2, col - radius - 2, row + radius + 2, col + radius + 2))
    return np.clip(image, 0, 255).astype(np.uint8), boxes


class Watch:
    """The longest time that the GUI thread did not come back to its events."""

    def __init__(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(1)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now

    def reset(self) -> None:
        """Begin a new measurement."""
        for _ in range(3):
            QApplication.processEvents()
        self.longest, self._last = 0.0, time.perf_counter()


def wait(condition, seconds: float = 60) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {seconds} s")
        QApplication.processEvents()
        time.sleep(0.0005)


def corners(box) -> np.ndarray:
    """Vertices of a rectangle."""
    r0, c0, r1, c1 = box
    return np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])


def report(results: dict[str, float], path: Path | None) -> None:
    """Print what is known so far, and write it down."""
    for title, value in results.items():
        print(f"{title:75} {value:8.3f}")
    if path:
        path.write_text(json.dumps(results, indent=1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    image, boxes = scene()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    viewer.add_image(image, name="discs")
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment", area="right")
    controller = dock.controller
    wait(lambda: controller.session is not None)
    choice, session, watch = controller.workspace.choice, controller.session, Watch()
    results: dict[str, float] = {}

    def fresh() -> bool:
        current = session.current
        return current is not None and current.mask is not None and not current.stale

    def has_clicks(number: int) -> bool:
        return len(session.current.prompts.points) == number

    def settle() -> None:
        wait(lambda: not session.is_busy)
        for _ in range(5):
            QApplication.processEvents()

    watch.reset()
    choice["boxes"].add(corners(boxes[0]), shape_type="rectangle")
    wait(fresh)
    settle()
    results["load: longest block of the GUI thread, s"] = watch.longest
    controller.commit()
    settle()

    def click_times(box, count: int) -> list[float]:
        choice["boxes"].add(corners(box), shape_type="rectangle")
        wait(fresh)
        settle()
        seconds = []
        rng = np.random.default_rng(1)
        for _ in range(count):
            point = rng.uniform(box[:2], box[2:])
            started = time.perf_counter()
            choice["clicks"].add(point[None])
            wait(partial(has_clicks, len(seconds) + 1))
            wait(lambda: fresh() and not session.is_busy)
            viewer.window._qt_viewer.canvas.native.repaint()
            QApplication.processEvents()
            seconds.append(time.perf_counter() - started)
        return seconds

    for title, box in (
        ("small object", boxes[1]),
        ("object of 600 px", (200.0, 200.0, 800.0, 800.0)),
    ):
        click_times(box, 2)
        controller.discard()
        settle()
        watch.reset()
        seconds = click_times(box, 20)
        results[f"click to preview drawn, {title}, p50 s"] = float(np.median(seconds))
        results[f"click to preview drawn, {title}, p95 s"] = float(np.percentile(seconds, 95))
        results[f"box and clicks, {title}: longest block of the GUI thread, s"] = watch.longest
        watch.reset()
        controller.commit()
        settle()
        results[f"commit, {title}: longest block of the GUI thread, s"] = watch.longest

    from napari_pisam import Predictor

    predictor = Predictor("tiny")
    predictor.set_image(image)
    predictor.predict(box=boxes[0])
    started = time.perf_counter()
    for box in boxes:
        predictor.predict(box=box)
    alone = time.perf_counter() - started
    predictor.set_image(image)
    started = time.perf_counter()
    predictor.predict_many(boxes)
    together = time.perf_counter() - started
    results["200 boxes one by one, s"], results["200 boxes together, s"] = alone, together

    report(results, arguments.json)
    controller.set_live(False)
    for box in boxes[2:]:
        choice["boxes"].add(corners(box), shape_type="rectangle")
    settle()
    watch.reset()
    started = time.perf_counter()
    controller.segment_all()
    wait(lambda: sum(one.committed for one in session.objects) >= 195, seconds=200)
    results["Segment all, 198 boxes, in the dock, s"] = time.perf_counter() - started
    results["Segment all: longest block of the GUI thread, s"] = watch.longest
    controller.set_live(True)
    settle()
    seconds = click_times(boxes[1], 20)
    results["click to preview drawn after 200 objects, p50 s"] = float(np.median(seconds))

    report(results, arguments.json)
    viewer.close()


if __name__ == "__main__":
    main()
