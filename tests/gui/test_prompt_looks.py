"""How prompts look on a real canvas, near and far, and layers that come again."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from dock_window import BOX
from fake_dock import click, draw_box
from napari_pisam.layers import prompt_layers as layers
from napari_pisam.layers.style import CLICK_LIMITS, COLORS

RED = np.array([int(COLORS["BG"][i : i + 2], 16) for i in (1, 3, 5)])
GREEN = np.array([int(COLORS["FG"][i : i + 2], 16) for i in (1, 3, 5)])
BOX_BLUE = np.array([0x56, 0xB4, 0xE9])


def seen(viewer, color):
    """Where the canvas shows a colour: (rows, cols) of the picture."""
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    return np.nonzero(np.abs(picture - color).max(axis=-1) < 24)


def camera_of(viewer):
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


@pytest.fixture
def prompts(make_napari_viewer):
    """A black canvas with empty prompt layers: (viewer, boxes, clicks)."""
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((120, 160)), visible=False)
    boxes, clicks = layers.new_prompt_layers(viewer, image)
    boxes.opacity = 1
    return viewer, boxes, clicks


def test_clicks_and_lines_are_as_large_on_the_screen_at_every_zoom(prompts):
    viewer, boxes, clicks = prompts
    viewer.layers.selection = {viewer.layers[0]}
    click(clicks, 60, 80)
    draw_box(boxes, (60, 80, 6000, 8000))
    camera = camera_of(viewer)
    fit = camera.zoom
    for times in (1, 50, 1 / 50):
        camera.center, camera.zoom = (0, 60, 80), fit * times
        clicks.visible = False
        rows, cols = seen(viewer, BOX_BLUE)
        # The corner is in the middle of the canvas: the lines go down and right from there.
        line = rows[cols == cols.max()] if times < 1 else rows[cols > cols.min() + 30]
        assert 1 <= np.ptp(line[line < rows.min() + 20]) + 1 <= 4, times
        clicks.visible = True
        boxes.visible = False
        size = max(np.ptp(axis) + 1 for axis in seen(viewer, GREEN))
        boxes.visible = True
        assert CLICK_LIMITS[0] - 2 <= size <= CLICK_LIMITS[1] + 3, times


def test_the_centre_of_a_click_shows_what_is_below(prompts):
    viewer, _boxes, clicks = prompts
    viewer.layers.selection = {viewer.layers[0]}
    camera_of(viewer).zoom = 20
    click(clicks, 60, 80)
    rows, cols = seen(viewer, GREEN)
    centre = (rows.min() + rows.max()) / 2, (cols.min() + cols.max()) / 2
    assert np.hypot(rows - centre[0], cols - centre[1]).min() > 2


def test_the_last_click_is_not_drawn_in_the_blue_of_selected_points(window):
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    window.press("q")
    window.click(60, 70)
    window.until(lambda: len(window.clicks.data) == 1)
    assert not window.clicks.selected_data
    # As soon as the next one is to be FG: the one that is there stays red.
    window.press("q")
    assert len(seen(window.viewer, RED)[0]) > 10
    assert [str(symbol) for symbol in window.clicks.symbol] == ["cross"]


AGAIN = """
import time, napari, numpy as np
from napari_pisam.layers.prompt_layers import new_prompt_layers
from qtpy.QtWidgets import QApplication

def draw():
    start = time.perf_counter()
    while time.perf_counter() < start + 0.3:
        QApplication.processEvents()

viewer = napari.Viewer()
draw()
for size in (64, 128, 192):
    image = viewer.add_image(np.random.rand(size, 64))
    draw()
    shapes, _points = new_prompt_layers(viewer, image)
    viewer.layers.selection = {shapes}
    shapes.mode = "add_rectangle"
    draw()
    viewer.layers.clear()
    draw()
print("still here")
"""


def test_all_layers_cleared_and_made_again_do_not_end_the_process():
    """Boxes before clicks end it: a segmentation fault in napari's drawing (glDrawArrays)."""
    done = subprocess.run(
        [sys.executable, "-c", AGAIN], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.split("\n")[-2:]) == (0, ["still here", ""]), done.stderr
