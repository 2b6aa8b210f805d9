"""The choice of a model, as it stands in both docks."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_pisam.weights.cache import cached_path
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.timings import keep_seconds
from napari_pisam.widgets.model_combo import ModelCombo
from napari_pisam.widgets.model_panel import ModelPanel


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("RUNS", "CACHE", "MODELS"):
        monkeypatch.setenv(f"NAPARI_PISAM_{name}", str(tmp_path / name))


@pytest.fixture
def combo(qtbot):
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


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_model_says_in_the_list_what_it_is(combo, name):
    place = combo.findText(name)
    told = combo.itemData(place, Qt.ItemDataRole.ToolTipRole)
    assert CATALOGUE[name].good_for in told
    assert CATALOGUE[name].licence in told
    assert "One image: " in told


def test_models_that_were_added_are_offered_and_leave_when_they_are_removed(
    combo, tmp_path, monkeypatch
):
    from micro import MICRO, micro_model
    from napari_pisam.model.variants import VARIANTS
    from napari_pisam.weights.added import add_model
    from napari_pisam.weights.checkpoint_format import save_checkpoint
    from napari_pisam.weights.models import remove

    monkeypatch.setitem(VARIANTS, "micro", MICRO)
    save_checkpoint(tmp_path / "lab.safetensors", micro_model(seed=3), licence="CC0-1.0")
    combo.choose_file(str(tmp_path / "result"), "run 1")
    add_model(str(tmp_path / "lab.safetensors"), "yeast")
    combo.list_names()
    assert combo.choice == str(tmp_path / "result")
    # With the names, above the files.
    assert 0 < combo.findText("yeast") < combo.findText("run 1")
    combo.setCurrentText("yeast")
    assert combo.choice == "yeast"
    assert "yours" in combo.about
    combo.setCurrentIndex(0)
    remove("yeast")
    combo.list_names()
    assert combo.findText("yeast") < 0
    assert combo.choice == "tiny"


def test_a_run_with_the_name_of_a_model_is_a_file(combo, tmp_path):
    combo.choose_file(str(tmp_path / "weights"), "tiny")
    combo.list_names()
    assert combo.choice == str(tmp_path / "weights")
    assert "checkpoint file" in combo.about


def test_the_line_below_follows_the_choice_and_what_is_on_the_machine(qtbot):
    panel = ModelPanel()
    qtbot.addWidget(panel)
    assert CATALOGUE["tiny"].good_for in panel.about.text()
    panel.models.setCurrentText("sam_vit_t")
    assert "39 MB · to download · photographs" in panel.about.text()
    keep_seconds({"sam_vit_t": 0.84})
    cached_path("sam_vit_t").write_bytes(b"weights")
    panel.show_loading("sam_vit_t")
    panel.show_idle("Loaded.")
    assert "on this machine · 0.84 s an image · photographs" in panel.about.text()
    # All of it, where the line is cut.
    assert "Apache-2.0" in panel.about.toolTip()


def test_the_hint_goes_when_its_model_is_chosen(qtbot):
    panel = ModelPanel()
    qtbot.addWidget(panel)
    assert panel.advice.isHidden()
    panel.show_kind("tissue")
    assert not panel.advice.isHidden()
    assert "microsam_vit_b_histopathology" in panel.advice.text()
    asked = []
    panel.load_requested.connect(lambda *choice: asked.append(choice))
    panel.models.setCurrentText("microsam_vit_b_histopathology")
    assert panel.advice.isHidden()
    # Choosing is not loading.
    assert asked == []
    panel.models.setCurrentText("tiny")
    panel.show_kind(None)
    assert panel.advice.isHidden()
