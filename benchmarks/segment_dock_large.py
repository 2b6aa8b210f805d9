"""Commits into labels of 20,000 x 20,000 px in a real viewer, with and without the drawing.

Run as ``xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/segment_dock_large.py``.
"""

from __future__ import annotations

import resource
import time

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_pisam.widgets.segment import SegmentWidget
from segment_dock import Watch, corners, resident, scene, wait

SIDE = 20_000


def main() -> None:
    """Measure and print."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    viewer.add_image(scene()[0], name="discs")
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment", area="right")
    controller, watch = dock.controller, Watch(viewer)
    choice = controller.workspace.choice
    wait(lambda: controller.session is not None)

    def fresh() -> bool:
        current = controller.session.current
        return current is not None and current.mask is not None and not current.stale

    def settle(seconds: float = 0.2) -> None:
        wait(lambda: not controller.session.is_busy)
        end = time.monotonic() + seconds
        wait(lambda: time.monotonic() > end)

    big = np.zeros((SIDE, SIDE), np.uint8)
    big[3000:3160, 3000:3160] = big[5000:5160, 5000:5160] = big[8000:9600, 8000:9600] = 200
    viewer.layers.selection.clear()
    layer = viewer.add_image(big, name="large", contrast_limits=(0, 255))
    choice.choose("image", layer)
    choice.choose("labels", None)
    controller.new_prompt_layers()
    canvas = viewer.window._qt_viewer.canvas.native
    # The first object loads the model and has the layers drawn once.
    for box in ((2980, 2980, 3180, 3180), (4980, 4980, 5180, 5180), (7800, 7800, 9800, 9800)):
        choice["boxes"].add(corners(box), shape_type="rectangle")
        wait(fresh)
        settle(1)
        watch.reset()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, resident()
        started = time.perf_counter()
        controller.commit()
        written = time.perf_counter() - started
        QApplication.processEvents()
        canvas.repaint()
        QApplication.processEvents()
        drawn = time.perf_counter() - started
        settle(1)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, resident()
        print(
            f"box of {box[2] - box[0]} px: commit {written:.3f} s, until drawn {drawn:.3f} s, "
            f"longest block {watch.longest:.3f} s, of own work {watch.own:.3f} s, "
            f"without drawing the window {watch.undrawn:.3f} s, "
            f"peak +{after[0] - before[0]:.0f} MB, now {after[1] - before[1]:+.0f} MB"
        )
    viewer.close()


if __name__ == "__main__":
    main()
