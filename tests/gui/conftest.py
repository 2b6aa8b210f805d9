"""Fixtures of the tests that use a window."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def autosaves(tmp_path, monkeypatch):
    """Where sessions are saved unasked."""
    folder = tmp_path / "sessions"
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """What the docks remember."""
    path = tmp_path / "settings.ini"
    monkeypatch.setenv("NAPARI_PISAM_SETTINGS", str(path))
    return path


@pytest.fixture(autouse=True)
def no_dock_waits_or_imports(monkeypatch):
    """A dock begins once it is drawn, or later, and imports torch, for seconds, when idle."""
    pytest.importorskip("qtpy", reason="qtpy is not installed: pip install 'napari-pisam[gui]'")
    monkeypatch.setattr("napari_pisam.widgets.segment.SHOWN", 0)
    monkeypatch.setattr("napari_pisam.widgets.segment.IDLE", 10**6)


@pytest.fixture
def window(make_napari_viewer, qtbot):
    """A viewer with an image and the dock."""
    from dock_window import SHAPE, Window

    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.random.default_rng(0).random(SHAPE), name="cells")
    return Window(viewer, qtbot)
