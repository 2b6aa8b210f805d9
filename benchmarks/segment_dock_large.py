"""Commits into labels of 20,000 x 20,000 px, and a click after 500 objects, in a real viewer.

Run as ``xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/segment_dock_large.py``.
"""

from __future__ import annotations

import resource
import time
from functools import partial

import napari
import numpy as np

from napari_pisam.widgets.segment import SegmentWidget
from segment_dock import Watch, corners, scene, wait

SIDE = 20_000


def resident() -> float:
    """MB that the process has in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Measure and print."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1500, 950)
    image, boxes = scene()
    viewer.add_image(image, name="discs")
    dock = SegmentWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Pi-SAM: Segment", area="right")
    controller, watch = dock.controller, Watch()
    choice = controller.workspace.choice
    wait(lambda: controller.session is not None)
    session = controller.session

    def fresh() -> bool:
        current = controller.session.current
        return current is not None and current.mask is not None and not current.stale

    def settle(seconds: float = 0.2) -> None:
        wait(lambda: not controller.session.is_busy)
        end = time.monotonic() + seconds
        wait(lambda: time.monotonic() > end)

    def has_clicks(number: int) -> bool:
        return len(session.current.prompts.points) == number

    def clicks(title: str, box: tuple[float, float, float, float]) -> None:
        choice["boxes"].add(corners(box), shape_type="rectangle")
        wait(fresh)
        seconds, before = [], 0.0
        for number in range(1, 16):
            before = resident() if number == 5 else before
            started = time.perf_counter()
            choice["clicks"].add(np.array([box[:2]]) + 5 + number)
            wait(partial(has_clicks, number))
            wait(lambda: fresh() and not session.is_busy)
            seconds.append(time.perf_counter() - started)
        more = (resident() - before) / 10
        print(f"{title}: click p50 {np.median(seconds):.3f} s, {more:.2f} MB a click")
        controller.discard()
        settle()

    clicks("at first", boxes[0])
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 980, (500, 2))
    controller.set_rule("overwrite")
    controller.set_live(False)
    choice["boxes"].add([corners((r, c, r + 40, c + 40)) for r, c in low], shape_type="rectangle")
    controller.segment_all()
    wait(lambda: not session.is_busy, 200)
    controller.set_live(True)
    settle()
    print(sum(one.committed for one in session.objects), "objects committed")
    # Another object: masks of the same prompts are remembered.
    clicks("after them", boxes[1])

    big = np.zeros((SIDE, SIDE), np.uint8)
    big[5000:5160, 5000:5160] = big[8000:9600, 8000:9600] = 200
    viewer.layers.selection.clear()
    layer = viewer.add_image(big, name="large", contrast_limits=(0, 255))
    choice.choose("image", layer)
    choice.choose("labels", None)
    controller.new_prompt_layers()
    session = controller.session
    for box in ((4980, 4980, 5180, 5180), (7800, 7800, 9800, 9800)):
        choice["boxes"].add(corners(box), shape_type="rectangle")
        wait(fresh)
        settle(1)
        watch.reset()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, resident()
        started = time.perf_counter()
        controller.commit()
        written = time.perf_counter() - started
        settle(1)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, resident()
        print(
            f"box of {box[2] - box[0]} px: commit {written:.3f} s, longest block with drawing "
            f"{watch.longest:.3f} s, peak +{after[0] - before[0]:.0f} MB, now "
            f"{after[1] - before[1]:+.0f} MB; labels {choice['labels'].data.nbytes / 1e6:.0f} MB"
        )
    viewer.close()


if __name__ == "__main__":
    main()
