"""The Fine-tune dock by all the ways in that users take, and out again."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
pytest.importorskip("pydantic", reason="pydantic is not installed: pip install '.[train]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from fake_dock import ImagePredictor
from fake_finetune import FakeBackend
from finetune_hand import DOORS, NAME, Hand
from napari_pisam.docks.segment.loading import LoadedPredictor
from napari_pisam.widgets.finetune import dock as dock_module
from napari_pisam.widgets.segment import SegmentWidget

SHAPE = (60, 240)
SEGMENT = "Pi-SAM: Segment (napari-pisam)"


def discs():
    labels = np.zeros(SHAPE, np.uint16)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for place in range(4):
        labels[(rows - 30) ** 2 + (cols - 30 - 55 * place) ** 2 < 400] = place + 1
    return labels


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """What trains in every dock that is opened: runs that are fakes."""
    made = FakeBackend(tmp_path)
    monkeypatch.setattr(dock_module, "TrainingBackend", lambda: made)
    return made


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.random.default_rng(0).random(SHAPE), name="cells")
    viewer.add_labels(discs(), name="cells labels")
    return viewer


class Window(Hand):
    """The dock by one of the doors, and a hand."""

    def train(self):
        objects = self.dock.objects_panel
        self.press(objects.layers_switch)
        self.press(objects.add_layers_button)
        self.until(lambda: self.rows)
        self.press(self.dock.run_panel.start_button)
        self.until(lambda: self.status == "running")
        return self.backend.runs[-1]

    def docks(self, name):
        return [one for one in self.viewer.window._wrapped_dock_widgets if name in one]


@pytest.fixture(params=DOORS)
def window(request, viewer, qtbot, backend):
    return Window(viewer, qtbot, backend, door=DOORS[request.param])


@pytest.fixture
def fake_model(monkeypatch):
    """Every Segment dock loads a model that is a fake."""
    from napari_pisam.widgets import model_loader

    def load(name, device, report, cancelled, *, may_download):
        return LoadedPredictor(ImagePredictor(), name, "0" * 64, "cpu", 12_000_000)

    monkeypatch.setattr(model_loader.ModelLoader.__init__, "__defaults__", (load, lambda: None))


def test_it_is_one_dock_and_trains_by_every_door(window):
    assert window.docks("Fine-tune") == [NAME]
    run = window.train()
    assert run.commands == ["start"]
    window.open(DOORS["add_plugin_dock_widget"])
    assert window.docks("Fine-tune") == [NAME]
    assert window.status == "running"


def test_use_it_opens_the_one_segment_dock_with_its_layers_as_a_tab(window, fake_model):
    window.train().finish(is_better=True)
    window.until(lambda: window.status == "finished")
    window.press(window.dock.training_panel.result.use_button)
    assert window.docks("Segment") == [SEGMENT]
    docked = window.viewer.window._wrapped_dock_widgets[SEGMENT]
    segment = docked.widget()
    assert isinstance(segment, SegmentWidget)
    chosen = {role: combo.layer for role, combo in segment.layer_panel.combos.items()}
    assert chosen["image"] is window.viewer.layers["cells"]
    assert None not in chosen.values()
    main = window.viewer.window._qt_window
    assert window.docked in main.tabifiedDockWidgets(docked)
    window.until(lambda: segment.loader.loaded is not None)
    assert segment.loader.loaded.name == str(window.backend.runs[-1].state.best_weights)
    window.press(window.dock.training_panel.result.use_button)
    assert window.docks("Segment") == [SEGMENT]


def test_lines_of_the_page_for_the_console_work(viewer, qtbot, backend, fake_model, snippets):
    add, start, use = snippets("fine-tune.md")
    names = {"viewer": viewer}
    exec(add, names)
    qtbot.waitUntil(lambda: bool(names["tune"].learning.rows), timeout=20_000)
    exec(start, names)
    qtbot.waitUntil(lambda: bool(backend.runs), timeout=20_000)
    (run,) = backend.runs
    assert (run.settings.base, run.settings.minutes) == ("tiny", 3.0)
    run.finish(is_better=True)
    qtbot.waitUntil(lambda: names["tune"].runner.state.is_over, timeout=20_000)
    exec(use, names)
    segment = viewer.window._wrapped_dock_widgets[SEGMENT].widget()
    qtbot.waitUntil(lambda: segment.loader.loaded is not None, timeout=20_000)
    assert segment.loader.loaded.name == str(run.state.best_weights)


def test_the_dock_is_a_tab_of_segment_where_that_is_open(viewer, qtbot, backend):
    docked = viewer.window.add_plugin_dock_widget("napari-pisam", "Pi-SAM: Segment")[0]
    window = Window(viewer, qtbot, backend, door=DOORS["menu"])
    assert window.docked in viewer.window._qt_window.tabifiedDockWidgets(docked)
    assert window.dock.isVisible()


def test_a_dock_closed_by_its_x_lets_its_run_end_and_leaves_nothing(window):
    run = window.train()
    controller, threads = weakref.ref(window.dock.controller), threading.active_count()
    polls = []
    run.poll = lambda: polls.append(1) or run.state
    window.close()
    assert run.commands == ["start", "close"]
    polls.clear()
    window.qtbot.wait(500)
    assert not polls
    gc.collect()
    assert controller() is None
    assert threading.active_count() <= threads


def test_six_times_open_and_closed_leaves_no_thread_and_no_listener(viewer, qtbot, backend):
    window = Window(viewer, qtbot, backend)
    window.close()
    events = viewer.layers.events
    before = threading.active_count(), len(events.inserted.callbacks)
    for _ in range(6):
        window.open(DOORS["menu"])
        window.close()
    assert (threading.active_count(), len(events.inserted.callbacks)) == before


def test_a_dock_that_is_hidden_or_floats_goes_on(window):
    run = window.train()
    window.docked.setVisible(False)
    window.settle()
    window.docked.setVisible(True)
    window.docked.setFloating(True)
    window.settle()
    window.docked.setFloating(False)
    window.settle()
    assert run.commands == ["start"]
    assert window.dock.isVisible()
    window.press(window.dock.run_panel.stop_button)
    assert run.commands == ["start", "stop"]


def test_a_run_that_a_closed_dock_left_is_taken_up_again(window):
    run = window.train()
    window.close()
    window.open(DOORS["add_plugin_dock_widget"])
    panel = window.dock.run_panel
    assert panel.pause_button.text() == "Resume"
    assert run.folder.name in panel.note.text()
    assert "Resume" in panel.note.text()
    window.press(panel.pause_button)
    assert run.commands == ["start", "close", "resume"]


def test_names_are_shown_as_they_are(window):
    name = "<b>cells</b> & <img src='x'>"
    window.viewer.layers["cells"].name = name
    window.train()
    assert window.dock.objects_panel.table.model().index(0, 0).data() == name
    texts = [window.dock.run_panel.note, window.dock.run_panel.status]
    assert all(label.textFormat().name == "PlainText" for label in texts)
