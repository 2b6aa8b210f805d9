"""What a dock does before the first box, and what it remembers of the last time."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import pytest

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("napari draws in a window: run it through `make test`", allow_module_level=True)

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QFileDialog, QLabel, QPushButton
from superqt import QElidingLabel

from napari_pisam import sample_data
from napari_pisam.docks.segment.first_steps import SAMPLES
from napari_pisam.docks.segment.preview import PreviewLook
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.widgets import segment
from napari_pisam.widgets.file_dialogs import ask_open_path
from napari_pisam.widgets.preferences import Preferences
from napari_pisam.widgets.remembered import remember_model, restore_options


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


def test_the_strip_marks_the_next_step_and_vanishes_for_good_after_the_first_commit(
    make_napari_viewer, qtbot
):
    from dock_window import BOX, Window

    viewer = make_napari_viewer(show=True)
    window = Window(viewer, qtbot)
    strip = window.dock.getting_started
    assert strip.isVisible()
    assert strip.samples.isVisible()
    assert "▸ open an image" in strip.steps.text()
    viewer.add_image(sample_data.coins()[0][0], name="cells")
    window.until(lambda: "▸ draw a box" in strip.steps.text())
    assert not strip.samples.isVisible()
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None and "▸ click where" in strip.steps.text())
    window.dock.controller.commit()
    window.until(lambda: not strip.isVisible())
    assert Preferences().get("has_committed", False)
    window.dock.stop()
    viewer.window.remove_dock_widget(window.dock_widget)
    window.open()
    assert not window.dock.getting_started.isVisible()


def test_a_click_opens_a_sample_image_on_which_the_dock_works(make_napari_viewer, qtbot):
    from dock_window import Window

    viewer = make_napari_viewer(show=True)
    window = Window(viewer, qtbot)
    (coins, *_) = window.dock.getting_started.samples.findChildren(QPushButton)
    qtbot.mouseClick(coins, Qt.MouseButton.LeftButton)
    window.until(lambda: window.session is not None)
    assert window.image.name == "coins"


def test_samples_of_the_strip_are_those_of_the_manifest():
    from npe2 import PluginManifest

    offered = PluginManifest.from_distribution("napari-pisam").contributions.sample_data
    assert set(SAMPLES) <= {sample.key for sample in offered}


def test_what_is_chosen_is_chosen_again_in_the_next_viewer(make_napari_viewer, qtbot, tmp_path):
    from dock_window import Window

    weights = tmp_path / "mine.safetensors"
    weights.touch()
    first = Window(make_napari_viewer(show=True), qtbot).dock
    first.options_panel.rule.value = "overwrite"
    first.options_panel.opacity.value = 0.25
    first.options_panel.outline.value = True
    wanted = Cleaning(fill_holes=True, specks=30, smooth=1.5, grow=-2.0)
    for name, value in asdict(wanted).items():
        first.options_panel.cleaning[name].value = value
    first.object_list.columns_chosen.emit(("id", "area"), True)
    first.model_panel.devices.choose("tcp://box:1")
    first.model_panel.models.choose_file(str(weights))
    second = Window(make_napari_viewer(show=True), qtbot).dock
    assert second.controller.kept.rule == second.options_panel.rule.value == "overwrite"
    look = second.controller.kept.look
    assert (look.opacity, look.outline) == (0.25, True)
    assert second.controller.kept.cleaning == wanted
    assert second.options_panel.cleaning["smooth"].value == 1.5
    assert (second.objects.shown, second.objects.in_pixels) == (("id", "area"), True)
    assert second.model_panel.choice == (str(weights), "tcp://box:1")


@pytest.mark.parametrize(
    "content",
    [
        b"\0\xff[[",
        b"[General]\nrule=7\npreview_opacity=nan\n"
        b"preview_outline=perhaps\nmodel=gone.pth\ndevice=abacus\n"
        b"clean_specks=many\nclean_grow=1e9\ncolumns=,gone\n",
    ],
)
def test_damaged_settings_are_the_defaults(window, settings, content):
    settings.write_bytes(content)
    found = Preferences()
    assert found.get("rule", "keep") in {"keep", "7"}
    assert found.get("preview_outline", False) is False
    restore_options(window.dock.controller, found)
    remember_model(window.dock.model_panel, found)
    assert window.dock.controller.kept.rule == "keep"
    assert window.dock.controller.kept.look == PreviewLook()
    assert window.dock.controller.kept.cleaning == Cleaning()
    assert window.dock.model_panel.choice == ("tiny", "auto")


def test_a_dialog_begins_in_the_folder_of_the_last_one(qtbot, tmp_path, monkeypatch):
    asked: list[str] = []

    def answer(_parent, _title, folder, _kinds):
        asked.append(folder)
        return str(tmp_path / "a.pisam"), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", answer)
    for _ in range(2):
        ask_open_path(None, "Open", "Sessions (*.pisam)")
    assert asked == ["", str(tmp_path)]


def test_tab_reaches_the_buttons_and_a_click_leaves_the_keys_to_the_canvas(window):
    buttons = window.dock.findChildren(QPushButton)
    policies = {button.focusPolicy() for button in buttons if button.isVisible()}
    assert all(policy & Qt.FocusPolicy.TabFocus for policy in policies)
    commit = window.dock.object_list.commit_button
    assert not commit.focusPolicy() & Qt.FocusPolicy.ClickFocus & ~Qt.FocusPolicy.TabFocus


def cut_texts(dock):
    """Texts of labels and buttons that there is no room for."""
    cut = []
    for one in dock.findChildren(QAbstractButton) + dock.findChildren(QLabel):
        if not one.isVisible() or not one.text():
            continue
        if isinstance(one, QElidingLabel):
            fits = QLabel.text(one) == one.text()
        elif isinstance(one, QLabel) and one.wordWrap():
            fits = one.height() >= one.heightForWidth(one.width())
        else:
            fits = one.width() >= one.minimumSizeHint().width()
        if not fits:
            cut.append(one.text())
    return cut


LONG = (
    "Seen together: DAPI (magenta), GFP (green), actin (yellow), transmitted light (grey); "
    "contrast 0 to 4,095",
    "Object 123: draw along what is wrong, FG what is missing, BG what is too much.",
)


@pytest.mark.parametrize("size", [(1280, 720), (960, 540)], ids=["laptop", "full HD at 200 %"])
def test_no_text_is_cut(window, size):
    dock = window.dock
    dock.model_panel.models.choose("microsam_vit_b_histopathology")
    dock.model_panel.show_kind("electron")
    window.viewer.window.resize(*size)
    window.settle()
    dock.layer_panel.show_seen(LONG[0])
    dock.prompt_panel.show_hint(LONG[1])
    window.settle()
    assert cut_texts(dock) == []
    for section in dock.sections:
        section.expand()
    window.settle()
    assert cut_texts(dock) == []
    assert window.viewer.window._qt_window.width() <= size[0]
