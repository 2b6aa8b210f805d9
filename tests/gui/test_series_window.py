"""A series in a real window: real keys, real mouse, and once the embedded model."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import tifffile

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from qtpy.QtCore import Qt

from dock_window import Window
from napari_pisam.docks.segment.loading import load_predictor

SHAPE = (120, 160)
CENTRES = [(40, 50), (60, 100), (75, 60)]


def discs(folder, count=3):
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for number, (row, col) in enumerate(CENTRES[:count]):
        image = np.random.default_rng(number).normal(40, 6, SHAPE)
        image[(rows - row) ** 2 + (cols - col) ** 2 < 20**2] += 150
        tifffile.imwrite(folder / f"disc{number}.tif", np.clip(image, 0, 255).astype(np.uint8))


def open_series(window, folder):
    window.dock.sections[2].expand()
    window.settle()
    window.dock.series_form.images.setText(str(folder))
    window.qtbot.mouseClick(window.dock.series_form.open_button, Qt.MouseButton.LeftButton)
    window.until(lambda: window.image is not None and not window.dock.series.is_reading)


def at(window, place):
    window.until(lambda: window.image.name == f"disc{place}")
    window.until(lambda: window.dock.series._aimed not in window.dock.series._reading)


@pytest.fixture
def series(make_napari_viewer, qtbot, tmp_path, request):
    discs(tmp_path)
    window = Window(make_napari_viewer(show=True), qtbot, load=getattr(request, "param", None))
    open_series(window, tmp_path)
    return window


def test_keys_go_through_a_series(series, tmp_path):
    bar = series.dock.series_bar
    assert bar.isVisible()
    assert bar.progress.text() == "1 of 3, 0 done"
    series.press(Qt.Key.Key_PageDown)
    at(series, 1)
    assert bar.progress.text() == "2 of 3, 0 done"
    series.qtbot.keyClick(series.canvas, Qt.Key.Key_W, Qt.KeyboardModifier.ShiftModifier)
    at(series, 2)
    assert bar.progress.text() == "3 of 3, 1 done"
    assert not bar.next_button.isEnabled()
    series.press(Qt.Key.Key_PageUp)
    at(series, 1)
    bar.list_button.click()
    assert bar.list.isVisible()
    texts = [bar.list.item(place).text() for place in range(3)]
    assert texts[0].endswith("disc0  (untouched)")
    assert texts[1].endswith("disc1  (done)")
    place = bar.list.visualItemRect(bar.list.item(0)).center()
    series.qtbot.mouseClick(bar.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    at(series, 0)
    series.until(lambda: (tmp_path / "labels" / "disc1.tif").is_file())


def test_many_quick_keys_end_where_they_should(series):
    for key in [Qt.Key.Key_PageDown] * 2 + [Qt.Key.Key_PageUp] * 2 + [Qt.Key.Key_PageDown]:
        series.qtbot.keyClick(series.canvas, key)
    at(series, 1)
    assert series.dock.series.series.at == 1


@pytest.mark.slow
@pytest.mark.parametrize("series", [load_predictor], indirect=True)
def test_discs_are_segmented_one_image_after_the_other(series, tmp_path):
    for place, (row, col) in enumerate(CENTRES):
        at(series, place)
        series.drag((row - 22, col - 22), (row + 22, col + 22))
        series.until(lambda: series.mask is not None, timeout=120_000)
        series.press("w")
        series.until(lambda: series.session.objects and series.session.objects[0].committed)
        series.press(Qt.Key.Key_PageDown)
    series.press(Qt.Key.Key_PageUp)
    at(series, 1)
    (one,) = series.session.objects
    assert one.committed
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    row, col = CENTRES[1]
    truth = (rows - row) ** 2 + (cols - col) ** 2 < 20**2
    found = series.labels.data == one.id
    assert (truth & found).sum() / (truth | found).sum() > 0.9
    series.viewer.window.remove_dock_widget(series.dock_widget)
    series.settle()
    for place, (row, col) in enumerate(CENTRES):
        labels = tifffile.imread(tmp_path / "labels" / f"disc{place}.tif")
        assert labels[row, col] == 1
