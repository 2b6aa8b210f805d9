"""The table of measures: what it shows, how it follows, where it goes."""

from __future__ import annotations

import csv

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from dock_window import BOX, SHAPE
from fake_dock import draw_box, expected
from napari_pisam.measure.regions import Pixel, measure_objects

OTHER = (5.0, 5.0, 20.0, 25.0)


@pytest.fixture
def two(window):
    """Two committed objects in an image whose pixels are 0.5 x 0.25 um."""
    window.image.scale = window.labels.scale = (0.5, 0.25)
    window.image.units = window.labels.units = ("um", "um")
    window.boxes.scale = window.clicks.scale = (0.5, 0.25)
    for box in (BOX, OTHER):
        draw_box(window.boxes, box)
        window.until(lambda: window.mask is not None)
        window.press("w")
        window.until(lambda: window.session.current is None)
    return window


def choose(window, *titles):
    """Switch columns on in the menu, as a hand does."""
    menu = window.dock.object_list.column_menu
    for title in titles:
        (action,) = [one for one in menu.actions() if one.text() == title]
        action.trigger()
        window.settle()


def values(window):
    labels, picture = np.asarray(window.labels.data), np.asarray(window.image.data)
    return measure_objects(labels, picture, pixel=Pixel(0.5, 0.25, "um"))


def test_chosen_columns_show_measures_in_the_layers_unit(two):
    choose(two, "Area (um²)", "Perimeter (um)", "Solidity", "Mean", "Y (um)")
    expected_rows = values(two)
    for line in two.table:
        row = expected_rows[int(line["Object"])]
        shown = {
            "Area (um²)": "area",
            "Perimeter (um)": "perimeter",
            "Solidity": "solidity",
            "Mean": "intensity_mean",
            "Y (um)": "centroid_y",
        }
        assert {key: line[key] for key in shown} == {
            key: f"{row[name]:.5g}" for key, name in shown.items()
        }
    choose(two, "Lengths in pixels")
    in_px = measure_objects(np.asarray(two.labels.data))
    assert two.table[0]["Perimeter (px)"] == f"{in_px[1]['perimeter']:.5g}"


def test_one_change_measures_one_object_again(two, monkeypatch):
    choose(two, "Perimeter (um)")
    measured = []
    from napari_pisam.docks.segment import measuring

    def counted(labels, *given, only, **named):
        measured.extend(only)
        return measure_objects(labels, *given, only=only, **named)

    monkeypatch.setattr(measuring, "measure_objects", counted)
    before = two.table
    two.labels.brush_size = 5
    two.labels.paint((10, 10), 0)
    two.settle()
    assert measured == [2]
    assert two.table[0] == before[0]
    row = values(two)[2]
    assert two.table[1]["Perimeter (um)"] == f"{row['perimeter']:.5g}"
    assert two.table[1]["Area (px)"] == f"{int(row['area_px']):,}"


def test_what_is_painted_outside_of_an_objects_mask_is_its_own_too(two):
    choose(two, "Area (um²)")
    two.labels.brush_size = 3
    two.labels.paint((100, 140), 2)
    two.settle()
    assert two.table[1]["Area (um²)"] == f"{values(two)[2]['area']:.5g}"


def test_measures_are_the_labels_features_and_others_columns_stay(two):
    two.labels.features = {"index": [2, 9], "theirs": ["kept", "kept too"]}
    choose(two, "Length (um)")
    table = two.labels.features.set_index("index")
    assert list(table.index) == [1, 2, 9]
    assert list(table["theirs"].dropna()) == ["kept", "kept too"]
    assert table.loc[1, "length_um"] == pytest.approx(values(two)[1]["length"])
    two.click_line(0)
    two.qtbot.keyClick(two.dock.object_list.table, Qt.Key.Key_Delete)
    two.settle()
    assert list(two.labels.features["index"]) == [2, 9]
    assert two.image.features.empty if hasattr(two.image, "features") else True


def test_lines_are_copied_as_spreadsheets_take_them(two):
    two.click_line(0)
    two.click_line(1, modifier=Qt.KeyboardModifier.ControlModifier)
    two.qtbot.keyClick(
        two.dock.object_list.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier
    )
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0] == "Object\tScore\tArea (px)\tStatus"
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2"]
    two.click_line(1)
    two.dock.object_list.copy()
    assert len(QApplication.clipboard().text().splitlines()) == 2


def test_the_table_is_saved_with_all_measures(two, tmp_path, monkeypatch):
    path = tmp_path / "cells.csv"
    monkeypatch.setattr(QFileDialog, "exec", lambda self: True)
    monkeypatch.setattr(QFileDialog, "selectedFiles", lambda self: [str(path)])
    two.qtbot.mouseClick(two.dock.object_list.save_button, Qt.MouseButton.LeftButton)
    two.until(path.exists)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["1", "2"]
    for row in rows:
        known = values(two)[int(row["label"])]
        assert float(row["area_um2"]) == pytest.approx(known["area"], rel=1e-6)
        assert float(row["intensity_max"]) == pytest.approx(known["intensity_max"], rel=1e-6)


def test_a_measured_column_sorts_and_canvas_and_line_follow_each_other(two):
    choose(two, "Area (um²)", "Width (um)")
    table = two.dock.object_list.table
    header = table.horizontalHeader()
    place = QPoint(header.sectionViewportPosition(4) + 5, 5)
    two.qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert [line["Object"] for line in two.table] == ["2", "1"]
    two.viewer.layers.selection.active = two.clicks
    two.dock.controller.pick(1)
    two.settle()
    assert two.dock.object_list.selected == [1]
    two.click_line(0)
    assert two.session.current.id == 2


def test_columns_of_stacks_alone_give_way_where_there_are_none(two):
    two.dock.object_list.columns_chosen.emit(("id", "volume", "slices"), False)
    two.settle()
    assert list(two.table[0]) == ["Object", "Score", "Area (px)", "Status"]
    two.dock.object_list.columns_chosen.emit(("id",), False)
    two.settle()
    assert list(two.table[0]) == ["Object"]


def test_a_preview_is_measured_too(two):
    choose(two, "Area (um²)")
    draw_box(two.boxes, (95.0, 5.0, 115.0, 20.0))
    two.until(lambda: two.mask is not None)
    area = expected(SHAPE, (95.0, 5.0, 115.0, 20.0)).sum() * 0.5 * 0.25
    assert two.table[2]["Area (um²)"] == f"{area:.5g}"


def test_every_picture_on_the_same_pixels_is_a_channel(two):
    two.viewer.add_image(np.full(SHAPE, 7.0), name="GFP", scale=(0.5, 0.25), units=("um", "um"))
    two.viewer.add_image(np.full((9, 9), 7.0), name="other")
    two.settle()
    choose(two, "Mean GFP", "Mean cells")
    assert {line["Mean GFP"] for line in two.table} == {"7"}
    titles = [one.text() for one in two.dock.object_list.column_menu.actions()]
    assert "Mean other" not in titles


def test_many_objects_are_measured_aside_and_only_once(two):
    """Five hundred of them: the window is not held up, and one more costs one."""
    labels = two.labels.data
    for number in range(3, 500):
        row, col = divmod(number, 32)
        labels[row * 5 : row * 5 + 4, col * 5 : col * 5 + 4] = number
    for number in range(3, 500):
        row, col = divmod(number, 32)
        two.session.start_from_label(number, np.ones((4, 4), bool), (row * 5, col * 5))
    choose(two, "Perimeter (um)")
    two.until(lambda: all(line["Perimeter (um)"] for line in two.table))
    assert len(two.table) == 499
