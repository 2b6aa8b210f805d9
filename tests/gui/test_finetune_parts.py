"""Ticks, ranges, words: what the Fine-tune dock shows, without a window."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy", reason="Qt is not installed: pip install 'napari-pisam[gui]'")

from napari_pisam.docks.finetune.plot_scale import smooth, thin, tick_text, ticks, value_range
from napari_pisam.docks.finetune.texts import (
    failure_text,
    speed_text,
    state_text,
    time_text,
    verdict_text,
)
from napari_pisam.learn.finetune.state import RunState


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.61, 0.8, [0.65, 0.7, 0.75, 0.8]), (0, 140, [0, 50, 100]), (0, 1, [0, 0.5, 1])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high) == expected


def test_ticks_of_nothing_are_none():
    assert ticks(float("nan"), 1.0) == []
    assert ticks(2.0, 2.0) == [2.0]


@pytest.mark.parametrize(("value", "text"), [(0.65, "0.65"), (1200, "1.2k"), (50, "50")])
def test_ticks_are_short(value, text):
    assert tick_text(value) == text


def test_noise_does_not_fill_the_axis_and_bounds_hold():
    low, high = value_range([np.array([0.97, 0.971])], 0.1, (0, 1))
    assert high - low >= 0.07
    assert high <= 1


def test_one_spike_does_not_flatten_a_long_curve():
    values = np.ones(1000)
    values[3] = 1e6
    assert value_range([values], 0.0, None)[1] < 100


def test_smoothing_keeps_length_and_mean():
    values = np.array([1.0, 3.0, 1.0, 3.0])
    np.testing.assert_allclose(smooth(values, 2), [1, 2, 2, 2])


def test_thinning_keeps_both_ends():
    x, y = thin(np.arange(10_000.0), np.arange(10_000.0), 400)
    assert len(x) <= 400
    assert (x[0], x[-1], y[-1]) == (0, 9999, 9999)


@pytest.mark.parametrize(
    ("seconds", "text"), [(44.6, "45 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_written_for_people(seconds, text):
    assert time_text(seconds) == text


def test_a_state_is_one_sentence():
    assert state_text(RunState(status="running", message="Step 12")) == "Training: step 12"
    assert state_text(RunState(status="starting", message="Starting")) == "Starting"
    assert state_text(RunState(status="paused", message="Step 12")) == "Paused"


def test_speed_is_shown_while_it_trains_only():
    state = RunState(status="running", elapsed=65, eta=30, samples_per_second=2.5)
    assert speed_text(state) == "1 min 05 s so far · about 30 s left · 2.5 objects/s"
    assert speed_text(RunState(status="finished", elapsed=65)) == "1 min 05 s of training"


def test_a_run_that_ended_before_it_was_validated_has_no_verdict():
    text, is_final = verdict_text(RunState(status="stopped", step=1))
    assert is_final
    assert text.startswith("No verdict")
    assert "Train longer" in text


@pytest.mark.parametrize("status", ["starting", "running", "pausing", "paused", "stopping"])
def test_nothing_is_final_while_it_trains(status):
    text, is_final = verdict_text(RunState(status=status, verdict="Not better. Keep tiny."))
    assert not is_final
    assert "at the end" in text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("Choose a new folder."), "Choose a new folder."),
        (MemoryError(), "Checking failed: not enough memory."),
        (OSError("disk full"), "Checking failed: disk full."),
        (KeyError("base"), "Checking failed (KeyError: 'base')."),
    ],
)
def test_failures_are_sentences(error, expected):
    assert failure_text(error, "Checking").startswith(expected)


@pytest.fixture
def settings_panel(qtbot):
    """Makes panels, each as in a napari that was started anew."""
    pytest.importorskip("pydantic", reason="pydantic is not installed: pip install '.[train]'")
    from napari_pisam.learn.finetune.settings import setting_fields
    from napari_pisam.widgets.finetune.settings_panel import SettingsPanel
    from napari_pisam.widgets.preferences import Preferences

    def make():
        panel = SettingsPanel(setting_fields())
        qtbot.addWidget(panel)
        panel.remember(Preferences())
        return panel

    return make


def test_settings_are_as_they_were_the_last_time(settings_panel):
    panel = settings_panel()
    before = panel.values
    panel.length.setValue(7)
    panel.unit.setCurrentText("rounds")
    panel.editors["trains"].take("interactor")
    panel.editors["batch"].inner.setValue(2)
    panel.editors["learning_rate"].take("3e-5")
    again = settings_panel()
    assert again.values == panel.values != before
    assert again.editors["batch"].isVisibleTo(again)  # Advanced is open where it matters


def test_damaged_settings_are_the_defaults(settings_panel, settings):
    before = settings_panel().values
    settings.write_text("[General]\ntune_batch=many\ntune_learning_rate=x\ntune_trains=9\n")
    panel = settings_panel()
    assert panel.values == before
    assert not panel.editors["batch"].isVisibleTo(panel)
