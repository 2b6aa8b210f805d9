"""Pictures of a series and of channels for the documentation, made by using the dock.

Writes docs/images/series-dock.png and docs/images/channels-dock.png. Needs a display, a virtual one
will do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import napari
import tifffile
from qtpy.QtWidgets import QApplication, QScrollArea
from screenshots import FOLDER, draw, wait

from napari_pisam.sample_data import cells, filaments

SIZE = (1280, 720)
# (row_min, col_min, row_max, col_max) px of a part of the cells' picture.
PART = 256
BOXES = [(163.0, 124.0, 250.0, 230.0)]


def open_dock() -> tuple[napari.Viewer, object]:
    """Open a viewer of a laptop's size with the dock."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")
    return viewer, dock


def picture(viewer: napari.Viewer, path: Path) -> None:
    """Take a picture of the window."""
    for _ in range(20):
        QApplication.processEvents()
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def show_series(output: Path, folder: Path, box: tuple[float, float, float, float]) -> None:
    """Go through parts of a picture."""
    data = cells()[0][0]
    for number in range(4):
        row, col = divmod(number, 2)
        part = data[row * PART : (row + 1) * PART, col * PART : (col + 1) * PART]
        tifffile.imwrite(folder / f"field{number + 1}.tif", part)
    viewer, dock = open_dock()
    dock.series.open([folder])
    wait(lambda: dock.controller.session is not None and not dock.series.is_reading)
    wait(lambda: dock.controller.workspace.choice["boxes"] is not None)
    dock.series.finish()
    wait(lambda: dock.series.series.at == 1)
    draw(dock, box)
    dock.controller.commit()
    wait(lambda: dock.controller.session.current is None)
    dock.series_bar.list_button.click()
    dock.series_bar.show_series(dock.series)
    picture(viewer, output / "series-dock.png")
    viewer.close()


def show_channels(output: Path) -> None:
    """See two channels as one picture."""
    viewer, dock = open_dock()
    for layer, color in ((cells()[0], "bop blue"), (filaments()[0], "bop orange")):
        viewer.add_image(layer[0], name=layer[1]["name"], colormap=color, blending="additive")
    wait(lambda: dock.controller.session is not None)
    wait(lambda: dock.controller.workspace.choice["boxes"] is not None)
    dock.sections[1].expand()
    dock.object_list.table.setMaximumHeight(40)
    viewer.reset_view()
    for _ in range(20):
        QApplication.processEvents()
    dock.findChild(QScrollArea).ensureWidgetVisible(dock.channel_panel)
    picture(viewer, output / "channels-dock.png")
    viewer.close()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as name:
        os.environ["NAPARI_PISAM_AUTOSAVE"] = f"{name}/autosaves"
        folder = Path(name) / "fields"
        folder.mkdir()
        show_series(output, folder, BOXES[0])
    show_channels(output)


if __name__ == "__main__":
    main()
