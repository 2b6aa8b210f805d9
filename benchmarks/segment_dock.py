"""How the Segment dock feels: the numbers of a real viewer with the embedded model.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/segment_dock.py --json dock.json

A 1024 x 1024 image, `tiny`, prompts added to the layers as the mouse does. Software rendering makes
drawing slower than on a desktop; it is part of the times.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from functools import partial
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEvent, QEventLoop, QTimer
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
    """The longest time that the GUI thread did not come back to its events.

    `longest` is what a user waits, with what other programs took; `own` is what the thread itself
    computed meanwhile; `undrawn` that without Qt's and OpenGL's drawing of the window, which a
    graphics card does elsewhere.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        window = viewer.window._qt_window
        handle, self._drawn = window.event, 0.0

        def event(one: QEvent) -> bool:
            started = time.thread_time()
            done = handle(one)
            if one.type() == QEvent.Type.UpdateRequest:
                self._drawn += time.thread_time() - started
            return done

        window.event = event
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(1)
        self.reset()

    def _tick(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self.own = max(self.own, used - self._used)
        self.undrawn = max(self.undrawn, used - self._used - self._drawn)
        self._last, self._used, self._drawn = now, used, 0.0

    def reset(self) -> None:
        """Begin a new measurement."""
        self.longest = self.own = self.undrawn = self._drawn = 0.0
        self._last, self._used = time.perf_counter(), time.thread_time()


def wait(condition, seconds: float = 60) -> None:
    """Let the window live until something is so; in a real event loop, as napari runs."""
    loop, timer = QEventLoop(), QTimer()
    end = time.monotonic() + seconds

    def look() -> None:
        if condition() or time.monotonic() > end:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(2)
    loop.exec()
    if not condition():
        raise TimeoutError(f"nothing came within {seconds} s")


def resident() -> float:
    """MB that the process has in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


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
    parser.add_argument("--part", choices=["clicks", "many", "after"], help="only one of them")
    arguments = parser.parse_args()
    image, boxes = scene()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    viewer.add_image(image, name="discs")
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment", area="right")
    controller = dock.controller
    wait(lambda: controller.session is not None)
    choice, session, watch = controller.workspace.choice, controller.session, Watch(viewer)
    results: dict[str, float] = {}

    def fresh() -> bool:
        current = session.current
        return current is not None and current.mask is not None and not current.stale

    def has_clicks(number: int) -> bool:
        return len(session.current.prompts.points) == number

    def settle(seconds: float = 0.15) -> None:
        wait(lambda: not session.is_busy)
        end = time.monotonic() + seconds
        wait(lambda: time.monotonic() > end)

    def note(title: str) -> None:
        results[f"{title}: longest block of the GUI thread, s"] = watch.longest
        results[f"{title}: longest own work, s"] = watch.own
        results[f"{title}: longest own work without drawing the window, s"] = watch.undrawn

    settle(1)
    watch.reset()
    choice["boxes"].add(corners(boxes[0]), shape_type="rectangle")
    wait(fresh)
    settle()
    note("first box with loading the model")
    controller.commit()
    settle()

    def click_times(box, count: int, apart: float = 0.0) -> list[float]:
        # A little apart it is the same object, and not the prompts whose masks are remembered.
        box = tuple(value + apart for value in box)
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

    if arguments.part in (None, "clicks"):
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
            note(f"box and clicks, {title}")
            watch.reset()
            controller.commit()
            settle()
            note(f"commit, {title}")
            # By the rule "keep", the boxes under it would get no pixel.
            controller.undo()
            controller.discard()
            settle()

    if arguments.part in (None, "many"):
        from napari_pisam import Predictor

        predictor = Predictor("tiny")
        predictor.set_image(image)
        predictor.predict(box=boxes[0])
        predictor.predict_many(boxes[:8])
        started = time.perf_counter()
        for box in boxes[2:]:
            predictor.predict(box=box)
        results["198 boxes one by one, without the dock, s"] = time.perf_counter() - started
        predictor.set_image(image)
        started = time.perf_counter()
        predictor.predict_many(boxes[2:])
        results["198 boxes together, without the dock, s"] = time.perf_counter() - started
        report(results, arguments.json)

        def committed() -> int:
            return sum(one.committed for one in session.objects)

        # As many as the time allows by themselves, the others in one go.
        few, many = boxes[2:42], boxes[42:]
        before = committed()
        started = time.perf_counter()
        for box in few:
            choice["boxes"].add(corners(box), shape_type="rectangle")
            wait(fresh)
            controller.commit()
        settle(0)
        alone = (time.perf_counter() - started) / len(few)
        results["one by one in the dock (box, preview, commit), ms a box"] = alone * 1e3
        assert committed() == before + len(few)
        controller.set_live(False)
        choice["boxes"].add([corners(box) for box in many], shape_type="rectangle")
        settle()
        watch.reset()
        started = time.perf_counter()
        controller.segment_all()
        wait(lambda: not session.is_busy, seconds=200)
        together = (time.perf_counter() - started) / len(many)
        results[f"Segment all in the dock, {len(many)} boxes, ms a box"] = together * 1e3
        results["Segment all in the dock, times as fast as one by one"] = alone / together
        note("Segment all")
        assert committed() == before + 198
        controller.set_live(True)
        settle()

    if arguments.part == "after":

        def same_object(title: str, apart: float) -> None:
            click_times(boxes[0], 3, apart)
            controller.discard()
            settle(3)  # saved by then
            before, used = resident(), time.process_time()
            seconds = click_times(boxes[0], 20, apart + 0.001)
            used = (time.process_time() - used) / 20
            results[f"click to preview drawn, {title}, p50 s"] = float(np.median(seconds))
            # Of all threads, the box before the clicks included: other programs do not change it.
            results[f"click to preview drawn, {title}, processor time s"] = used
            results[f"click to preview drawn, {title}, MB a click"] = (resident() - before) / 20
            controller.discard()
            settle()

        same_object("at first", 0.1)
        rng = np.random.default_rng(2)
        low = rng.uniform(0, 980, (500, 2))
        controller.set_rule("overwrite")
        controller.set_live(False)
        choice["boxes"].add(
            [corners((r, c, r + 40, c + 40)) for r, c in low], shape_type="rectangle"
        )
        controller.segment_all()
        wait(lambda: not session.is_busy, seconds=200)
        controller.set_live(True)
        settle()
        same_object(f"after {sum(one.committed for one in session.objects)} objects", 0.2)

    report(results, arguments.json)
    viewer.close()


if __name__ == "__main__":
    main()
