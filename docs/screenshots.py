"""Pictures of the dock for the documentation, made by using it: ``make screenshots``.

Writes docs/images/*.png. Needs a display, a virtual one will do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_pisam.sample_data import coins

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.widgets.segment import SegmentWidget

FOLDER = Path(__file__).parent / "images"
SIZE = (1500, 950)
# (row_min, col_min, row_max, col_max) px of the coins.
DONE = [(93.0, 243.0, 146.0, 298.0), (173.0, 21.0, 222.0, 69.0)]
MORE = [
    (25.0, 130.0, 76.0, 181.0),
    (26.0, 189.0, 76.0, 242.0),
    (29.0, 251.0, 76.0, 299.0),
    (103.0, 182.0, 148.0, 229.0),
]
CURRENT = (14.0, 302.0, 74.0, 367.0)


def wait(condition: Callable[[], bool], seconds: float = 600) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"Nothing came within {seconds} s.")
        QApplication.processEvents()
        time.sleep(0.01)
    for _ in range(20):
        QApplication.processEvents()


def own_places() -> None:
    """Keep settings, sessions and runs apart from the user's; what was chosen there is not seen."""
    own = tempfile.mkdtemp(prefix="napari-pisam-")
    os.environ["NAPARI_PISAM_SETTINGS"] = f"{own}/settings.ini"
    os.environ["NAPARI_PISAM_RUNS"] = f"{own}/runs"
    os.environ["NAPARI_PISAM_AUTOSAVE"] = f"{own}/sessions"


def draw(dock: SegmentWidget, box: tuple[float, float, float, float]) -> None:
    """Draw a box and wait for its mask."""
    r0, c0, r1, c1 = box
    boxes = dock.controller.workspace.choice["boxes"]
    boxes.add(np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]]), shape_type="rectangle")
    wait(lambda: has_mask(dock))


def has_mask(dock: SegmentWidget) -> bool:
    """Whether the current object's mask is there."""
    session = dock.controller.session
    current = None if session is None else session.current
    return current is not None and current.mask is not None and not current.stale


def measures_and_classes(dock: SegmentWidget) -> None:
    """Segment more coins at once, choose columns, and give classes."""
    controller = dock.controller
    controller.next_object()
    controller.set_live(False)
    for r0, c0, r1, c1 in MORE:
        boxes = controller.workspace.choice["boxes"]
        boxes.add(np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]]), shape_type="rectangle")
    controller.segment_all()
    wait(lambda: len([o for o in controller.session.objects if o.committed]) >= 2 + len(MORE))
    controller.set_live(True)
    controller.workspace.planes.classes.add(["silver", "bronze"])
    controller.session.set_class([1, 2], "silver")
    controller.session.set_class([4, 5], "bronze")
    shown = ("id", "class", "area_px", "perimeter", "circularity", "intensity_mean")
    dock.objects.choose(shown)
    dock.classes.show(True)
    wait(lambda: dock.objects.measures.is_complete)


def main() -> None:
    """Use the dock and take pictures on the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="Of the window, px.")
    parser.add_argument("--theme", default="dark")
    given = parser.parse_args()
    folder = given.output
    folder.mkdir(parents=True, exist_ok=True)
    own_places()
    viewer = napari.Viewer(show=True)
    viewer.theme = given.theme
    viewer.window.resize(*given.size)
    data, options, _ = coins()[0]
    viewer.add_image(data, **{"name": "coins"} | options)
    _, dock = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")
    wait(lambda: dock.controller.session is not None)
    viewer.reset_view()

    def picture(name: str) -> None:
        for _ in range(20):
            QApplication.processEvents()
        viewer.screenshot(str(folder / f"{name}.png"), canvas_only=False, flash=False)

    picture("segment-empty")
    for box in DONE:
        draw(dock, box)
        dock.controller.commit()
        wait(lambda: dock.controller.session.current is None)
    draw(dock, CURRENT)
    clicks = dock.controller.workspace.choice["clicks"]
    clicks.add([44.0, 335.0])
    dock.controller.set_foreground(False)
    clicks.add([17.0, 305.0])
    # What is drawn is brought in a moment later.
    wait(lambda: len(dock.controller.session.current.prompts.points) == 2 and has_mask(dock))
    wait(lambda: not dock.controller.session.is_busy)
    picture("segment-dock")
    measures_and_classes(dock)
    picture("segment-table")
    for section in dock.sections:
        section.expand()
    dock.object_list.table.setMaximumHeight(110)
    picture("segment-sections")
    viewer.close()


if __name__ == "__main__":
    main()
