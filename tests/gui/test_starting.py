"""What a dock does before the first box, and what it remembers of the last time."""

from __future__ import annotations

import os
import sys

import pytest

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("napari draws in a window: run it through `make test`", allow_module_level=True)

from napari_pisam.widgets import segment


@pytest.fixture
def warmed(window, monkeypatch):
    """How often the network's libraries were asked for."""
    calls: list[int] = []
    monkeypatch.setattr(window.dock.loader, "_warm_up", lambda: calls.append(1))
    return calls


def test_an_idle_dock_imports_what_the_first_box_will_need(window, warmed):
    window.dock._idle_timer.start(0)
    window.until(lambda: warmed == [1])


def test_nothing_is_imported_once_a_model_is_there_or_the_dock_is_closed(window, warmed):
    window.dock.loader.load("tiny", "cpu")
    window.dock._idle_timer.start(0)
    window.until(lambda: window.dock.loader.loaded is not None)
    window.dock._idle_timer.start(0)
    window.settle()
    window.dock._idle_timer.start(10**6)
    window.dock.stop()
    assert not window.dock._idle_timer.isActive()
    assert not warmed


def test_a_dock_that_opens_waits_before_it_imports_anything(window):
    assert window.dock._idle_timer.isActive()
    assert segment.IDLE >= 10**6  # the tests' own; see conftest.py
