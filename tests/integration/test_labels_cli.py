"""``convert``, ``clean`` and ``measure`` as they are typed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import regionprops_table
from typer.testing import CliRunner

from napari_pisam.cli.app import app
from napari_pisam.images.ngff_labels import new_labels


@pytest.fixture
def labels(tmp_path):
    values = np.zeros((40, 50), np.uint16)
    values[3:12, 4:20] = 7
    values[6:8, 8:12] = 0
    values[20:30, 30:45] = 300
    tifffile.imwrite(tmp_path / "labels.tif", values)
    return values


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.parametrize("name", ["a.json", "a.geojson", "a.zip", "a.png", "a.ome.tif"])
def test_there_and_back(name, tmp_path, labels):
    there = run("convert", tmp_path / "labels.tif", "-o", tmp_path / name)
    assert there.exit_code == 0, there.output
    assert "2 object(s)" in there.output
    options = ["--image", tmp_path / "labels.tif"] if name in ("a.geojson", "a.zip") else []
    back = run("convert", tmp_path / name, "-o", tmp_path / "back.png", *options)
    assert back.exit_code == 0, back.output
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back.png")), labels)


def test_formats_that_do_not_say_the_size_ask_for_the_picture(tmp_path, labels):
    run("convert", tmp_path / "labels.tif", "-o", tmp_path / "a.txt")
    refused = run("convert", tmp_path / "a.txt", "-o", tmp_path / "b.png")
    assert refused.exit_code == 2
    assert "give the picture" in refused.output
    assert not (tmp_path / "b.png").exists()
    given = ("--image", tmp_path / "labels.tif")
    assert run("convert", tmp_path / "a.txt", "-o", tmp_path / "b.png", *given).exit_code == 0
    assert np.asarray(Image.open(tmp_path / "b.png"))[25, 35] == 2


def test_a_format_can_be_named(tmp_path, labels):
    done = run("convert", tmp_path / "labels.tif", "-o", tmp_path / "a.json", "--to", "geojson")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "a.json").read_text())["type"] == "FeatureCollection"


def test_the_size_of_a_pixel_reaches_the_file(tmp_path, labels):
    size = ("--pixel-size", "0.5,0.25", "--unit", "um")
    run("convert", tmp_path / "labels.tif", "-o", tmp_path / "a.ome.tif", *size)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert 'PhysicalSizeX="0.25"' in file.ome_metadata


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("convert", "none.tif", "-o", "a.json"), "no file"),
        (("convert", "labels.tif", "-o", "a.doc"), "endings"),
        (("convert", "labels.tif", "-o", "a.json", "--to", "dxf"), "no format 'dxf'"),
        (("convert", "labels.tif", "-o", "a.json", "--pixel-size", "1,2,3"), "HEIGHT,WIDTH"),
        (("convert", "labels.tif", "-o", "a.json", "--pixel-size", "0"), "positive"),
        (("measure", "labels.tif", "-o", "a.txt"), ".csv"),
        (("measure", "floats.tif", "-o", "a.csv"), "whole numbers"),
        (("measure", "labels.tif", "-o", "a.csv", "--image", "small.tif"), "expected 4 x 4"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments, words, tmp_path, labels, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("floats.tif", np.full((4, 4), 0.5, np.float32))
    tifffile.imwrite("small.tif", np.zeros((4, 4), np.uint8))
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert result.output.count("\n") == 1


def test_a_table_of_measures(tmp_path, labels):
    picture = np.random.default_rng(0).integers(0, 4000, (2, *labels.shape)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "picture.tif", picture, metadata={"axes": "CYX"}, imagej=True)
    given = ("--image", tmp_path / "picture.tif", "--pixel-size", "0.5")
    done = run("measure", tmp_path / "labels.tif", "-o", tmp_path / "a.csv", *given)
    assert done.exit_code == 0, done.output
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    properties = ("label", "area", "perimeter_crofton", "intensity_mean")
    table = regionprops_table(
        labels, np.moveaxis(picture, 0, -1), spacing=(0.5, 0.5), properties=properties
    )
    assert [int(row["label"]) for row in rows] == table["label"].tolist()
    for own, theirs in (
        ("area_um2", "area"),
        ("perimeter_um", "perimeter_crofton"),
        ("intensity_mean_2", "intensity_mean-1"),
    ):
        np.testing.assert_allclose([float(row[own]) for row in rows], table[theirs], rtol=1e-5)


def stack_of(labels):
    """Labels that go on through four slices, and change."""
    values = np.stack([labels, labels, np.where(labels == 7, 0, labels), labels])
    values[3, 30:35] = 300
    return values


@pytest.mark.parametrize("name", ["stack.tif", "stack.ome.zarr"])
def test_of_a_stack_volumes_are_measured(name, tmp_path, labels):
    values = stack_of(labels)
    picture = np.random.default_rng(0).integers(0, 4000, (4, 2, *labels.shape)).astype(np.uint16)
    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, picture, metadata={"axes": "ZCYX"}, imagej=True)
    if name.endswith(".zarr"):
        new_labels(tmp_path / name, values.shape, np.uint16, axes="zyx")[:] = values
    else:
        tifffile.imwrite(tmp_path / name, values, photometric="minisblack")
    given = ("--image", path, "--pixel-size", "2,0.5,0.25")
    done = run("measure", tmp_path / name, "-o", tmp_path / "a.csv", *given)
    assert done.exit_code == 0, done.output
    assert "2 object(s) through 4 slices" in done.output
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = regionprops_table(
        values,
        np.moveaxis(picture, 1, -1),
        spacing=(2, 0.5, 0.25),
        properties=("label", "area", "centroid", "intensity_mean"),
    )
    for own, theirs in (
        ("volume_um3", "area"),
        ("centroid_3d_z_um", "centroid-0"),
        ("centroid_3d_x_um", "centroid-2"),
        ("intensity_3d_mean_2", "intensity_mean-1"),
    ):
        np.testing.assert_allclose([float(row[own]) for row in rows], table[theirs], rtol=1e-5)
    assert [row["slices"] for row in rows] == ["3", "4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pixel-size", "0.5,0.25"), "DEPTH,HEIGHT,WIDTH"),
        (("--image", "labels.tif"), "expected 4 slices of 40 x 50 px"),
        (("--pixel-size", "1,2,3,4"), "[DEPTH,]HEIGHT,WIDTH"),
    ],
)
def test_what_a_stack_lacks_is_said(arguments, words, tmp_path, labels, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("stack.tif", stack_of(labels), photometric="minisblack")
    refused = run("measure", "stack.tif", "-o", "a.csv", *arguments)
    assert refused.exit_code == 2
    assert words in refused.output


def cleaned(folder, *options):
    done = run("clean", folder / "labels.tif", "-o", folder / "clean.tif", *options)
    assert done.exit_code == 0, done.output
    return tifffile.imread(folder / "clean.tif")


def test_clean_fills_holes_and_grows_without_taking_from_others(tmp_path, labels):
    found = cleaned(tmp_path, "--fill-holes", "--grow", "9")
    assert (found[3:12, 4:20] == 7).all()
    assert (found[labels == 300] == 300).all()
    assert (found == 300).sum() > (labels == 300).sum()
    only = cleaned(tmp_path, "--fill-holes", "--only", "300")
    assert np.array_equal(only, labels)


def test_clean_merges_and_splits(tmp_path, labels):
    merged = cleaned(tmp_path, "--merge", "300,7")
    assert np.array_equal(merged == 300, labels > 0)
    split = cleaned(tmp_path, "--split", "300:19,36,31,36")
    assert sorted(np.unique(split)) == [0, 7, 300, 301]
    assert np.array_equal(np.isin(split, (300, 301)), labels == 300)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nothing to do"),
        (("--merge", "7,8"), "no object 8"),
        (("--split", "7"), "--split is '7'"),
        (("--split", "300:21,31,22,32"), "does not cut object 300"),
        (("--smooth", "-1"), "to smooth by -1 px"),
    ],
)
def test_clean_refuses_what_it_cannot_do(tmp_path, labels, options, said):
    refused = run("clean", tmp_path / "labels.tif", "-o", tmp_path / "clean.tif", *options)
    assert refused.exit_code == 2
    assert said in refused.output
    assert not (tmp_path / "clean.tif").exists()


# -- segment --start --------------------------------------------------------------------------


@pytest.fixture
def coarse(tmp_path):
    """A picture of two bright discs, and crude masks of them: boxes, one of them half as wide."""
    rows, cols = np.mgrid[:160, :220]
    truth = np.zeros(rows.shape, np.uint16)
    truth[(rows - 60) ** 2 + (cols - 60) ** 2 <= 35**2] = 4
    truth[(rows - 90) ** 2 + (cols - 160) ** 2 <= 30**2] = 9
    noise = np.random.default_rng(0).normal(0, 8, rows.shape)
    picture = np.clip(40 + 150 * (truth > 0) + noise, 0, 255).astype(np.uint8)
    crude = np.zeros_like(truth)
    crude[25:96, 25:96] = 4
    crude[62:119, 132:189] = 9
    tifffile.imwrite(tmp_path / "image.tif", picture)
    tifffile.imwrite(tmp_path / "crude.tif", crude)
    return truth, crude


def iou(found, truth, number):
    found, truth = found == number, truth == number
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.weights
@pytest.mark.parametrize("name", ["crude.tif", "crude.geojson", "crude.json", "crude.zip"])
def test_crude_masks_of_every_format_are_refined(name, tmp_path, coarse):
    truth, crude = coarse
    image = tmp_path / "image.tif"
    if name != "crude.tif":
        run("convert", tmp_path / "crude.tif", "-o", tmp_path / name)
    done = run("segment", image, "--start", tmp_path / name, "--refine", "-o", tmp_path / "out.tif")
    assert done.exit_code == 0, done.output
    found = tifffile.imread(tmp_path / "out.tif")
    for number in (4, 9):
        assert iou(found, truth, number) > 0.93 > iou(crude, truth, number)


def test_starts_stay_as_they_are_without_refine(tmp_path, coarse):
    _, crude = coarse
    given = ("--start", tmp_path / "crude.tif", "-o", tmp_path / "out.tif")
    done = run("segment", tmp_path / "image.tif", *given)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), crude)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--refine", "--boxes", "b.csv"), "Give --start"),
        (("--start", "none.tif", "--refine"), "no file"),
        (("--start", "small.png"), "expected 160 x 220"),
        (("--start", "nan.tif"), "no whole numbers"),
        (("--start", "bad.geojson"), "not valid JSON"),
        (("--start", "empty.png"), "no prompts"),
    ],
)
def test_starts_that_cannot_be_are_said_in_a_line(arguments, words, tmp_path, coarse, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.geojson").write_text("{")
    (tmp_path / "b.csv").write_text("")
    Image.fromarray(np.ones((4, 4), np.uint8)).save("small.png")
    Image.fromarray(np.zeros((160, 220), np.uint8)).save("empty.png")
    tifffile.imwrite("nan.tif", np.full((160, 220), np.nan, np.float32))
    done = run("segment", "image.tif", *arguments, "-o", "out.tif")
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert not (tmp_path / "out.tif").exists()
