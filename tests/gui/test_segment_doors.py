"""The Segment dock by all the ways in that users take, and out again."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from weakref import ref

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

import tifffile
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from dock_window import BOX, DOORS, NAME, SHAPE, Window
from fake_dock import draw_box
from napari_pisam.session.storage import load_session
from napari_pisam.widgets.segment import SegmentWidget

PIXELS = np.random.default_rng(0).random(SHAPE)


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))


@pytest.fixture(params=DOORS)
def entered(request, make_napari_viewer, qtbot):
    """A viewer with an image and the dock, by each of the doors."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(PIXELS, name="cells")
    return Window(viewer, qtbot, door=DOORS[request.param])


def test_the_first_drag_draws_a_box_and_layers_that_were_deleted_are_let_go(entered):
    assert entered.dock_widget.name == NAME
    entered.drag(BOX[:2], BOX[2:])
    entered.until(lambda: entered.mask is not None)
    np.testing.assert_allclose(entered.session.current.prompts.box, BOX, atol=1.0)
    assert [str(layer) for layer in entered.viewer.layers.selection] == ["cells clicks"]
    gone = entered.labels
    entered.viewer.layers.remove("cells labels")
    entered.settle()
    assert entered.labels is None
    entered.press("w")
    entered.until(lambda: entered.session.objects[0].committed)
    assert not np.any(gone.data)
    assert np.any(entered.viewer.layers["cells labels"].data)
    for combo in entered.dock.layer_panel.combos.values():
        assert combo.layer is not None


def test_the_dock_that_is_opened_again_goes_on_with_layers_and_objects(entered):
    entered.drag(BOX[:2], BOX[2:])
    entered.until(lambda: entered.mask is not None)
    entered.press("w")
    entered.until(lambda: entered.session.current is None)
    entered.drag((5, 5), (20, 30))
    entered.until(lambda: entered.mask is not None)
    layers = [layer.name for layer in entered.viewer.layers]
    written = np.array(entered.labels.data)
    for door in DOORS.values():
        close(entered)
        assert "Pi-SAM preview" not in entered.viewer.layers
        entered.open(door)
        assert sorted(layer.name for layer in entered.viewer.layers) == sorted(layers)
        assert len(entered.table) == 2
        assert [one.committed for one in entered.session.objects] == [True, False]
        assert entered.mask is not None
        np.testing.assert_array_equal(entered.labels.data, written)
    # The model was let go of with the dock; the next click loads it again.
    entered.viewer.layers.selection.active = entered.clicks
    entered.click(12, 12)
    entered.until(lambda: entered.mask is not None and not entered.session.is_busy)
    assert len(entered.session.current.prompts.points) == 1
    entered.press("u")
    assert len(entered.session.current.prompts.points) == 0
    entered.press("u")
    entered.press("u")
    assert not np.any(entered.labels.data)


def test_a_box_that_is_drawn_without_the_dock_is_an_object_when_it_is_back(window):
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    close(window)
    boxes = window.viewer.layers["cells boxes"]
    boxes.feature_defaults = {"object": 2}
    draw_box(boxes, (5.0, 5.0, 20.0, 30.0))
    window.open()
    assert [one.id for one in window.session.objects] == [1, 2]


def test_the_dock_that_is_opened_again_shows_the_choices_that_hold(window):
    window.dock.prompt_panel.live.setChecked(False)
    window.dock.options_panel.rule.value = "overwrite"
    window.dock.options_panel.switch.value = False
    window.dock.options_panel.color.value = "cyan"
    window.dock.options_panel.outline.value = True
    close(window)
    window.open()
    assert window.dock.options_panel.color.value == "cyan"
    assert window.dock.options_panel.outline.value
    work = window.dock.controller.workspace
    work.preview.prepare(work.planes.image, work.planes.plane)
    layer = window.viewer.layers["Pi-SAM preview"]
    np.testing.assert_allclose(layer.get_color(1)[:3], [0.25, 1, 1], atol=0.01)
    assert layer.contour == 1
    assert not window.dock.prompt_panel.live.isChecked()
    assert not window.session.live
    assert (window.dock.options_panel.rule.value, str(window.session.rule.value)) == (
        "overwrite",
        "overwrite",
    )
    assert not window.dock.options_panel.switch.value
    assert not window.dock.controller.workspace.switches_tools


def test_a_second_dock_takes_over_and_its_keys_work(window):
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    first = window.dock
    window.dock_widget = window.viewer.window.add_dock_widget(SegmentWidget(window.viewer))
    window.dock = window.dock_widget.widget()
    window.settle()
    docks = list(window.viewer.window.dock_widgets.values())
    assert [one for one in docks if isinstance(one, SegmentWidget)] == [window.dock]
    assert first is not window.dock
    assert len(window.table) == 1
    window.press("q")
    assert not window.dock.controller.foreground
    close(window)
    assert not window.viewer.keymap
    window.open()
    window.press("q")
    assert not window.dock.controller.foreground


def test_the_x_ends_predictions_and_loading_and_later_results_do_nothing(window):
    window.dock.loader.load("tiny", "cpu")
    window.until(lambda: window.session.model is not None)
    window.predictor.gate.clear()
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.session.is_busy)
    session, boxes = window.session, window.boxes
    close(window)
    assert not session.is_busy
    assert session.model is None
    assert boxes.keymap == {}
    window.predictor.gate.set()
    window.qtbot.wait(300)
    assert session.objects[0].mask is None
    window.open()
    window.dock.controller.predict()
    window.until(lambda: window.mask is not None)


def test_what_was_asked_to_be_written_is_there_when_the_dock_is_closed(window, tmp_path):
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    window.dock.controller.commit()
    # Others' work before it in the queue.
    window.dock._background.write(lambda: time.sleep(1), print, print)
    window.dock.files.save(str(tmp_path / "mine.pisam"))
    window.dock.files.export(str(tmp_path / "labels.tif"))
    window.dock.files.save(str(tmp_path / "mine.pisam" / "no folder" / "mine.pisam"))
    close(window)
    assert load_session(tmp_path / "mine.pisam").planes
    assert (tifffile.imread(tmp_path / "labels.tif") == 1).any()
    assert any("Saving the session" in one.message for one in notification_manager.records)


def test_opening_and_closing_six_times_leaves_nothing(window):
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    events = window.viewer.dims.events, window.viewer.layers.events, window.image.events
    before = [sum(len(emitter.callbacks) for emitter in one.emitters.values()) for one in events]
    parts, threads = [], set()
    for _ in range(6):
        work = window.dock.controller.workspace
        parts += [ref(one) for one in (window.dock, window.dock._background, work, work.preview)]
        del work
        close(window)
        window.dock = window.dock_widget = None
        gc.collect()
        threads.add(sum(one.name.startswith("pisam") for one in threading.enumerate()))
        window.open()
        window.dock.controller.predict()
        window.until(lambda: window.mask is not None and not window.session.is_busy)
    assert [one() for one in parts if one() is not None] == []
    assert threads == {0}
    after = [sum(len(emitter.callbacks) for emitter in one.emitters.values()) for one in events]
    assert after == before
    assert [layer.name for layer in window.viewer.layers].count("Pi-SAM preview") == 1


@pytest.mark.parametrize("segment_first", [True, False])
def test_the_docks_are_tabs_of_one_place(segment_first, make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(PIXELS, name="cells")
    names = ["Pi-SAM: Segment", "Pi-SAM: Fine-tune"]
    docks = {}
    for name in names if segment_first else names[::-1]:
        docks[name] = viewer.window.add_plugin_dock_widget("napari-pisam", name)[0]
        for _ in range(5):
            QApplication.processEvents()
    tabs = viewer.window._qt_window.tabifiedDockWidgets(docks[names[0]])
    assert tabs == [docks[names[1]]]
    on_top = docks[names[1] if segment_first else names[0]]
    assert not on_top.visibleRegion().isEmpty()


def close(window):
    """Press the X of the dock."""
    window.dock_widget.title.close_button.click()
    # What Qt deletes later it deletes in a loop of its own.
    window.qtbot.wait(50)
