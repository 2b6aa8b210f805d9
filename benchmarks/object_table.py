"""How long the table of measures takes: 5,000 objects at first, and after one change.

``python benchmarks/object_table.py [objects]``, with a display or under xvfb-run.
"""

from __future__ import annotations

import sys
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_pisam.predict.mask import Mask
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.records import Record, SessionObject
from napari_pisam.widgets.segment import SegmentWidget

_SIDE, _STEP = 4096, 56
_SHOWN = ("id", "class", "score", "area_px", "area", "perimeter", "length", "width", "solidity")


def squares(count: int) -> tuple[np.ndarray, list[Mask]]:
    """Draw discs with notches in rows."""
    labels = np.zeros((_SIDE, _SIDE), np.uint16)
    rows, cols = np.mgrid[:40, :40]
    disc = (rows - 19.5) ** 2 + (cols - 19.5) ** 2 < 19**2
    disc[:12, 16:22] = False
    masks = []
    per_row = _SIDE // _STEP
    for number in range(1, count + 1):
        row, col = ((number - 1) // per_row * _STEP, (number - 1) % per_row * _STEP)
        labels[row : row + 40, col : col + 40][disc] = number
        bbox = (row, col, row + 40, col + 40)
        masks.append(Mask((_SIDE, _SIDE), bbox, disc, 0.9, bbox))
    return labels, masks


def main() -> None:
    """Print the times."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    viewer = napari.Viewer()
    labels, masks = squares(count)
    viewer.add_image(np.random.default_rng(0).integers(0, 4000, labels.shape, np.uint16))
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock)
    QApplication.processEvents()
    session, work = dock.controller.session, dock.controller.workspace
    work.choice["labels"].data = labels
    document = session._document
    for number, mask in enumerate(masks, 1):
        prompts = Prompts((mask.bbox[0], mask.bbox[1], mask.bbox[2], mask.bbox[3]))
        document._put(number, Record(SessionObject(number, prompts, mask, True, False), prompts))
    session._objects = None
    work.objects_changed.emit()
    QApplication.processEvents()
    started, used = time.perf_counter(), time.process_time()
    dock.objects.choose((*_SHOWN, "intensity_mean", "intensity_min", "intensity_max"))
    longest = 0.0
    while not dock.objects.measures.is_complete or dock.objects.measures._is_running:
        turn = time.perf_counter()
        QApplication.processEvents()
        longest = max(longest, time.perf_counter() - turn)
        time.sleep(0.001)
    QApplication.processEvents()
    print(f"{count} objects, first: {time.perf_counter() - started:.2f} s,", end=" ")
    print(f"{time.process_time() - used:.2f} s of the processor;", end=" ")
    print(f"longest block of the window {longest * 1000:.0f} ms")
    times, parts, processor = [], [], []
    for number in range(1, 21):
        row0, col0, row1, col1 = masks[number * 7].bbox
        work.choice["labels"].data[row0 : row0 + 2, col0 : col0 + 9] = number * 7 + 1
        session.labels_changed.emit((row0, col0, row1, col1))
        started, used = time.perf_counter(), time.thread_time()
        rows = dock.objects.rows()
        parts.append(time.perf_counter() - started)
        dock.object_list.show_objects(rows, None, dock.objects.shown_columns())
        times.append(time.perf_counter() - started)
        processor.append(time.thread_time() - used)
        started = time.thread_time()
        dock.objects._write_features()
        features = time.thread_time() - started
    print(f"after one change: {np.median(times) * 1000:.1f} ms, p95", end=" ")
    print(f"{np.percentile(times, 95) * 1000:.1f} ms (measures and rows", end=" ")
    print(f"{np.median(parts) * 1000:.1f}); of the processor", end=" ")
    print(f"{np.median(processor) * 1000:.1f} ms;", end=" ")
    print(f"the layer's features {features * 1000:.1f} ms of the processor")
    viewer.close()


if __name__ == "__main__":
    main()
