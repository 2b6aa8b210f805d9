"""Labels in the formats of other tools: the tools' own libraries read them, and they come back."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage

from napari_pisam.images.label_formats import FORMATS, LabelImage, format_for, read_labels
from napari_pisam.images.label_formats.outlines import bridged, filled, outlines

READABLE = [name for name, entry in FORMATS.items() if entry.read is not None]
NUMBERED = [name for name in READABLE if "numbers" not in FORMATS[name].loses]

masks = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def cells(shape=(60, 80), count=12, seed=0) -> np.ndarray:
    """Blobs with holes, parts that touch at a corner, parts apart, and numbers with gaps."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, int)
    for number in range(1, count + 1):
        seeds[tuple(rng.integers(0, shape))] = number * 7
    nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)[1]
    labels = seeds[tuple(nearest)] * (ndimage.gaussian_filter(rng.random(shape), 1.5) > 0.49)
    labels[:3, :3] = np.eye(3) * 200
    return labels.astype(np.uint16)


def cell_image() -> LabelImage:
    labels = cells()
    numbers = [int(n) for n in np.unique(labels)[1:]]
    classes = {n: "nucleus" if n % 2 else "cell wall" for n in numbers if n != 200}
    return LabelImage(labels, classes, "cells.tif", (0.5, 0.25), "um")


def paste(parts, shape):
    (row, col), crop = filled(parts, shape)
    mask = np.zeros(shape, bool)
    mask[row : row + crop.shape[0], col : col + crop.shape[1]] = crop
    return mask


@settings(max_examples=150, deadline=None)
@given(masks)
def test_outlines_enclose_the_same_pixels(mask):
    parts = outlines(mask)
    np.testing.assert_array_equal(paste(parts, mask.shape), mask)
    assert len(parts) == ndimage.label(mask)[1]
    rings = [ring for part in parts for ring in part]
    if rings:  # bridges between them enclose nothing
        np.testing.assert_array_equal(paste([[bridged(rings)]], mask.shape), mask)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_outlines_are_those_of_shapely(mask):
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    pixels = [shapely.box(c - 0.5, r - 0.5, c + 0.5, r + 0.5) for r, c in np.argwhere(mask)]
    expected = shapely.unary_union(pixels)
    polygons = [
        shapely.Polygon(part[0][:, ::-1], [hole[:, ::-1] for hole in part[1:]])
        for part in outlines(mask)
    ]
    assert all(polygon.is_valid for polygon in polygons)
    assert sum(polygon.area for polygon in polygons) == mask.sum()
    assert shapely.unary_union(polygons).symmetric_difference(expected).area == 0


@pytest.mark.parametrize("name", READABLE)
def test_pixels_come_back(name, tmp_path):
    image = cell_image()
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    entry.write(path, image)
    again = entry.read(path, image.labels.shape)
    if name in NUMBERED:
        np.testing.assert_array_equal(again.labels, image.labels)
    else:
        order = {number: place for place, (number, _, _) in enumerate(image.objects(), 1)}
        expected = np.vectorize(lambda number: order.get(number, 0))(image.labels)
        np.testing.assert_array_equal(again.labels, expected)
    if name in NUMBERED and "classes" not in entry.loses:
        assert {n: again.classes.get(n, "object") for n in image.classes} == image.classes


@pytest.mark.parametrize("name", ["tiff", "ome-tiff"])
def test_the_size_of_a_pixel_comes_back(name, tmp_path):
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    entry.write(path, cell_image())
    again = entry.read(path, None)
    # TIFF's tags have it in centimetres.
    unit = {"um": 1, "\N{MICRO SIGN}m": 1, "centimeter": 1e4}[again.unit]
    np.testing.assert_allclose(np.array(again.pixel_size) * unit, (0.5, 0.25), rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in READABLE if n not in ("tiff", "ome-tiff", "png")])
def test_polygons_that_cut_corners_lose_little(name, tmp_path):
    """Another tool's outlines through pixels' centres, a pixel apart: IoU of 0.98 and more."""
    rows, cols = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (cols - 90) ** 2 <= 70**2
    labels = disc.astype(np.uint8)
    entry = FORMATS[name]
    entry.write(tmp_path / f"a{entry.suffixes[0]}", LabelImage(labels))
    again = entry.read(tmp_path / f"a{entry.suffixes[0]}", labels.shape).labels == 1
    assert (again & disc).sum() / (again | disc).sum() == 1
    angles = np.linspace(0, 2 * np.pi, 440, endpoint=False)
    ring = np.stack([100 + 70 * np.sin(angles), 90 + 70 * np.cos(angles)], axis=1)
    (row, col), crop = filled([[ring]], labels.shape)
    drawn = np.zeros(labels.shape, bool)
    drawn[row : row + crop.shape[0], col : col + crop.shape[1]] = crop
    assert (drawn & disc).sum() / (drawn | disc).sum() >= 0.98


def test_masks_without_numbers_are_split_into_their_parts(tmp_path):
    mask = np.zeros((20, 30), bool)
    mask[2:6, 3:9] = mask[10:15, 12:20] = True
    Image.fromarray(mask).save(tmp_path / "bits.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "white.png")
    tifffile.imwrite(tmp_path / "ones.tif", mask.astype(np.float32))
    for name in ("bits.png", "white.png"):
        labels = read_labels(tmp_path / name).labels
        assert sorted(np.unique(labels)) == [0, 1, 2]
        np.testing.assert_array_equal(labels > 0, mask)
    np.testing.assert_array_equal(read_labels(tmp_path / "ones.tif").labels, mask)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 4), np.nan, np.float32), "no whole numbers"),
        (np.full((4, 4), 1e12), "from 0 to 4294967295"),
        (np.full((4, 4), -3, np.int16), "from 0 to 4294967295"),
        (np.zeros((3, 40, 40), np.uint8), "planes of a stack"),
        (np.zeros((7, 4), np.uint8), "expected 4 x 4"),
    ],
)
def test_pictures_that_are_no_labels_are_refused(values, words, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    with pytest.raises(ValueError, match=words):
        read_labels(tmp_path / "a.tif", (4, 4))


def test_the_table_has_classes_and_measures(tmp_path):
    image = replace(cell_image(), measures={7: {"area_um2": 3.5}})
    FORMATS["csv"].write(tmp_path / "a.csv", image)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert rows[0] == {"label": "7", "class": "nucleus", "area_um2": "3.5"}
    assert rows[-1] == {"label": "200", "class": "", "area_um2": ""}


def test_geojson_has_measurements_and_colours_as_qupath_reads_them(tmp_path):
    image = replace(cell_image(), measures={7: {"area_um2": 3.5}}, colors={"nucleus": (255, 0, 9)})
    FORMATS["geojson"].write(tmp_path / "a.geojson", image)
    first = json.loads((tmp_path / "a.geojson").read_text())["features"][0]["properties"]
    assert first["measurements"] == {"area_um2": 3.5}
    assert first["classification"] == {"name": "nucleus", "color": [255, 0, 9]}
    assert FORMATS["geojson"].read(tmp_path / "a.geojson", (60, 80)).colors == {
        "nucleus": (255, 0, 9)
    }


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("seed", range(3))
def test_random_labels_come_back(name, seed, tmp_path):
    labels = np.random.default_rng(seed).integers(0, 4, (11, 17)).astype(np.uint8)
    entry = FORMATS[name]
    path = tmp_path / f"cells{entry.suffixes[0]}"
    entry.write(path, LabelImage(labels))
    np.testing.assert_array_equal(entry.read(path, labels.shape).labels, labels)


def test_an_empty_image_is_written_and_read(tmp_path):
    for name in ("coco", "yolo", "shapes"):
        entry = FORMATS[name]
        path = tmp_path / f"none{entry.suffixes[0]}"
        entry.write(path, LabelImage(np.zeros((5, 6), np.uint16)))
        assert not entry.read(path, (5, 6)).labels.any()


# pycocotools makes arrays in a way that is older than numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_sees_the_same_masks(tmp_path, capsys):
    coco_api = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    image = cell_image()
    FORMATS["coco"].write(tmp_path / "cells.json", image)
    read = coco_api.COCO(str(tmp_path / "cells.json"))
    assert {one["id"] for one in read.anns.values()} == {n for n, _, _ in image.objects()}
    for label, one in read.anns.items():
        truth = image.labels == label
        mask = read.annToMask(one) > 0
        assert (mask & truth).sum() / (mask | truth).sum() >= 0.98
        if isinstance(one["segmentation"], dict):
            np.testing.assert_array_equal(mask, truth)
        assert one["area"] == truth.sum()
        rows, cols = np.nonzero(truth)
        extent = [np.ptp(cols) + 1, np.ptp(rows) + 1]
        assert one["bbox"] == [cols.min(), rows.min(), *extent]
        assert read.cats[one["category_id"]]["name"] == image.class_of(label)


def test_compressed_run_lengths_of_other_tools_are_read(tmp_path):
    coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    labels = cells()
    runs = []
    for number in np.unique(labels)[1:]:
        run = coco_mask.encode(np.asfortranarray(labels == number, dtype=np.uint8))
        run["counts"] = run["counts"].decode()
        runs.append({"id": int(number), "segmentation": run, "category_id": 1})
    picture = {"id": 1, "file_name": "x", "height": 60, "width": 80}
    content = {"images": [picture], "annotations": runs, "categories": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(FORMATS["coco"].read(tmp_path / "a.json", None).labels, labels)


def test_geojson_is_valid_and_of_the_same_areas(tmp_path):
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    image = cell_image()
    FORMATS["geojson"].write(tmp_path / "cells.geojson", image)
    content = json.loads((tmp_path / "cells.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    for feature in content["features"]:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        label = int(feature["properties"]["name"])
        assert geometry.is_valid
        assert geometry.area == (image.labels == label).sum()
        # The whole picture spans 0 to its width and height, as in QuPath.
        assert geometry.bounds[0] == np.nonzero(image.labels == label)[1].min()
        found = feature["properties"].get("classification", {"name": "object"})
        assert found["name"] == image.class_of(label)
        assert feature["properties"]["objectType"] == "annotation"


def test_roifile_reads_every_roi(tmp_path):
    import roifile

    image = cell_image()
    FORMATS["imagej"].write(tmp_path / "cells.zip", image)
    rois = roifile.roiread(tmp_path / "cells.zip")
    assert [int(roi.name.split()[0]) for roi in rois] == [n for n, _, _ in image.objects()]
    for roi in rois:
        corners = roi.coordinates()[:, ::-1] - 0.5
        label = int(roi.name.split()[0])
        np.testing.assert_array_equal(paste([[corners]], image.labels.shape), image.labels == label)


def test_a_rectangle_and_a_polygon_of_imagej_are_read(tmp_path):
    import roifile

    box = roifile.ImagejRoi()
    box.roitype, box.name = roifile.ROI_TYPE.RECT, "box"
    box.left, box.top, box.right, box.bottom = 3, 2, 8, 6
    triangle = roifile.ImagejRoi.frompoints([[10, 10], [20, 10], [10, 20]], name="t")
    roifile.roiwrite(tmp_path / "a.zip", [box, triangle])
    labels = FORMATS["imagej"].read(tmp_path / "a.zip", (30, 30)).labels
    assert (labels == 1).sum() == 20
    assert labels[2:6, 3:8].all()
    assert 45 <= (labels == 2).sum() <= 55


def test_yolo_says_shares_of_the_picture_and_lists_classes(tmp_path):
    labels = np.zeros((20, 40), np.uint8)
    labels[5:10, 20:40] = 3
    FORMATS["yolo"].write(tmp_path / "a.txt", LabelImage(labels, {3: "leaf"}))
    kind, *numbers = (tmp_path / "a.txt").read_text().split()
    assert kind == "0"
    assert {float(n) for n in numbers} == {0.25, 0.5, 1.0}
    FORMATS["yolo"].write(tmp_path / "b.txt", LabelImage(labels, {3: "stem"}))
    assert (tmp_path / "b.txt").read_text().startswith("1 ")
    assert (tmp_path / "classes.txt").read_text() == "leaf\nstem\n"


def test_ome_tiff_carries_the_size_of_a_pixel(tmp_path):
    image = cell_image()
    FORMATS["ome-tiff"].write(tmp_path / "cells.ome.tif", image)
    with tifffile.TiffFile(tmp_path / "cells.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray(), image.labels)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == (0.5, 0.25)
    assert pixels["PhysicalSizeXUnit"] == "\N{MICRO SIGN}m"


def test_png_holds_sixteen_bits_and_refuses_more(tmp_path):
    image = cell_image()
    FORMATS["png"].write(tmp_path / "cells.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cells.png")), image.labels)
    with pytest.raises(ValueError, match="65,535"):
        FORMATS["png"].write(tmp_path / "x.png", LabelImage(np.full((2, 2), 70_000, np.uint32)))
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("coco", "{"),
        ("coco", "[]"),
        ("coco", "[" * 100_000),
        ("coco", '{"images": []}'),
        ("coco", '{"images": [{"height": 4, "width": 4}], "annotations": [{"segmentation": 3}]}'),
        (
            "coco",
            '{"images": [{"height": 4, "width": 4}], "annotations": '
            '[{"segmentation": {"size": [4, 4], "counts": [1, 99]}}]}',
        ),
        ("geojson", '{"type": "FeatureCollection", "features": [{"geometry": null}]}'),
        ("geojson", '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}'),
        (
            "geojson",
            '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": '
            "[[[0, 0], [1e9, 0], [1e9, 1e9]]]}}",
        ),
        ("imagej", "no zip"),
        ("yolo", "0 0.1 0.2 0.3"),
        ("yolo", "0 0.1 nan 0.3 0.1 0.5 0.5"),
        ("shapes", "a,b\n1,2\n"),
        ("shapes", "index,shape-type,vertex-index,axis-0,axis-1\n0,ellipse,0,1,1\n"),
    ],
)
def test_a_file_that_is_something_else_is_refused_by_name(name, content, tmp_path):
    entry = FORMATS[name]
    path = tmp_path / f"odd{entry.suffixes[0]}"
    path.write_text(content)
    shape = None if name in ("coco", "geojson", "imagej") else (8, 8)
    with pytest.raises(ValueError, match="odd"):
        entry.read(path, shape)


def test_a_damaged_roi_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("a.roi", b"Iout" + bytes(30))
    with pytest.raises(ValueError, match="odd"):
        FORMATS["imagej"].read(tmp_path / "odd.zip", None)


def test_formats_are_found_by_name_and_by_ending():
    assert format_for(Path("a.OME.TIF")).name == "ome-tiff"
    assert format_for(Path("a.json")).name == "coco"
    assert format_for(Path("a.json"), "geojson").name == "geojson"
    with pytest.raises(ValueError, match="endings"):
        format_for(Path("a.doc"))
    with pytest.raises(ValueError, match="no format 'dxf'"):
        format_for(Path("a"), "dxf")


def test_a_stack_is_refused():
    with pytest.raises(ValueError, match="plane by plane"):
        LabelImage(np.zeros((2, 3, 4), np.uint8))
