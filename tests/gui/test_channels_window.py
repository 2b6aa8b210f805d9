"""Channels in a real window: the network sees the colours of the screen."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from qtpy.QtCore import Qt

from dock_window import SHAPE, Window
from napari_pisam.docks.segment.loading import load_predictor


def cells():
    """A cell whose halves are in two channels."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (rows - 60) ** 2 + (cols - 80) ** 2 < 30**2
    rng = np.random.default_rng(0)
    halves = [disc & (cols < 80), disc & (cols >= 80)]
    return np.stack([half * 700 + rng.integers(0, 200, SHAPE) for half in halves]), disc


def test_what_is_given_to_the_network_is_what_the_screen_shows(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    data, _ = cells()
    viewer.add_image(
        data,
        channel_axis=0,
        contrast_limits=[[100, 900], [0, 1000]],
        gamma=[0.8, 1.5],
        colormap=["cyan", "red"],
    )
    window = Window(viewer, qtbot)
    getattr(viewer, "scene", viewer).camera.zoom = 3
    window.settle()
    shot = viewer.screenshot(canvas_only=True, flash=False)
    source = window.dock.controller.workspace.planes._source
    picture = source.read((slice(0, SHAPE[0]), slice(0, SHAPE[1])))
    ratio = shot.shape[1] / window.canvas.width()
    for row, col in ((60, 65), (60, 95), (50, 70), (5, 5), (75, 88)):
        place = window.place(row, col)
        seen = shot[round(place.y() * ratio), round(place.x() * ratio), :3]
        np.testing.assert_allclose(seen.astype(int), picture[row, col].astype(int), atol=6)


@pytest.mark.slow
def test_a_cell_of_two_channels_is_one_object_with_the_embedded_model(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    data, disc = cells()
    viewer.add_image(data, name="cells")
    window = Window(viewer, qtbot, load=load_predictor)
    panel = window.dock.channel_panel
    window.dock.sections[1].expand()
    window.settle()
    assert panel.isVisible()
    panel.axis.setCurrentIndex(1)
    panel.axis.activated.emit(1)
    window.until(lambda: len(panel.boxes) == 2)
    assert [combo.currentText() for combo in panel.colors] == ["magenta", "green"]
    window.dock.controller.draw_box()
    window.settle()
    window.drag((27, 47), (93, 113))
    window.until(lambda: window.mask is not None, timeout=120_000)
    window.press("w")
    window.until(lambda: window.session.objects and window.session.objects[0].committed)
    labels = window.labels.data
    found = (labels if labels.ndim == 2 else labels[0]) == 1
    assert (found & disc).sum() / (found | disc).sum() > 0.9
    # Without one of them, half of it is not seen; the last one stays.
    window.qtbot.mouseClick(panel.boxes[1], Qt.MouseButton.LeftButton)
    window.until(lambda: not panel.boxes[1].isChecked())
    window.qtbot.mouseClick(panel.boxes[0], Qt.MouseButton.LeftButton)
    window.until(lambda: panel.boxes[0].isChecked())
