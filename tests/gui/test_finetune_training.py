"""The Fine-tune dock with real training of the micro model in a process of its own."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
pytest.importorskip(
    "lightning_fabric", reason="training is not installed: pip install 'napari-pisam[train]'"
)
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from finetune_hand import Hand
from micro import MICRO
from napari_pisam.learn.finetune import process
from napari_pisam.model import variants
from napari_pisam.widgets.segment import SegmentWidget

pytestmark = pytest.mark.slow

SHAPE = (64, 96)


def discs():
    """An image of bright discs, and their labels."""
    rng = np.random.default_rng(0)
    image, labels = rng.normal(100, 5, SHAPE), np.zeros(SHAPE, np.uint16)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for place in range(6):
        row, col = 16 + 32 * (place // 3), 16 + 32 * (place % 3)
        inside = (rows - row) ** 2 + (cols - col) ** 2 < (9 + place % 3) ** 2
        labels[inside] = place + 1
        image[inside] += 100
    return image, labels


@pytest.fixture
def viewer(make_napari_viewer, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(tmp_path / "sessions"))
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))
    tests = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(process, "MODULE", "micro_training")
    monkeypatch.setitem(variants.VARIANTS, "micro", replace(MICRO, residual=True))
    viewer = make_napari_viewer(show=True)
    image, labels = discs()
    viewer.add_image(image, name="discs")
    viewer.add_labels(labels, name="discs labels")
    return viewer


class Trainer(Hand):
    """The dock with the micro model, and a hand that is patient enough for real training."""

    def __init__(self, viewer, qtbot):
        # The process that trains goes last: on a busy machine its first step takes minutes.
        super().__init__(viewer, qtbot, timeout=400_000)

    def choose(self, *, epochs):
        """Take the layers and the micro model."""
        panel, settings = self.dock.objects_panel, self.dock.settings_panel
        self.press(panel.layers_switch)
        # Segment has made a layer of its own for what will be committed.
        labels = panel.labels_combo.findText("discs labels")
        panel.labels_combo.setCurrentIndex(labels)
        self.press(panel.add_layers_button)
        self.until(lambda: self.rows)
        settings.base.insertItem(0, "micro")
        settings.base.setCurrentIndex(0)
        settings.unit.setCurrentText("rounds")
        settings.length.setValue(epochs)
        settings.editors["validate_seconds"].inner.setValue(1)
        settings.editors["checkpoint_seconds"].inner.setValue(1)
        settings.editors["device"].inner.setCurrentIndex(1)
        settings.editors["patience"].inner.setValue(0)

    def running_after(self, step):
        return self.status == "running" and self.state.step > step


def test_from_start_to_a_model_in_segment(viewer, qtbot):
    segment = SegmentWidget(viewer)
    viewer.window.add_dock_widget(segment, name="Pi-SAM: Segment")
    hand = Trainer(viewer, qtbot)
    hand.choose(epochs=80)
    hand.press(hand.dock.run_panel.check_button)
    hand.until(lambda: hand.dock.controller.check_result is not None)
    assert "validate" in hand.dock.run_panel.note.text()
    hand.press(hand.dock.run_panel.start_button)
    hand.until(lambda: hand.status == "failed" or hand.running_after(0))
    viewer.layers.remove("discs labels")
    hand.until(lambda: hand.status in ("finished", "failed"), timeout=240_000)
    assert hand.state.error == ""
    assert len(hand.state.loss.y) == hand.state.step
    assert len(hand.state.boundary_validation.y) >= 2
    assert hand.dock.training_panel.pictures._comparisons
    result = hand.dock.training_panel.result
    assert result.verdict.text() == hand.state.verdict
    assert hand.state.is_better, hand.state.verdict
    hand.press(result.use_button)
    hand.until(lambda: segment.loader.loaded is not None and not segment.loader.is_loading)
    assert segment.loader.loaded.name == str(hand.state.best_weights)
    chooser = SegmentWidget(viewer).model_panel.models
    assert chooser.findData(str(hand.state.best_weights)) >= 0


def test_a_run_is_paused_stopped_and_goes_on_in_another_dock(viewer, qtbot):
    hand = Trainer(viewer, qtbot)
    hand.choose(epochs=10_000)
    panel = hand.dock.run_panel
    hand.press(panel.start_button)
    hand.until(lambda: hand.status == "failed" or hand.running_after(2))
    hand.press(panel.pause_button)
    hand.until(lambda: hand.status == "paused")
    hand.press(panel.pause_button)
    hand.until(lambda: hand.status == "running")
    hand.press(panel.stop_button)
    hand.until(lambda: hand.status == "stopped", timeout=10_000)
    step = hand.state.step
    folder = hand.dock.controller.runner.run.folder
    viewer.window.remove_dock_widget(hand.dock)
    other = Trainer(viewer, qtbot)
    other.show(1)
    other.dock.controller.runner.open(folder)
    other.settle()
    assert other.state.step == step
    other.press(other.dock.run_panel.pause_button)
    other.until(lambda: other.status == "failed" or other.running_after(step))
    other.press(other.dock.run_panel.stop_button)
    other.until(lambda: other.status == "stopped", timeout=10_000)
