"""Stacks in a real window, by the dock's buttons, and with the embedded model."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from qtpy.QtCore import QTimer

from dock_window import Window
from fake_stack import BrightPredictor, moving


def a_stack(make_napari_viewer, qtbot, stack, load=None):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(stack, name="stack", contrast_limits=(0, stack.max()))
    window = Window(viewer, qtbot, load)
    window.predictor = BrightPredictor()
    viewer.dims.set_point(0, 4)
    window.settle()
    return window


def test_the_panel_is_there_for_stacks_only(window, make_napari_viewer):
    section = window.dock.stack_section
    assert section.isHidden()
    window.viewer.add_image(np.zeros((3, 120, 160)), name="stack")
    window.dock.controller.workspace.choice.choose("image", window.viewer.layers["stack"])
    window.settle()
    assert not section.isHidden()
    assert (window.dock.stack_panel.first.value(), window.dock.stack_panel.last.value()) == (0, 2)


def test_the_buttons_carry_an_object_and_stop(make_napari_viewer, qtbot):
    window = a_stack(make_napari_viewer, qtbot, moving())
    panel = window.dock.stack_panel
    window.dock.stack_section.expand()
    window.drag((17, 12), (39, 34))
    window.until(lambda: window.mask is not None)
    window.predictor.gate.clear()
    panel.ways[0].click()
    window.settle()
    assert panel.stop.isVisible()
    assert not panel.ways[0].isVisible()
    panel.stop.click()
    window.predictor.gate.set()
    window.until(lambda: panel.ways[0].isVisible())
    assert np.flatnonzero((window.labels.data == 1).any(axis=(1, 2))).tolist() == [4]
    panel.last.setValue(7)
    panel.ways[1].click()
    window.until(
        lambda: (window.labels.data[7] == 1).any() and not window.dock.controller.stacks.title
    )
    np.testing.assert_array_equal(window.labels.data[4:8], moving()[4:8])
    assert not window.labels.data[8:].any()
    assert "3 slices" in window.dock.prompt_panel.hint.text()
    window.press("u")
    assert not window.labels.data[5:].any()


def test_the_window_lives_while_it_runs(make_napari_viewer, qtbot):
    stack = np.stack([np.pad(moving(10)[k % 10], ((0, 448), (0, 448))) for k in range(40)])
    window = a_stack(make_napari_viewer, qtbot, stack)
    window.viewer.dims.set_point(0, 0)
    window.dock.controller.workspace.choice["labels"].data  # noqa: B018
    window.session.new_object(prompts(window))
    window.until(lambda: window.mask is not None)
    longest, last = [0.0], [time.thread_time()]

    def tick():
        now = time.thread_time()
        longest[0], last[0] = max(longest[0], now - last[0]), now

    timer = QTimer()
    timer.timeout.connect(tick)
    window.dock.controller.propagate(1, 0, 9)
    timer.start(1)
    last[0] = time.thread_time()
    window.until(lambda: not window.dock.controller.stacks.title)
    assert (window.labels.data[9] == 1).any()
    # Own work of the window's thread between two looks at its events; 32 ms when written.
    assert longest[0] < 0.1


def prompts(window):
    from napari_pisam.predict.prompts import Prompts

    return Prompts((11.0, 6.0, 29.0, 24.0))


def test_all_of_the_panel_says_what_it_does_and_fits(make_napari_viewer, qtbot):
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QSpinBox

    window = a_stack(make_napari_viewer, qtbot, np.zeros((3, 4, 64, 64), np.uint8) + np.uint8(1))
    panel = window.dock.stack_panel
    for section in (window.dock.stack_section, panel.limits):
        section.expand()
    window.settle()
    assert panel.axis.isVisible()
    kinds = (QAbstractButton, QComboBox, QSpinBox)
    found = [one for kind in kinds for one in panel.findChildren(kind)]
    # The heading that folds has its tip on the whole section.
    without = [one for one in found if not (one.toolTip() or one.parent().toolTip())]
    assert without == []
    assert panel.minimumSizeHint().width() <= 330


@pytest.mark.weights
def test_a_ball_is_carried_through_a_stack_with_the_embedded_model(make_napari_viewer, qtbot):
    from functools import partial

    from napari_pisam.docks.segment.loading import load_predictor

    down, across = np.mgrid[:160, :200]
    radii = [np.sqrt(max(0.0, 40**2 - (8 * (k - 4)) ** 2)) for k in range(9)]
    truth = np.stack(
        [(down - 78 - k) ** 2 + (across - 90 - 2 * k) ** 2 <= r**2 for k, r in enumerate(radii)]
    )
    noise = np.random.default_rng(0).integers(0, 25, truth.shape)
    stack = (np.where(truth, 190, 60) + noise).astype(np.uint8)
    window = a_stack(make_napari_viewer, qtbot, stack, partial(load_predictor))
    window.drag((38, 55), (126, 142))
    window.until(lambda: window.mask is not None, timeout=300_000)
    window.dock.stack_panel.ways[0].click()
    window.until(lambda: not window.dock.controller.stacks.title, timeout=300_000)
    found = window.labels.data == 1
    overlap = (found & truth).sum() / (found | truth).sum()
    assert overlap > 0.85
    window.press("u")
    assert np.flatnonzero(window.labels.data.any(axis=(1, 2))).tolist() == [4]
