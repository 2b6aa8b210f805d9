"""How long the next image of a series takes: 200 images, real keys in a real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/series.py --json series.json

*Shown*: from the key until the window with the new image has been drawn. *Ready*: until boxes can
be drawn on it, nothing of the change being left to do. Images are looked at for a second, as a
person does at least, or (*at once*) not at all. *Own work* is the time that the window's own thread
computed until it was ready, with its drawing: what remains of it where nobody else computes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import tifffile
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtTest import QTest

from napari_pisam.widgets.segment import SegmentWidget
from segment_dock import corners, resident, scene, wait

IMAGES = 200


class Drawn:
    """Counts how often the window was drawn."""

    def __init__(self, viewer: napari.Viewer) -> None:
        window = viewer.window._qt_window
        handle, self.count = window.event, 0

        def event(one: QEvent) -> bool:
            done = handle(one)
            self.count += one.type() == QEvent.Type.UpdateRequest
            return done

        window.event = event


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keys", type=int, default=60, help="how many images are gone to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["NAPARI_PISAM_AUTOSAVE"] = f"{name}/autosaves"
        folder = Path(name) / "images"
        folder.mkdir()
        image, boxes = scene()
        for number in range(IMAGES):
            shifted = np.roll(image, 7 * number, axis=1)
            tifffile.imwrite(folder / f"image{number}.tif", shifted, compression="zlib")
        results = measure(folder, boxes[0], arguments.keys)
    for title, value in results.items():
        print(f"{title:60} {value:8.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def measure(folder: Path, box: tuple[float, ...], keys: int) -> dict[str, float]:
    """Go through the images; times in s, memory in MB."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment", area="right")
    work, series, drawn = dock.controller.workspace, dock.series, Drawn(viewer)
    started = time.perf_counter()
    series.open([folder])
    wait(lambda: work.session is not None and work.choice["boxes"] is not None)
    results = {"opening the folder and the first image, s": time.perf_counter() - started}
    canvas = viewer.window._qt_viewer.canvas.native

    def pause(seconds: float) -> None:
        end = time.monotonic() + seconds
        wait(lambda: time.monotonic() > end)

    def go(place: int) -> tuple[float, float, float]:
        before, calm = drawn.count, []
        began, used = time.perf_counter(), time.thread_time()
        QTest.keyClick(canvas, Qt.Key.Key_PageDown)
        wait(lambda: work.choice["image"].name == f"image{place}" and drawn.count > before)
        shown = time.perf_counter() - began
        QTimer.singleShot(0, lambda: calm.append(True))
        wait(lambda: bool(calm) and work.session is not None and not series.is_reading)
        return shown, time.perf_counter() - began, time.thread_time() - used

    place, memory = 0, resident()
    for title, seconds, annotate in (
        ("a second later", 1.0, False),
        ("a second later, with an object each", 1.0, True),
        ("at once", 0.0, False),
    ):
        times = []
        for _ in range(keys // 3):
            place += 1
            times.append(go(place))
            if annotate:
                work.choice["boxes"].add(corners(box), shape_type="rectangle")
                wait(lambda: work.session.current and work.session.current.mask is not None)
                dock.controller.commit()
            pause(seconds)
        for kind, values in zip(("shown", "ready", "own work"), np.array(times).T, strict=True):
            results[f"{title}: {kind}, p50, s"] = float(np.median(values))
            results[f"{title}: {kind}, p95, s"] = float(np.percentile(values, 95))
            results[f"{title}: {kind}, longest, s"] = float(values.max())
        results[f"{title}: more memory than before, MB"] = resident() - memory
        memory = resident()
    viewer.close()
    return results


if __name__ == "__main__":
    main()
