"""Jobs off the GUI thread, and when napari's activity dock shows them."""

from __future__ import annotations

import os
import sys
import threading

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from napari_pisam.widgets.background import Background


@pytest.fixture
def bars(monkeypatch):
    """The bars in the activity dock: titles of those opened, of those closed."""
    opened, closed = [], []

    class Bar:
        def __init__(self, total, desc):
            self.n, self.total, self.desc = 0, total, desc
            opened.append(desc)

        def reset(self, total):
            self.total = total

        def update(self, more):
            self.n += more

        def close(self):
            closed.append(self.desc)

    monkeypatch.setattr("napari.utils.progress", Bar)
    return opened, closed


def test_a_job_that_reports_nothing_opens_no_bar(qtbot, bars):
    results = []
    Background().start("short", lambda report, cancelled: 3, results.append, results.append)
    qtbot.waitUntil(lambda: results == [3])
    assert bars == ([], [])


def test_a_job_is_shown_from_its_first_report_until_it_ends(qtbot, bars):
    results, gate = [], threading.Event()

    def work(report, cancelled):
        report(1, 2)
        gate.wait(10)
        return 3

    Background().start("long", work, results.append, results.append)
    qtbot.waitUntil(lambda: bars[0] == ["long"])
    assert bars[1] == []
    gate.set()
    qtbot.waitUntil(lambda: results == [3])
    assert bars == (["long"], ["long"])
