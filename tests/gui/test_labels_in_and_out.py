"""Labels go out in every format and come in from every format, as a person does it in the dock."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QFileDialog

from dock_window import BOX, SHAPE
from fake_dock import draw_box
from napari_pisam.docks.segment.opening import objects_of
from napari_pisam.images.label_formats import FORMATS, LabelImage
from napari_pisam.images.label_formats.table import write_rows
from napari_pisam.measure.regions import measure_objects
from napari_pisam.session.classes import ObjectClass

OTHER = (5.0, 5.0, 20.0, 25.0)
READABLE = [name for name, entry in FORMATS.items() if entry.read is not None]


@pytest.fixture
def two(window):
    for box in (BOX, OTHER):
        draw_box(window.boxes, box)
        window.until(lambda: window.mask is not None)
        window.press("w")
        window.until(lambda: window.session.current is None)
    return window


def crude():
    """Two objects of a file, one with a hole."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[10:40, 20:60] = 3
    labels[20:24, 30:34] = 0
    labels[60:90, 80:130] = 8
    return labels


def open_file(window, monkeypatch, path, text):
    """Choose a way in the menu, and a file in the dialog."""
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *given, **named: (str(path), ""))
    menu = window.dock.export_panel.open_button.menu()
    (action,) = [one for one in menu.actions() if text in one.text()]
    action.trigger()


def choose_format(window, name):
    combo = window.dock.export_panel.format_combo
    combo.setCurrentIndex(combo.findData(name))
    return window.dock.export_panel.format_note.text()


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("tiff", "csv")])
def test_labels_are_written_in_the_chosen_format(name, two, tmp_path, monkeypatch):
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    monkeypatch.setattr(QFileDialog, "exec", lambda self: True)
    monkeypatch.setattr(QFileDialog, "selectedFiles", lambda self: [str(path)])
    said = choose_format(two, name)
    assert entry.loses in said
    two.dock.export_panel.labels_button.click()
    two.until(path.exists)
    np.testing.assert_array_equal(entry.read(path, SHAPE).labels, two.labels.data)


def test_geojson_has_classes_colours_and_measures(two, tmp_path):
    two.dock.controller.workspace.planes.classes.merge([ObjectClass("nucleus", "#ff0080")])
    two.session.set_class([2], "nucleus")
    path = tmp_path / "cells.geojson"
    two.dock.export_panel.format_requested.emit(str(path), "geojson")
    two.until(path.exists)
    first, second = (one["properties"] for one in json.loads(path.read_text())["features"])
    assert "classification" not in first
    assert second["classification"] == {"name": "nucleus", "color": [255, 0, 128]}
    assert second["measurements"]["area_px"] == (two.labels.data == 2).sum()
    assert second["measurements"]["intensity_mean"] == pytest.approx(
        two.image.data[two.labels.data == 2].mean()
    )


@pytest.mark.parametrize("name", READABLE)
def test_finished_objects_come_from_every_format(name, window, tmp_path, monkeypatch):
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    entry.write(path, LabelImage(crude(), {8: "nucleus"}, colors={"nucleus": (255, 0, 9)}))
    # Of a folder a dialog that asks for files gives one of its files.
    open_file(window, monkeypatch, path / "zarr.json" if path.is_dir() else path, "As finished")
    window.until(lambda: len(window.session.objects) == 2)
    np.testing.assert_array_equal(window.labels.data > 0, crude() > 0)
    assert [line["Status"] for line in window.table] == ["committed"] * 2
    if "classes" not in entry.loses:
        assert window.session.objects[1].class_name == "nucleus"
        assert "nucleus" in [one.name for one in window.dock.controller.workspace.planes.classes]
    window.press("u")
    assert not window.labels.data.any()


def test_starts_are_corrected_by_clicks(window, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    FORMATS["png"].write(path, LabelImage(crude()))
    open_file(window, monkeypatch, path, "As starts")
    window.until(lambda: len(window.session.objects) == 2)
    assert not window.labels.data.any()
    window.click_line(0)
    assert window.session.current.id == 3
    window.click(22, 32)
    window.until(lambda: window.mask is not None and window.mask.area > (crude() == 3).sum())
    window.press("w")
    window.until(lambda: (window.labels.data == 3).any())
    assert window.labels.data[22, 32] == 3


def test_boxes_of_a_file_are_segmented_at_once(window, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    FORMATS["coco"].write(path, LabelImage(crude()))
    open_file(window, monkeypatch, path, "As boxes")
    window.until(lambda: len(window.session.objects) == 2)
    window.dock.many_panel.start_requested.emit()
    window.until(lambda: all(one.committed for one in window.session.objects))
    assert window.labels.data[22, 32] == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.geojson", b"{", "not valid JSON"),
        ("a.json", b'{"images": []}', "not a COCO file"),
        ("a.zip", b"PK", "not a zip of ROIs"),
        ("a.txt", b"0 nan nan 1 1 0 1", "x y"),
        ("a.png", b"\x89PNG", "is not an image"),
        ("a.doc", b"", "endings"),
        ("a.geojson", b'{"type":"FeatureCollection","features":[{"geometry":{"type":"Polygon",'
         b'"coordinates":[[[1e9,1e9],[2e9,1e9],[2e9,2e9]]]}}]}', "holds no object"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_said(name, content, words, window, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(content)
    said = []
    window.dock.controller.workspace.failed.connect(lambda text: said.append(text))
    open_file(window, monkeypatch, tmp_path / name, "As finished")
    window.until(lambda: bool(said))
    assert words in said[0]
    assert not window.session.objects


# -- classes ----------------------------------------------------------------------------------


def edit_classes(window, monkeypatch, *names, layer=False):
    """Type names into the dialog and press OK."""

    def fill(dialog):
        while len(dialog.lines) < len(names):
            dialog.add()
        for line, name in zip(dialog.lines, names, strict=True):
            line.name.setText(name)
        dialog.layer_check.setChecked(layer)
        dialog.accept()
        return dialog.result() == QDialog.DialogCode.Accepted

    monkeypatch.setattr(QDialog, "exec", fill)
    combo = window.dock.object_list.class_combo
    combo.setCurrentIndex(combo.count() - 1)
    combo.activated.emit(combo.count() - 1)
    window.settle()


def alt(window, place):
    key = getattr(Qt.Key, f"Key_{place}")
    window.qtbot.keyClick(window.canvas, key, Qt.KeyboardModifier.AltModifier)
    window.settle()


def names(window):
    return [one.class_name for one in window.session.objects]


def test_classes_are_given_by_keys_and_in_the_table(two, monkeypatch):
    edit_classes(two, monkeypatch, "nucleus", "wall")
    two.click_line(0)
    alt(two, 2)
    assert names(two) == ["wall", ""]
    two.click_line(1, modifier=Qt.KeyboardModifier.ControlModifier)
    combo = two.dock.object_list.class_combo
    combo.activated.emit(combo.findData("nucleus"))
    two.settle()
    assert names(two) == ["nucleus"] * 2
    two.press("u")
    assert names(two) == ["wall", ""]
    alt(two, 7)
    assert names(two) == ["wall", ""]
    two.dock.object_list.table.clearSelection()
    alt(two, 0)
    two.dock.controller.next_object()
    alt(two, 1)
    draw_box(two.boxes, (95.0, 5.0, 115.0, 20.0))
    two.until(lambda: two.mask is not None)
    assert names(two)[2] == "nucleus"


def test_classes_that_are_renamed_keep_their_objects_and_removed_ones_do_not(two, monkeypatch):
    edit_classes(two, monkeypatch, "nucleus", "wall")
    two.session.set_class([1], "nucleus")
    two.session.set_class([2], "wall")
    edit_classes(two, monkeypatch, "wall", "nucleus")
    assert names(two) == ["wall", "nucleus"]
    edit_classes(two, monkeypatch, "wall", "")
    two.settle()
    # An empty name of a class that was there is said, and nothing changes.
    assert names(two) == ["wall", "nucleus"]


def test_the_layer_of_classes_follows(two, monkeypatch):
    edit_classes(two, monkeypatch, "nucleus", "wall", layer=True)
    layer = two.viewer.layers["cells classes"]
    assert not layer.data.any()
    two.session.set_class([1], "wall")
    two.settle()
    np.testing.assert_array_equal(layer.data == 2, two.labels.data == 1)
    two.labels.brush_size = 5
    two.labels.paint((60, 70), 0)
    two.settle()
    np.testing.assert_array_equal(layer.data == 2, two.labels.data == 1)
    (first, second) = two.dock.controller.workspace.planes.classes
    np.testing.assert_allclose(layer.get_color(2)[:3] * 255, second.rgb, atol=1)
    two.press("u")
    two.settle()
    assert not layer.data.any()
    draw_box(two.boxes, (95.0, 5.0, 115.0, 20.0))
    alt(two, 1)
    two.until(lambda: two.mask is not None)
    two.press("w")
    two.until(lambda: (two.labels.data == 3).any())
    two.settle()
    np.testing.assert_array_equal(layer.data == 1, two.labels.data == 3)
    assert first.name == "nucleus"


def test_classes_come_back_with_the_session(two, tmp_path, monkeypatch):
    edit_classes(two, monkeypatch, "nucleus", "wall")
    two.session.set_class([2], "wall")
    two.dock.export_panel.session_requested.emit(str(tmp_path / "a.pisam"))
    two.until((tmp_path / "a.pisam").exists)
    two.session.set_class([2], "")
    two.dock.controller.workspace.planes.classes.replace([])
    two.dock.export_panel.restore_requested.emit(str(tmp_path / "a.pisam"))
    two.until(lambda: names(two) == ["", "wall"])
    assert [one.name for one in two.dock.controller.workspace.planes.classes] == ["nucleus", "wall"]


def test_a_table_of_measures_is_opened_as_boxes_and_nothing_else(window, tmp_path, monkeypatch):
    path = tmp_path / "cells.csv"
    write_rows(path, {n: {"class": "cell"} | row for n, row in measure_objects(crude()).items()})
    open_file(window, monkeypatch, path, "boxes")
    window.until(lambda: len(window.session.objects) == 2)
    assert [one.prompts.box for one in window.session.objects] == [
        (9.5, 19.5, 39.5, 59.5),
        (59.5, 79.5, 89.5, 129.5),
    ]
    assert {one.class_name for one in window.session.objects} == {"cell"}
    with pytest.raises(ValueError, match="Open it as boxes"):
        objects_of(path, SHAPE, "starts")
