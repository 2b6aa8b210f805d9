"""napari's own menus measure, clean and export a Labels layer."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from magicgui.widgets import Dialog
from qtpy.QtWidgets import QFileDialog

from napari_pisam.images.label_formats import read_labels
from napari_pisam.measure.regions import measure_objects


@pytest.fixture
def labels(window):
    """A selected Labels layer that the dock has nothing to do with."""
    values = np.zeros((120, 160), np.uint16)
    values[10:40, 20:60] = 3
    values[20:24, 30:34] = 0
    values[60:90, 80:130] = 8
    layer = window.viewer.add_labels(values, name="theirs")
    window.viewer.layers.selection = {layer}
    return layer


def run(name):
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(name).result()


def titles(menu):
    from napari._app_model import get_app_model

    items = get_app_model().menus.get_menu(menu)
    return [getattr(one, "title", None) or one.command.title for one in items]


def test_the_menus_have_the_commands(window, labels):
    assert "Pi-SAM" in titles("napari/layers/context")
    ours = titles("napari-pisam/layer")
    assert ours[:3] == ["Measure objects", "Export labels…", "Clean…"]
    assert "Fill holes" in ours
    assert any("measure" in title.lower() for title in titles("napari/layers/measure"))
    assert any("segment" in title.lower() for title in titles("napari/layers/segment"))


@pytest.mark.parametrize("name", ["napari-pisam/layer.measure", "napari-pisam.measure"])
def test_measures_are_the_layers_features(name, window, labels):
    run(name)
    window.until(lambda: len(labels.features) == 2)
    table = labels.features.set_index("index")
    rows = measure_objects(labels.data, np.asarray(window.image.data))
    assert table.loc[8, "area_px"] == rows[8]["area_px"]
    assert table.loc[3, "intensity_mean"] == pytest.approx(rows[3]["intensity_mean"])
    assert window.labels.features.empty


def test_holes_are_filled_and_napari_takes_it_back(window, labels):
    before = labels.data.copy()
    run("napari-pisam/layer.fill")
    window.until(lambda: labels.data[21, 31] == 3)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


@pytest.mark.parametrize("name", ["napari-pisam/layer.clean", "napari-pisam.clean"])
def test_how_to_clean_is_asked(name, window, labels, monkeypatch):
    def answer(dialog):
        dialog[0].value, dialog[-1].value = True, 2.0
        return True

    monkeypatch.setattr(Dialog, "exec", answer)
    run(name)
    window.until(lambda: labels.data[9, 30] == 3)
    assert labels.data[21, 31] == 3
    assert (labels.data == 8).sum() > 30 * 50


def test_labels_are_exported(window, labels, tmp_path, monkeypatch):
    path = tmp_path / "a.geojson"
    monkeypatch.setattr(QFileDialog, "exec", lambda self: True)
    monkeypatch.setattr(QFileDialog, "selectedFiles", lambda self: [str(path)])
    run("napari-pisam/layer.export")
    np.testing.assert_array_equal(read_labels(path, (120, 160)).labels, labels.data)


def test_without_a_labels_layer_it_is_said(window):
    window.viewer.layers.selection = {window.image}
    with pytest.raises(ValueError, match="Select one"):
        run("napari-pisam/layer.measure")
