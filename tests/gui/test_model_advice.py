"""The dock recommends a model for the image at hand, and downloads nothing."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

import skimage.data

from dock_window import Window


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_advice_follows_the_image(make_napari_viewer, qtbot, cache, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a download was begun")

    monkeypatch.setattr("napari_pisam.weights.download.ResumableDownload.run", refuse)
    viewer = make_napari_viewer(show=True)
    viewer.add_image(skimage.data.immunohistochemistry(), name="section")
    window = Window(viewer, qtbot)
    panel = window.dock.model_panel
    window.until(lambda: not panel.advice.isHidden())
    expected = "Looks like stained tissue: try microsam_vit_b_histopathology (375 MB)."
    assert panel.advice.text() == expected
    assert "nothing is downloaded" in panel.advice.toolTip()
    # A hint, no more: what is chosen, and what the first box would load, stays.
    assert panel.choice == ("tiny", "auto")
    assert not window.dock.loader.is_loading
    # As without the hint, see `test_the_dock_fits_a_laptop_screen`.
    window.dock.getting_started.closed.emit()
    window.settle()
    assert window.dock.content.sizeHint().height() <= 650
    choose = window.dock.controller.workspace.choice.choose
    section = window.image
    choose("image", viewer.add_image(skimage.data.coffee(), name="cup"))
    window.until(lambda: "a photograph: try sam_vit_t" in panel.advice.text())
    choose("image", viewer.add_image(np.zeros((300, 300)), name="black"))
    window.until(lambda: panel.advice.isHidden())
    # It was looked at before.
    choose("image", section)
    window.until(lambda: panel.advice.text() == expected)
    assert not cache.exists()


def test_an_image_that_cannot_be_read_is_no_trouble(make_napari_viewer, qtbot, cache, monkeypatch):
    from napari.utils.notifications import notification_manager

    def fail(_source):
        raise OSError("the disk is gone")

    monkeypatch.setattr("napari_pisam.docks.segment.image_kinds.guess_kind", fail)
    viewer = make_napari_viewer(show=True)
    viewer.add_image(skimage.data.coffee())
    before = len(notification_manager.records)
    window = Window(viewer, qtbot)
    qtbot.wait(200)
    assert window.dock.model_panel.advice.isHidden()
    assert len(notification_manager.records) == before
