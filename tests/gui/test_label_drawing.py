"""Labels larger than one texture: what is drawn is what is there, without drawing all of it."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from napari.layers import Labels

from napari_pisam.layers import label_drawing
from napari_pisam.layers.geometry import plane_of
from napari_pisam.layers.label_drawing import refresh_labels_windows
from napari_pisam.layers.labels import labels_plane

TEXTURE = 32


@pytest.fixture
def large(make_napari_viewer, monkeypatch):
    """A viewer with labels that it can only draw reduced, and their plane."""
    monkeypatch.setattr(label_drawing, "_TEXTURE", TEXTURE)
    for module in ("base", "image"):
        monkeypatch.setattr(
            f"napari._vispy.layers.{module}.get_max_texture_sizes", lambda: (TEXTURE, TEXTURE)
        )
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((75, 41), np.uint8), visible=False)
    with pytest.warns(UserWarning, match="downsampled"):
        layer = viewer.add_labels(np.zeros((75, 41), np.uint16), opacity=1)
    return viewer, labels_plane(layer, plane_of(image, viewer.dims), image)


def picture(viewer):
    return viewer.screenshot(canvas_only=True, flash=False)


@pytest.mark.parametrize("windows", [[(10, 15, 21, 30)], [(0, 0, 7, 9), (60, 32, 75, 41)]])
def test_windows_are_drawn_as_if_all_were(large, windows, monkeypatch):
    viewer, plane = large
    empty = picture(viewer)
    for row0, col0, row1, col1 in windows:
        plane[row0:row1, col0:col1] = np.full((row1 - row0, col1 - col0), 3)
    with monkeypatch.context() as patch:
        patch.setattr(Labels, "refresh", None)
        refresh_labels_windows(plane, windows, is_displayed=True)
        drawn = picture(viewer)
    with pytest.warns(UserWarning, match="downsampled"):
        plane.layer.refresh()
    assert not np.array_equal(drawn, empty)
    np.testing.assert_array_equal(drawn, picture(viewer))


def test_a_listener_that_draws_in_another_way_gets_all_of_it_drawn(large):
    viewer, plane = large
    empty = picture(viewer)
    plane.layer.events.labels_update.connect(lambda event: None)
    plane[10:21, 15:30] = np.full((11, 15), 3)
    with pytest.warns(UserWarning, match="downsampled"):
        refresh_labels_windows(plane, [(10, 15, 21, 30)], is_displayed=True)
    assert not np.array_equal(picture(viewer), empty)
