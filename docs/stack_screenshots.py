"""The picture of docs/stacks.md, made by using the dock: ``make screenshots``.

Writes docs/images/stack.png. Needs a display, a virtual one will do.
"""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from screenshots import FOLDER, SIZE, draw, wait

SLICES = 24
OBJECTS = (3, 7, 8, 12)


def main() -> None:
    """Carry objects through a generated stack and take a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    made = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "stacks.py"))
    stack, truth = made["scene"](0, SLICES)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    viewer.add_image(
        stack[:, :800], name="cells", contrast_limits=(0, 255), axis_labels=("t", "y", "x")
    )
    viewer.dims.set_point(0, SLICES // 2)
    _, dock = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")
    wait(lambda: dock.controller.session is not None)
    viewer.reset_view()
    controller = dock.controller
    for number in OBJECTS:
        rows, cols = np.nonzero(truth[SLICES // 2] == number)
        draw(dock, (rows.min() - 2.0, cols.min() - 2.0, rows.max() + 2.0, cols.max() + 2.0))
        controller.propagate(0)
        wait(lambda: not controller.stacks.title)
        controller.next_object()
    controller.show_tracks()
    wait(lambda: any(type(one).__name__ == "Tracks" for one in viewer.layers))
    viewer.dims.set_point(0, SLICES // 2 + 4)
    controller.show(2)
    viewer.reset_view()
    dock.stack_section.expand()
    dock.stack_panel.limits.expand()
    for _ in range(40):
        QApplication.processEvents()
    viewer.screenshot(str(folder / "stack.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
