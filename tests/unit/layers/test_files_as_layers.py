"""napari opens sessions and other tools' labels, and writes Labels for them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel
from npe2 import PluginManifest

from fake_session import SHAPE, at_once
from napari_pisam.images.label_formats import FORMATS, LabelImage
from napari_pisam.images.label_formats.table import write_rows
from napari_pisam.images.ngff_labels import new_labels
from napari_pisam.layers.label_files import get_reader, write_labels
from napari_pisam.layers.prompts import prompts_from_layers
from napari_pisam.measure.regions import measure_objects
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.session import Session
from napari_pisam.session.storage import ImageView, SavedPlane, SessionFile, save_planes

LABELS = np.zeros((40, 50), np.uint16)
LABELS[3:12, 4:20] = 7
LABELS[20:30, 30:50] = 300
LABELS[39, 49] = 300
IMAGE = LabelImage(LABELS, {7: "nucleus"})


@pytest.mark.parametrize("name", ["geojson", "coco", "imagej", "ome-zarr"])
def test_labels_of_other_tools_open_as_labels_with_their_classes(name, tmp_path):
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    entry.write(path, IMAGE)
    ((data, meta, kind),) = get_reader(str(path))(str(path))
    layer = ViewerModel().add_labels(data, **meta)
    np.testing.assert_array_equal(layer.data, LABELS)
    assert kind == "labels"
    assert list(layer.features["class"]) == ["nucleus", ""]


def test_a_table_of_measures_opens_as_boxes_that_are_prompts(tmp_path):
    path = tmp_path / "cells.csv"
    rows = measure_objects(LABELS)
    write_rows(path, {number: {"class": "nucleus"} | row for number, row in rows.items()})
    ((data, meta, kind),) = get_reader(str(path))(str(path))
    layer = ViewerModel().add_shapes(data, **meta)
    assert kind == "shapes"
    prompts = prompts_from_layers(np.zeros(LABELS.shape, np.uint8), layer).prompts
    assert {n: one.box for n, one in prompts.items()} == {
        7: (2.5, 3.5, 11.5, 19.5),
        300: (19.5, 29.5, 39.5, 49.5),
    }


def test_a_stack_of_labels_in_zarr_is_left_to_readers_of_images(tmp_path):
    new_labels(tmp_path / "a.zarr", (2, 30, 40), np.uint16, axes="zyx")
    assert get_reader(str(tmp_path / "a.zarr")) is None


def test_a_session_opens_as_labels_boxes_and_clicks(tmp_path):
    session = Session(at_once)
    session.set_image(SHAPE, "", lambda predictor: None)
    session.set_labels(np.zeros(SHAPE, np.uint16))
    mask = MaskPrompt(np.ones((3, 4), bool), (5, 6))
    session.adopt([(4, Prompts(mask=mask), "nucleus")], commit=True)
    session.live = False
    session.new_object(Prompts((1.0, 2.0, 9.0, 8.0), [(3, 4), (5, 6)], [True, False]))
    session.touch_labels((0, 0, *SHAPE))
    transforms = {"scale": [0.5, 0.25], "units": ["um", "um"]}
    saved = SavedPlane(session.to_state(), ImageView("cells"))
    save_planes(tmp_path / "a.pisam", SessionFile((saved,), transforms=transforms))
    viewer = ViewerModel()
    path = str(tmp_path / "a.pisam")
    for data, meta, kind in get_reader(path)(path):
        getattr(viewer, f"add_{kind}")(data, **meta)
    labels, boxes, clicks = viewer.layers
    assert [layer.name for layer in viewer.layers] == [
        "cells labels",
        "cells boxes",
        "cells clicks",
    ]
    np.testing.assert_array_equal(labels.data[5:8, 6:10], 4)
    assert (labels.data == 4).sum() == 12
    assert list(labels.scale) == [0.5, 0.25]
    assert list(clicks.features["label"]) == ["FG", "BG"]
    assert len(boxes.data) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"name": "other"}'),
        ("b.zip", None),
        ("c.tif", b""),
        ("d.zip", b"no zip"),
        ("e.csv", b"index,shape-type"),
    ],
)
def test_files_of_others_are_left_to_others(name, content, tmp_path):
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
    else:
        path.write_bytes(content)
    assert get_reader(str(path)) is None
    assert get_reader([str(path)]) is None
    assert get_reader(str(tmp_path / "none.json")) is None


def test_damaged_files_say_what_is_wrong(tmp_path):
    for name in ("a.geojson", "b.pisam"):
        (tmp_path / name).write_bytes(b"{")
        with pytest.raises(ValueError, match=name):
            get_reader(str(tmp_path / name))(None)


def test_labels_are_written_with_classes_and_what_does_not_fit_is_said(tmp_path):
    layer = ViewerModel().add_labels(LABELS, name="cells")
    layer.features = {"index": [7, 300], "class": ["nucleus", ""]}
    path = str(tmp_path / "a.geojson")
    data, meta, _ = layer.as_layer_data_tuple()
    assert write_labels(path, data, meta) == [path]
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    properties = features[0]["properties"]
    assert properties["classification"] == {"name": "nucleus"}
    assert properties["measurements"]["area_px"] == (LABELS == 7).sum()
    with pytest.raises(ValueError, match="plane by plane"):
        write_labels(path, np.zeros((2, 3, 4), int), {})
    with pytest.raises(ValueError, match="endings"):
        write_labels(str(tmp_path / "a.doc"), LABELS, {})


def test_what_the_manifest_offers_is_there_and_npe2_finds_nothing_wrong(root):
    path = root / "src" / "napari_pisam" / "napari.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "--imports", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = PluginManifest.from_file(path)
    extensions = {one for w in manifest.contributions.writers for one in w.filename_extensions}
    assert {".geojson", ".json", ".zip", ".zarr", ".png"} <= extensions
    assert {"napari/layers/measure", "napari/layers/segment"} <= set(manifest.contributions.menus)


def test_to_look_at_a_file_imports_no_torch_and_no_qt(tmp_path):
    FORMATS["geojson"].write(tmp_path / "a.geojson", IMAGE)
    code = (
        "import sys\n"
        "from napari_pisam.layers.label_files import get_reader\n"
        f"get_reader({str(tmp_path / 'a.geojson')!r})(None)\n"
        "assert not {'torch', 'qtpy', 'PyQt6'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
