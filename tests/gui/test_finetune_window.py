"""The Fine-tune dock in a real window: real mouse, real workers, runs that are fakes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
pytest.importorskip("pydantic", reason="pydantic is not installed: pip install '.[train]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QItemSelectionModel, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QLineEdit

from fake_dock import ImagePredictor, click, draw_box
from fake_finetune import FakeBackend
from finetune_hand import Hand
from napari_pisam.docks.segment.loading import LoadedPredictor
from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage
from napari_pisam.learn.finetune.state import Curve
from napari_pisam.widgets.finetune import object_table
from napari_pisam.widgets.finetune.plot import Plot, PlotLine
from napari_pisam.widgets.segment import SegmentWidget

SHAPE = (60, 240)


def discs(count=4):
    labels = np.zeros(SHAPE, np.uint16)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for place in range(count):
        labels[(rows - 30) ** 2 + (cols - 30 - 55 * place) ** 2 < 400] = place + 1
    return labels


def has_mask(segment):
    session = segment.controller.session
    return session is not None and session.current is not None and session.current.mask is not None


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", str(tmp_path / "sessions"))
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))


class Window(Hand):
    """A viewer with layers and the dock, and a hand; runs are fakes."""

    def __init__(self, viewer, qtbot, backend):
        viewer.add_image(np.random.default_rng(0).random(SHAPE), name="cells")
        viewer.add_labels(discs(), name="cells labels")
        super().__init__(viewer, qtbot, backend)

    def add_layers(self):
        objects = self.dock.objects_panel
        self.press(objects.layers_switch)
        self.press(objects.add_layers_button)
        self.until(lambda: self.rows)

    def start(self):
        before = len(self.backend.runs)
        self.press(self.dock.run_panel.start_button)
        self.until(
            lambda: len(self.backend.runs) > before and self.dock.controller.runner.is_active
        )

    def finish(self, **result):
        self.run.finish(**result)
        self.until(lambda: self.status == "finished")

    def cells(self, column):
        model = self.dock.objects_panel.table.model()
        return [model.index(line, column).data() for line in range(model.rowCount())]

    @property
    def run(self):
        return self.backend.runs[-1]

    @property
    def note(self):
        return self.dock.run_panel.note.text()


@pytest.fixture
def window(make_napari_viewer, qtbot, tmp_path):
    return Window(make_napari_viewer(show=True), qtbot, FakeBackend(tmp_path))


def test_layers_are_added_and_listed_with_their_parts(window):
    window.add_layers()
    assert window.cells(1) == ["1", "2", "3", "4"]
    assert sorted(window.cells(4)) == ["training", "training", "training", "validation"]
    assert window.dock.objects_panel.summary.text() == "3 train, 1 validate · 1 image"


def test_selected_objects_get_another_part_and_their_image_is_removed(window):
    window.add_layers()
    objects = window.dock.objects_panel
    table = objects.table
    place = table.visualRect(table.model().index(1, 1)).center()
    for part, word in (("validation", "validation"), ("unused", "left out"),
                       ("training", "training")):  # fmt: skip
        window.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
        window.press(objects.part_buttons[part])
        assert window.cells(4)[1] == word
    window.press(objects.split_button)
    window.press(objects.remove_button)
    assert window.rows == []
    assert not objects.remove_button.isEnabled()


def test_a_sorted_table_gives_the_part_to_what_is_selected(window):
    window.add_layers()
    table = window.dock.objects_panel.table
    table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    flags = QItemSelectionModel.SelectionFlag
    table.selectionModel().select(table.model().index(0, 0), flags.ClearAndSelect | flags.Rows)
    window.press(window.dock.objects_panel.part_buttons["unused"])
    assert [row.label for row in window.rows if row.part == "unused"] == [4]


def test_seventy_thousand_selected_objects_get_another_part(window):
    learning, table = window.dock.controller.learning, window.dock.objects_panel.table
    found = [ObjectRow("many", label, (0, label, 6, label + 6), 36) for label in range(1, 70_001)]
    learning.add([SourceImage("many", np.zeros(SHAPE), discs())], found)
    window.until(lambda: len(window.rows) == 70_000)
    table.selectAll()
    window.press(window.dock.objects_panel.part_buttons["validation"])
    assert {row.part for row in window.rows} == {"validation"}


def test_the_share_of_validation_can_be_changed(window):
    window.add_layers()
    window.dock.objects_panel.fraction.setValue(50)
    window.settle()
    assert window.cells(4).count("validation") == 2


def test_folders_are_asked_for_and_read(window, tmp_path, monkeypatch):
    from skimage.io import imsave

    for kind, array in (("images", np.zeros(SHAPE)), ("masks", discs(2))):
        (tmp_path / kind).mkdir()
        imsave(tmp_path / kind / "one.png", array.astype(np.uint8), check_contrast=False)
    answers = [str(tmp_path / "images"), str(tmp_path / "masks")]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: answers.pop(0))
    window.press(window.dock.objects_panel.folders_button)
    window.until(lambda: len(window.rows) == 2)


def test_check_shows_what_it_will_take_and_starts_nothing(window):
    window.add_layers()
    window.press(window.dock.run_panel.check_button)
    window.until(lambda: "3 train" in window.note)
    assert window.backend.runs == []


def test_without_objects_start_is_refused_with_a_sentence(window):
    window.press(window.dock.run_panel.start_button)
    assert "nothing to learn from" in window.note
    assert window.backend.checks == []


def test_that_there_is_nothing_to_learn_from_goes_away(window):
    window.press(window.dock.run_panel.start_button)
    assert "nothing to learn from" in window.note
    window.add_layers()
    assert window.note == ""
    window.start()
    assert "nothing to learn from" not in window.dock.objects_panel.summary.text()
    window.dock.controller.learning.remove(["cells"])
    window.settle()
    assert "its own copies" in window.dock.objects_panel.summary.text()


def test_a_failure_is_notified_where_the_dock_is_out_of_sight_only(window):
    told = notification_manager.records
    before = len(told)
    window.press(window.dock.run_panel.start_button)
    assert "nothing to learn from" in window.note
    assert len(told) == before
    window.docked.hide()
    window.settle()
    window.dock.controller.start()
    assert [record.message for record in told[before:]] == [window.note]


def test_the_verdict_is_in_sight_in_a_low_window(window):
    window.viewer.window.resize(1280, 720)
    window.add_layers()
    window.start()
    window.finish(is_better=True)
    verdict = window.dock.training_panel.result.verdict
    assert verdict.visibleRegion().boundingRect().height() == verdict.height()


def test_a_verdict_is_in_bold_at_the_end_only(window):
    window.add_layers()
    window.start()
    result = window.dock.training_panel.result
    x = np.array([0.0, 10.0])
    window.run.state = replace(
        window.run.state,
        step=10,
        base_boundary=0.4,
        boundary_validation=Curve(x, np.array([0.4, 0.35])),
        verdict="Not better. Keep tiny.",
    )
    window.until(lambda: "Provisional" in result.verdict.text())
    assert "boundary IoU 0.350 (base 0.400)" in result.verdict.text()
    assert "Keep tiny" not in result.verdict.text()
    assert not result.verdict.font().bold()
    window.finish(is_better=False)
    assert result.verdict.text() == "Not better: keep tiny."
    assert result.verdict.font().bold()


def test_start_pause_resume_and_stop(window):
    window.add_layers()
    window.start()
    run, panel = window.run, window.dock.run_panel
    assert window.dock.tabs.currentIndex() == 1
    assert not panel.start_button.isEnabled()
    window.press(panel.pause_button)
    assert panel.pause_button.text() == "Resume"
    window.press(panel.pause_button)
    assert panel.pause_button.text() == "Pause"
    window.press(panel.stop_button)
    assert run.commands == ["start", "pause", "resume", "stop"]
    window.until(panel.start_button.isEnabled)
    assert panel.pause_button.text() == "Resume"


def test_settings_reach_the_run(window):
    window.add_layers()
    settings = window.dock.settings_panel
    settings.length.setValue(7)
    settings.unit.setCurrentText("rounds")
    combo = settings.editors["trains"].inner
    combo.setCurrentIndex(combo.findData("interactor"))
    settings.advanced.expand()
    settings.editors["batch"].inner.setValue(2)
    settings.editors["learning_rate"].inner.setText("3e-5")
    settings.editors["learning_rate"].inner.editingFinished.emit()
    window.start()
    made = window.run.settings
    assert (made.epochs, made.minutes, made.trains) == (7, None, "interactor")
    assert (made.batch, made.learning_rate) == (2, 3e-5)


def test_every_setting_has_an_explanation(window):
    for editor in window.dock.settings_panel.editors.values():
        assert len(editor.inner.toolTip()) > 20


def test_a_better_result_is_shown_used_and_exported(window, tmp_path, monkeypatch):
    segment = SegmentWidget(window.viewer)
    loaded = []

    def load(name, device, report, cancelled, *, may_download):
        loaded.append((name, device))
        return LoadedPredictor(ImagePredictor(), name, "1" * 64, "cpu", 1_000_000)

    segment.loader._load = load
    window.viewer.window.add_dock_widget(segment, name="Pi-SAM: Segment")
    window.settle()
    choice = segment.controller.workspace.choice
    draw_box(choice["boxes"], (10.0, 10.0, 40.0, 40.0))
    window.until(lambda: has_mask(segment))
    click(choice["clicks"], 42, 20)
    window.until(
        lambda: len(segment.controller.session.current.prompts.points) == 1 and has_mask(segment)
    )
    labels = np.asarray(choice["labels"].data).copy()
    window.dock.parent().raise_()
    window.settle()
    window.add_layers()
    window.start()
    window.finish(is_better=True)
    training = window.dock.training_panel
    assert training.result.verdict.text().startswith("Better")
    weights = str(window.run.folder / "best.safetensors")
    window.press(training.result.use_button)
    window.until(lambda: (weights, "auto") in loaded and not segment.loader.is_loading)
    assert segment.model_panel.choice[0] == weights
    window.until(lambda: "on cpu" in segment.model_panel.status.text())
    assert f"<b>{window.run.folder.name}</b>" in segment.model_panel.status.text()
    assert len(segment.controller.session.current.prompts.points) == 1
    np.testing.assert_array_equal(choice["labels"].data, labels)
    path = tmp_path / "mine"

    def type_name():
        dialog = next(one for one in training.result.findChildren(QFileDialog) if one.isVisible())
        dialog.findChild(QLineEdit).setText(str(path))
        dialog.accept()

    QTimer.singleShot(300, type_name)
    window.press(training.result.export_button)
    window.until(lambda: path.with_suffix(".safetensors").is_file())


def test_a_result_that_is_not_better_leaves_the_base_selected(window):
    window.add_layers()
    window.start()
    window.finish(is_better=False)
    result = window.dock.training_panel.result
    assert result.verdict.text() == "Not better: keep tiny."
    assert not result.use_button.isEnabled()
    assert not result.export_button.isEnabled()
    assert window.dock.settings_panel.base.currentText() == "tiny"


def test_curves_and_pictures_are_drawn(window):
    window.add_layers()
    window.start()
    window.finish(is_better=True)
    training = window.dock.training_panel
    for plot in (training.curves.boundary, training.curves.iou, training.curves.loss):
        image = plot.grab().toImage()
        places = [(x, y) for x in range(image.width()) for y in range(image.height())]
        assert "#3d9df2" in {image.pixelColor(x, y).name() for x, y in places}
    [pair] = training.pictures._comparisons
    window.until(lambda: all(label.pixmap().width() for label in pair._pictures))
    grey = [label.pixmap().toImage().pixelColor(5, 5).red() for label in pair._pictures]
    assert grey == [60, 200]


def test_a_run_of_before_is_chosen_and_goes_on(window):
    window.add_layers()
    window.start()
    window.run.close()
    window.until(lambda: window.status == "interrupted")
    window.show(0)
    window.start()
    window.finish(is_better=False)
    window.viewer.window.remove_dock_widget(window.dock)
    window.open()
    window.show(1)
    runs = window.dock.training_panel.runs
    assert "not finished" in runs.itemText(2)
    runs.setCurrentIndex(2)
    runs.activated.emit(2)
    window.settle()
    assert window.status == "interrupted"
    window.press(window.dock.run_panel.pause_button)
    assert window.backend.runs[0].commands == ["start", "close", "resume"]


def test_closing_the_dock_lets_go_of_the_run(window):
    window.add_layers()
    window.start()
    window.close()
    window.until(lambda: window.run.commands == ["start", "close"])


def test_layers_can_be_renamed_and_removed_while_it_trains(window):
    window.add_layers()
    window.start()
    window.viewer.layers["cells"].name = "other"
    window.settle()
    assert window.dock.objects_panel.image_combo.currentText() == "other"
    window.viewer.layers.clear()
    window.finish(is_better=True)
    assert window.dock.training_panel.result.use_button.isEnabled()


def test_what_is_committed_in_segment_is_there_when_the_dock_opens(window):
    segment = SegmentWidget(window.viewer)
    segment.loader._load = lambda *_, **__: LoadedPredictor(
        ImagePredictor(), "fake", "1" * 64, "cpu", 1
    )
    window.viewer.window.add_dock_widget(segment, name="Pi-SAM: Segment")
    window.settle()
    for col in (10.0, 120.0):
        draw_box(segment.controller.workspace.choice["boxes"], (10.0, col, 40.0, col + 40))
        window.until(lambda: has_mask(segment))
        segment.controller.commit()
        window.until(lambda: segment.controller.session.current is None)
    window.viewer.window.remove_dock_widget(window.dock)
    window.open()
    window.until(lambda: len(window.rows) == 2)
    assert {row.origin for row in window.rows} == {"session"}


def test_painting_the_table_does_not_ask_every_row(qtbot, monkeypatch):
    asked = []

    class Counting(object_table._TrainingObjectsModel):
        def flags(self, index):
            asked.append(index.row())
            return super().flags(index)

    monkeypatch.setattr(object_table, "_TrainingObjectsModel", Counting)
    table = object_table.ObjectTableView()
    qtbot.addWidget(table)
    table.show_rows([ObjectRow("many", label, (0, 0, 6, 6), 36) for label in range(1, 3_001)])
    table.show()
    table.selectAll()
    asked.clear()
    table.grab()
    assert len(asked) < 1_000


def test_nothing_is_cut_off_at_the_side(window):
    for page in (0, 1):
        window.show(page)
        area = window.dock.tabs.widget(page)
        assert area.widget().width() <= area.viewport().width()
        assert window.dock.width() <= 420


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_plot_text_can_be_read_in_every_theme(window, theme):
    window.viewer.theme = theme
    window.show(1)
    plot = window.dock.training_panel.curves.loss
    text = plot.palette().color(plot.foregroundRole()).lightness()
    ground = plot.grab().toImage().pixelColor(plot.width() // 2, 3).lightness()
    assert abs(text - ground) > 100


def test_a_plot_without_values_and_one_with_gaps_are_painted(qtbot):
    plot = Plot("Loss")
    qtbot.addWidget(plot)
    plot.show()
    plot.grab()
    x = np.arange(5.0)
    plot.show_lines([PlotLine(x, np.array([1, np.nan, 2, np.inf, 0.5]), "#ff0000")], 1.0, "note")
    plot.grab()
