"""The choice of a model, as it stands in both docks."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from qtpy.QtWidgets import QFileDialog

from napari_pisam.widgets.model_combo import ModelCombo


@pytest.fixture
def combo(qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))
    made = ModelCombo()
    qtbot.addWidget(made)
    made.told = []
    made.chosen.connect(made.told.append)
    return made


def press_last_entry(combo):
    combo.setCurrentIndex(combo.count() - 1)
    combo.activated.emit(combo.count() - 1)


def test_a_file_is_asked_for_and_chosen(combo, tmp_path, monkeypatch):
    path = str(tmp_path / "<b>mine.safetensors")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (path, ""))
    press_last_entry(combo)
    assert combo.choice == path
    assert combo.told == [path]
    assert combo.title(path) == combo.currentText() == "<b>mine.safetensors"


def test_who_chooses_no_file_keeps_what_was_chosen(combo, monkeypatch):
    combo.setCurrentText("sam_vit_b")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    press_last_entry(combo)
    assert combo.choice == combo.currentText() == "sam_vit_b"


def test_results_that_are_gone_leave_and_the_chosen_one_stays(combo, tmp_path):
    for name in ("kept", "gone"):
        (tmp_path / name).write_bytes(b"weights")
        combo.choose_file(str(tmp_path / name))
    combo.choose_file(str(tmp_path / "kept"))
    (tmp_path / "kept").unlink()
    (tmp_path / "gone").unlink()
    combo.list_results([])
    assert combo.choice == str(tmp_path / "kept")
    assert combo.findData(str(tmp_path / "gone")) < 0
