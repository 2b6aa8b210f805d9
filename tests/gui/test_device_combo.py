"""Where to compute: devices, and workers that are asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("qtpy", reason="Qt is not installed: pip install 'napari-pisam[gui]'")
from qtpy.QtWidgets import QInputDialog

from napari_pisam.docks.segment.loading import DEVICES, LoadedPredictor
from napari_pisam.widgets.device_combo import WORKERS, DeviceCombo
from napari_pisam.widgets.many_panel import ManyPanel
from napari_pisam.widgets.model_loader import ModelLoader
from napari_pisam.widgets.model_panel import ModelPanel
from napari_pisam.widgets.prompt_panel import PromptPanel


@pytest.fixture
def combo(qtbot):
    made = DeviceCombo()
    qtbot.addWidget(made)
    return made


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [("tcp://gpu-box:8786 ", "tcp://gpu-box:8786"), ("gpu-box", "cpu"), ("", "cpu")],
)
def test_workers_are_asked_for_and_become_an_entry(combo, monkeypatch, answer, chosen):
    combo.choose("cpu")
    monkeypatch.setattr(QInputDialog, "getText", lambda *_given: (answer, bool(answer)))
    combo.setCurrentText(WORKERS)
    assert combo.choice == "cpu"  # as long as nobody has answered
    combo.activated.emit(combo.currentIndex())
    assert combo.choice == combo.currentText() == chosen


@pytest.mark.parametrize("known", [*DEVICES, "local:2", "tls://box:1"])
def test_what_was_chosen_the_last_time_is_chosen_again(combo, known):
    combo.choose(known)
    assert combo.choice == known
    combo.choose("nonsense")
    assert combo.choice == "auto"


def test_workers_are_let_go_when_another_model_comes_and_when_the_dock_closes(qtbot):
    panel, closed = ModelPanel(), []
    qtbot.addWidget(panel)

    def load(name, device, *_given, may_download):
        cluster = SimpleNamespace(close=lambda: closed.append(device))
        return LoadedPredictor(None, name, "", device, 0, cluster=cluster)

    def start(_title, job, done, _failed, _report):
        done(job(None, lambda: False))

    background = SimpleNamespace(start=start, write=lambda job, _done, _failed: job())
    signal = SimpleNamespace(connect=lambda _call: None)
    controller = SimpleNamespace(
        workspace=SimpleNamespace(model_wanted=signal), set_model=lambda *_given: None
    )
    loader = ModelLoader(background, panel, controller, load)
    loader.load("tiny", "local:2")
    assert "local:2" in panel.status.text()
    assert closed == []
    loader.load("tiny", "tcp://box:1")
    assert closed == ["local:2"]
    loader.close()
    assert closed == ["local:2", "tcp://box:1"]


def test_predict_is_cancel_while_tiles_are_looked_at(qtbot):
    panel = PromptPanel(ManyPanel())
    qtbot.addWidget(panel)
    heard = []
    panel.predict_requested.connect(lambda: heard.append("predict"))
    panel.cancel_requested.connect(lambda: heard.append("cancel"))
    for tiles in (None, (3, 12), None):
        panel.show_tiles(tiles)
        panel.predict_button.click()
    assert heard == ["predict", "cancel", "predict"]
