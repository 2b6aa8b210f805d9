"""The command line from arguments to files, with the micro model in place of `tiny`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from micro import micro_model
from napari_pisam.cli.app import app
from napari_pisam.cli.segment import predict_objects
from napari_pisam.images import image_files as images
from napari_pisam.images import label_files
from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.propagation import EndOfObject, propagate
from napari_pisam.weights import loading as weights
from napari_pisam.weights.download import DownloadError
from napari_pisam.weights.models import list_models

BOXES = """index,shape-type,vertex-index,axis-0,axis-1
0,rectangle,0,4,6
0,rectangle,1,30,34
1,rectangle,0,10,40
1,rectangle,1,44,62
"""
POINTS = "index,axis-0,axis-1,label\n0,17,20,FG\n1,25,30,BG\n"
EMBEDDED = next(row for row in list_models() if row.name == "tiny").is_here


@pytest.fixture
def micro(monkeypatch):
    """Every model is the micro model; gives the names that were asked for."""
    names = []

    def load(name, *, progress=None, cancel=None):
        names.append(name)
        return weights.LoadedModel(micro_model(), "ab" * 32, "MIT", "embedded")

    monkeypatch.setattr(weights, "load_model", load)
    return names


@pytest.fixture
def work(tmp_path):
    """A folder with an image and its prompts, which is where the command runs."""
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "image.tif", rng.integers(0, 60000, (48, 64), dtype=np.uint16))
    (tmp_path / "boxes.csv").write_text(BOXES)
    (tmp_path / "points.csv").write_text(POINTS)
    return tmp_path


@pytest.fixture
def run(work, monkeypatch):
    monkeypatch.chdir(work)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def expected_labels(image, prompts, **options):
    """The labels by the predictor itself; what is written first stays."""
    predictor = Predictor(micro_model(), "cpu")
    predictor.set_image(image, **options)
    labels = np.zeros(predictor.shape, dtype=np.uint16)
    for label, prompt in reversed(list(enumerate(prompts, 1))):
        predictor.predict(*prompt).paste_into(labels, label)
    return labels


TWO = [((4, 6, 30, 34),), ((10, 40, 44, 62),)]
CLICKED = [((4, 6, 30, 34), [(17, 20), (25, 30)], [True, False]), TWO[1]]


# -- segment ----------------------------------------------------------------------------------


def test_segment_writes_what_the_predictor_gives(run, work, micro):
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    labels = tifffile.imread("labels.tif")
    assert labels.dtype == np.uint16
    assert len(np.unique(labels)) > 1
    # Boxes are decoded together there and one by one here.
    expected = expected_labels(tifffile.imread("image.tif"), TWO)
    assert (labels != expected).mean() < 1e-3
    assert micro == ["tiny"]


def test_segment_cleans_what_it_writes_and_says_so(run, work, micro):
    options = ("segment", "image.tif", "--boxes", "boxes.csv", "-o")
    assert run(*options, "plain.tif").exit_code == 0
    assert run(*options, "grown.tif", "--grow", "3").exit_code == 0
    plain, grown = (tifffile.imread(work / name) for name in ("plain.tif", "grown.tif"))
    assert (grown > 0).sum() > (plain > 0).sum()
    with tifffile.TiffFile(work / "grown.tif") as file:
        assert '"grow": 3' in file.pages[0].description


def test_segment_gives_clicks_to_the_box_they_lie_in(run, micro):
    arguments = ("--boxes", "boxes.csv", "--points", "points.csv", "-o", "labels.tif")
    assert run("segment", "image.tif", *arguments).exit_code == 0
    expected = expected_labels(tifffile.imread("image.tif"), CLICKED)
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


def test_segment_by_points_alone_gives_one_object(run, micro):
    result = run("segment", "image.tif", "--points", "points.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    assert set(np.unique(tifffile.imread("labels.tif"))) <= {0, 1}


def test_segment_says_how_the_labels_were_made(run, micro):
    import napari_pisam

    run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    with tifffile.TiffFile("labels.tif") as file:
        page = file.pages.first
        described = json.loads(page.description)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.is_tiled
    assert described["version"] == napari_pisam.__version__
    assert described["model"] == "micro"
    assert described["model_sha256"] == "ab" * 32
    assert len(described["prompts_sha256"]) == 64
    assert described["image"] == "image.tif"
    assert described["objects"] == 2


def test_prompts_hash_changes_with_the_prompts(run, work, micro):
    hashes = set()
    for more in ((), ("--points", "points.csv")):
        run("segment", "image.tif", "--boxes", "boxes.csv", *more, "-o", "labels.tif")
        with tifffile.TiffFile("labels.tif") as file:
            hashes.add(json.loads(file.pages.first.description)["prompts_sha256"])
    assert len(hashes) == 2


def test_segment_leaves_stdout_empty(run, micro):
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.stdout == ""
    assert "2 object(s)" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_segment_reads(run, work, micro, suffix, mode):
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).convert(mode)
    picture.save(work / f"picture{suffix}")
    result = run("segment", f"picture{suffix}", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    expected = expected_labels(np.asarray(Image.open(work / f"picture{suffix}")), TWO)
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("name", "tags", "size", "unit", "per_centimetre"),
    [
        (
            "cells.ome.tif",
            {"metadata": {"PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25}},
            [0.5, 0.25],
            "\N{MICRO SIGN}m",
            (40_000, 20_000),
        ),
        (
            "cells.tif",
            {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "\\u00B5m"}},
            [0.5, 0.25],
            "\N{MICRO SIGN}m",
            (40_000, 20_000),
        ),
        (
            "cells.tif",
            {"resolution": (40, 20), "resolutionunit": "CENTIMETER"},
            [0.05, 0.025],
            "centimeter",
            (40, 20),
        ),
        ("cells.tif", {"resolution": (508, 254), "resolutionunit": 2}, None, "inch", (200, 100)),
    ],
    ids=["ome", "imagej", "centimetres", "inches"],
)
def test_segment_writes_the_size_of_a_pixel_that_the_image_has(
    run, work, micro, name, tags, size, unit, per_centimetre
):
    tifffile.imwrite(work / name, np.zeros((48, 64), np.uint8), **tags)
    run("segment", name, "--boxes", "boxes.csv", "-o", "labels.tif")
    with tifffile.TiffFile(work / "labels.tif") as file:
        description = json.loads(file.pages.first.description)
        assert file.pages.first.get_resolution("CENTIMETER") == pytest.approx(per_centimetre)
    assert description["units"] == [unit, unit]
    assert size is None or description["scale"] == pytest.approx(size)


@pytest.mark.parametrize("given", ["nonsense", "0", "-1", "1e-300", "inf"])
def test_segment_works_on_an_image_whose_size_of_a_pixel_cannot_be(run, work, micro, given):
    tifffile.imwrite(
        work / "cells.ome.tif",
        np.zeros((48, 64), np.uint8),
        metadata={"PhysicalSizeY": 123.25, "PhysicalSizeX": 123.25},
    )
    content = (work / "cells.ome.tif").read_bytes()
    (work / "cells.ome.tif").write_bytes(content.replace(b'"123.25"', f'"{given}"'.encode()))
    result = run("segment", "cells.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(work / "labels.tif") as file:
        assert json.loads(file.pages.first.description)["scale"] == [1, 1]


def test_segment_takes_channels_of_an_ome_tiff_for_colours(run, work, micro):
    rng = np.random.default_rng(2)
    channels = rng.integers(0, 4000, (2, 48, 64), dtype=np.uint16)
    tifffile.imwrite(work / "cells.ome.tif", channels, metadata={"axes": "CYX"})
    result = run("segment", "cells.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    expected = expected_labels(channels, TWO, channel_axis=0)
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


def test_segment_reads_the_plane_that_is_asked_for(run, work, micro):
    rng = np.random.default_rng(3)
    stack = rng.integers(0, 255, (2, 3, 48, 64), dtype=np.uint8)
    tifffile.imwrite(work / "stack.ome.tif", stack, metadata={"axes": "TZYX"})
    arguments = ("--plane", "1,2", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert run("segment", "stack.ome.tif", *arguments).exit_code == 0
    expected = expected_labels(stack[1, 2], TWO)
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


def test_segment_uses_the_prompts_of_the_plane_only(run, work, micro):
    stack = np.random.default_rng(3).integers(0, 255, (5, 48, 64), dtype=np.uint8)
    tifffile.imwrite(work / "stack.tif", stack, metadata={"axes": "ZYX"})
    (work / "boxes.csv").write_text(
        "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n"
        "0,rectangle,0,0,4,6\n0,rectangle,1,0,30,34\n"
        "1,rectangle,0,2,10,40\n1,rectangle,1,2,44,62\n"
    )
    arguments = ("--plane", "2", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert run("segment", "stack.tif", *arguments).exit_code == 0
    assert set(np.unique(tifffile.imread("labels.tif"))) == {0, 2}


def plane_boxes(*planes):
    """A Shapes file with one box for each plane, all at another place."""
    axes = ",".join(f"axis-{n}" for n in range(len(planes[0]) + 2))
    rows = [f"index,shape-type,vertex-index,{axes}"]
    for number, plane in enumerate(planes):
        index = "".join(f"{place}," for place in plane)
        corners = (f"{4 + 3 * number},6", f"{30 + 3 * number},34")
        rows += [f"{number},rectangle,{v},{index}{corner}" for v, corner in enumerate(corners)]
    return "\n".join(rows) + "\n"


def plane_box(number):
    return ((4 + 3 * number, 6, 30 + 3 * number, 34),)


def test_every_plane_that_has_prompts_is_done(run, work, micro):
    stack = np.random.default_rng(3).integers(0, 255, (2, 3, 48, 64), dtype=np.uint8)
    tifffile.imwrite(work / "stack.ome.tif", stack, metadata={"axes": "TZYX"})
    (work / "boxes.csv").write_text(plane_boxes((0, 1), (1, 2)))
    result = run("segment", "stack.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    assert "2 object(s) in 2 planes" in result.stderr
    labels = tifffile.imread("labels.tif")
    assert labels.shape == stack.shape
    for number, plane in enumerate([(0, 1), (1, 2)]):
        expected = expected_labels(stack[plane], [plane_box(number)]) * (number + 1)
        assert (labels[plane] != expected).mean() < 1e-3
        labels[plane] = 0
    assert not labels.any()


def test_an_object_in_tiles_moves_the_bar_with_every_tile():
    predictor = Predictor(micro_model(), "cpu")
    source = ImageSource(np.random.default_rng(0).integers(0, 255, (120, 220), dtype=np.uint8))
    predictor.set_image(source)
    prompts = {1: Prompts((10, 20, 40, 60)), 2: Prompts((4, 6, 100, 90))}
    shares = []
    masks = predict_objects(predictor, source, prompts, shares.append)
    assert list(masks) == [1, 2]
    assert shares.count(1) == 1
    assert len(shares) > 3
    assert sum(shares) == pytest.approx(2)


@pytest.mark.parametrize(
    ("options", "box_plane", "slices"),
    [
        (("--plane", "2"), (), range(5)),
        ((), (2,), range(5)),
        (("--slices", "1,3", "--along", "Z"), (2,), range(1, 4)),
    ],
)
def test_objects_are_carried_through_a_stack(run, work, micro, options, box_plane, slices):
    stack = np.random.default_rng(3).integers(0, 255, (5, 48, 64), dtype=np.uint8)
    tifffile.imwrite(work / "stack.tif", stack, metadata={"axes": "ZYX"})
    (work / "boxes.csv").write_text(plane_boxes(box_plane))
    arguments = ("--boxes", "boxes.csv", "--propagate", "--end", "0,0,-1", "-o", "labels.tif")
    result = run("segment", "stack.tif", *arguments, *options)
    assert result.exit_code == 0, result.stderr
    predictor = Predictor(micro_model(), "cpu")
    source = ImageSource(stack, plane=2)
    predictor.set_image(source)
    anchor = predictor.predict_many([plane_box(0)[0]])[0].without_logits()
    expected = np.zeros_like(stack)
    end = EndOfObject(0, 0, -1)
    for index, mask in propagate(
        predictor, source, {2: anchor}, first=slices[0], last=slices[-1], end=end
    ).items():
        mask.paste_into(expected[index], 1)
    labels = tifffile.imread("labels.tif")
    assert {index for index in range(5) if labels[index].any()} == set(slices)
    np.testing.assert_array_equal(labels, expected)
    with tifffile.TiffFile("labels.tif") as file:
        assert '"propagation"' in file.pages[0].description


def test_prompts_in_planes_other_than_the_one_asked_for_are_named(run, work, micro):
    stack = np.random.default_rng(3).integers(0, 255, (5, 48, 64), dtype=np.uint8)
    tifffile.imwrite(work / "stack.tif", stack, metadata={"axes": "ZYX"})
    (work / "boxes.csv").write_text(plane_boxes((0,), (2,), (4,)))
    arguments = ("--plane", "2", "--boxes", "boxes.csv", "-o", "labels.tif")
    result = run("segment", "stack.tif", *arguments)
    assert result.exit_code == 0, result.stderr
    assert "boxes.csv has prompts in other planes, too (0, 4); they are left out" in result.stderr


def test_boxes_say_in_which_channel_they_were_drawn(run, work, micro):
    channels = np.random.default_rng(2).integers(0, 4000, (5, 48, 64), dtype=np.uint16)
    tifffile.imwrite(work / "cells.ome.tif", channels, metadata={"axes": "CYX"})
    (work / "boxes.csv").write_text(plane_boxes((3,), (1,)))
    result = run("segment", "cells.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    assert "first 3 are used" not in result.stderr
    labels = tifffile.imread("labels.tif")
    assert labels.shape == (48, 64)
    # The planes are segmented one by one, from the first; what is written first stays.
    expected = expected_labels(channels[1], [plane_box(1)]) * 2
    first = expected_labels(channels[3], [plane_box(0)])
    assert (labels != np.where(expected, expected, first)).mean() < 1e-3


def test_channels_that_are_not_used_are_named_and_can_be_chosen(run, work, micro):
    channels = np.random.default_rng(2).integers(0, 4000, (5, 48, 64), dtype=np.uint16)
    tifffile.imwrite(work / "cells.ome.tif", channels, metadata={"axes": "CYX"})
    arguments = ("segment", "cells.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    result = run(*arguments)
    assert "cells.ome.tif has 5 channels; the first 3 are used" in result.stderr
    result = run(*arguments, "--channels", "4,0")
    assert "channels" not in result.stderr
    expected = expected_labels(channels, TWO, channel_axis=0, channels=(4, 0))
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


def test_an_object_in_two_channels_of_one_plane_is_refused(run, work, micro):
    tifffile.imwrite(
        work / "cells.ome.tif", np.zeros((3, 48, 64), np.uint16), metadata={"axes": "CYX"}
    )
    text = plane_boxes((0,), (2,)).replace("axis-2\n", "axis-2,object\n")
    (work / "boxes.csv").write_text(text.replace(",6\n", ",6,9\n").replace(",34\n", ",34,9\n"))
    result = run("segment", "cells.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 2
    assert "Object 9 has prompts in two channels, planes 0 and 2" in result.stderr


# -- several images ---------------------------------------------------------------------------


@pytest.fixture
def several(work):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        tifffile.imwrite(work / f"{name}.tif", rng.integers(0, 255, (48, 64), dtype=np.uint8))
    (work / "prompts").mkdir()
    (work / "prompts" / "a.csv").write_text(BOXES)
    (work / "prompts" / "b.csv").write_text(BOXES)
    return work


def test_several_images_share_one_start_up(run, several, micro):
    result = run("segment", "a.tif", "b.tif", "--boxes", "prompts", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert micro == ["tiny"]
    for name in ("a", "b"):
        expected = expected_labels(tifffile.imread(f"{name}.tif"), TWO)
        assert (tifffile.imread(f"out/{name}.tif") != expected).mean() < 1e-3


def test_one_image_that_cannot_be_used_does_not_end_the_others(run, several, micro):
    (several / "a.tif").write_bytes(b"II*\0 broken")
    result = run("segment", "a.tif", "b.tif", "--boxes", "prompts", "-o", "out")
    assert result.exit_code == 2
    assert "1 of 2 images were left out: a.tif" in result.stderr
    assert files(several / "out") == ["b.tif"]


@pytest.mark.parametrize(
    ("images", "output", "message"),
    [
        (("a.tif", "c.tif"), "out", "There is no file prompts"),
        (("a.tif", "a.tif"), "out", "have one name"),
        (("a.tif", "b.tif"), ".", "is also an input"),
    ],
)
def test_mistakes_in_several_images_are_found_before_the_work(
    run, several, micro, images, output, message
):
    result = run("segment", *images, "--boxes", "prompts", "-o", output)
    assert (result.exit_code, micro) == (2, [])
    assert message in result.stderr


def test_a_folder_or_a_pattern_of_images_has_boxes_by_name(run, several, micro):
    images = several / "images"
    (images / "b").mkdir(parents=True)
    (several / "a.tif").rename(images / "a.tif")
    (several / "b.tif").rename(images / "b" / "cell.tif")
    tifffile.imwrite(images / "c.tif", np.zeros((48, 64), np.uint8))
    (several / "prompts" / "b").mkdir()
    (several / "prompts" / "b.csv").rename(several / "prompts" / "b" / "cell.csv")
    for source in ("images", "images/**/*.tif"):
        result = run("segment", source, "--boxes", "prompts", "-o", "out")
        assert result.exit_code == 0, result.stderr
        assert "Left out, without prompts: 1 of 3 images (c)." in result.stderr
        for name in ("a", "b/cell"):
            expected = expected_labels(tifffile.imread(images / f"{name}.tif"), TWO)
            assert (tifffile.imread(f"out/{name}.tif") != expected).mean() < 1e-3
            (several / "out" / f"{name}.tif").unlink()


def test_a_folder_without_any_prompts_is_an_error(run, several, micro):
    (several / "none").mkdir()
    (several / "images").mkdir()
    (several / "a.tif").rename(several / "images" / "a.tif")
    result = run("segment", "images", "--boxes", "none", "-o", "out")
    assert (result.exit_code, micro) == (2, [])
    assert "None of the 1 images has prompts" in result.stderr


def test_positions_and_ome_zarr_are_images(run, several, micro):
    import zarr

    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (3, 48, 64), dtype=np.uint8)
    with tifffile.TiffWriter(several / "wells.ome.tif", ome=True) as file:
        for image in images[:2]:
            file.write(image, metadata={"axes": "YX"})
    group = zarr.create_group(several / "wells.zarr", zarr_format=2)
    group.create_array("0", data=images[2])
    axes = [{"name": "y"}, {"name": "x"}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    for name in ("wells-p1", "wells-p2", "wells"):
        (several / "prompts" / f"{name}.csv").write_text(BOXES)
    arguments = ("--boxes", "prompts", "-o", "out")
    result = run("segment", "wells.ome.tif", "wells.zarr", *arguments)
    assert result.exit_code == 0, result.stderr
    for name, image in zip(("wells-p1", "wells-p2", "wells"), images, strict=True):
        expected = expected_labels(image, TWO)
        assert (tifffile.imread(f"out/{name}.tif") != expected).mean() < 1e-3
    result = run("segment", "wells.zarr", "--boxes", "boxes.csv", "-o", "one.tif")
    assert result.exit_code == 0, result.stderr
    expected = expected_labels(images[2], TWO)
    assert (tifffile.imread("one.tif") != expected).mean() < 1e-3


def test_labels_of_an_ome_zarr_are_written_into_it(run, work, micro):
    import zarr

    image = np.random.default_rng(1).integers(0, 255, (48, 64), dtype=np.uint8)
    group = zarr.create_group(work / "a.zarr", zarr_format=3)
    group.create_array("0", data=image)
    axes = [{"name": "y"}, {"name": "x"}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0"}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    for target in ("a.zarr/labels/cells", "cells.ome.zarr"):
        result = run("segment", "a.zarr", "--boxes", "boxes.csv", "-o", target)
        assert result.exit_code == 0, result.stderr
        labels = zarr.open_array(work / target / "0", mode="r")[:]
        assert (labels != expected_labels(image, TWO)).mean() < 1e-3
    result = run("segment", "a.zarr", "--boxes", "boxes.csv", "-o", "a.zarr")
    assert result.exit_code == 2
    assert "a.zarr/labels/cells" in " ".join(result.stderr.split())


def test_names_in_messages_give_no_orders_to_the_terminal(run, work, micro):
    name = "\x1b]0;owned\x07\x1b[2Jcells.tif"
    (work / name).write_bytes(b"no image")
    for arguments in ((name,), ("image.tif", name)):
        result = run("segment", *arguments, "--boxes", "boxes.csv", "-o", "out.tif")
        assert result.exit_code == 2
        assert "\x1b" not in result.stderr
        assert "\x07" not in result.stderr
        assert "cells.tif" in result.stderr


def test_contrast_limits_reach_the_image(run, micro):
    arguments = ("--boxes", "boxes.csv", "--contrast-limits", "0,1000", "-o", "labels.tif")
    assert run("segment", "image.tif", *arguments).exit_code == 0
    image = tifffile.imread("image.tif")
    expected = expected_labels(image, TWO, contrast_limits=(0, 1000))
    assert (tifffile.imread("labels.tif") != expected).mean() < 1e-3


@pytest.mark.parametrize(("overlap", "winner"), [("keep", 1), ("overwrite", 2)])
def test_overlap_goes_to(run, work, micro, overlap, winner):
    same = "\n".join(f"{i},rectangle,{v},{a},{a}" for i in (0, 1) for v, a in ((0, 4), (1, 40)))
    (work / "boxes.csv").write_text(f"index,shape-type,vertex-index,axis-0,axis-1\n{same}\n")
    run("segment", "image.tif", "--boxes", "boxes.csv", "--overlap", overlap, "-o", "labels.tif")
    assert set(np.unique(tifffile.imread("labels.tif"))) == {0, winner}


def test_more_than_65535_objects_get_32_bits(run, work, micro):
    text = BOXES.replace("axis-1\n", "axis-1,object\n", 1).replace("34\n", "34,70000\n")
    text = text.replace(",6\n", ",6,70000\n").replace("40\n", "40,3\n").replace("62\n", "62,3\n")
    (work / "boxes.csv").write_text(text)
    assert run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif").exit_code == 0
    labels = tifffile.imread("labels.tif")
    assert labels.dtype == np.uint32
    assert set(np.unique(labels)) == {0, 3, 70000}


def test_object_without_a_pixel_is_a_warning(run, work, micro, monkeypatch):
    empty = Predictor.predict_many

    def predict_nothing(self, boxes):
        masks = empty(self, boxes)
        for mask in masks:
            object.__setattr__(mask, "crop", np.zeros((0, 0), dtype=bool))
        return masks

    monkeypatch.setattr(Predictor, "predict_many", predict_nothing)
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0
    assert "no pixel was found for object(s) 1, 2" in result.stderr
    assert not tifffile.imread("labels.tif").any()


@pytest.mark.parametrize("has_zarr", [True, False])
def test_large_tiff_is_read_in_windows(run, work, micro, monkeypatch, has_zarr):
    if has_zarr:
        pytest.importorskip("zarr")
    monkeypatch.setattr(images, "_SMALL", 0)
    find = images.importlib.util.find_spec
    monkeypatch.setattr(
        images.importlib.util, "find_spec", lambda name: find(name) if has_zarr else None
    )

    def read_all(self, *_arguments, **_options):
        raise AssertionError("the whole image was read")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", read_all)
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 0, (result.stderr, result.exception)
    monkeypatch.undo()
    expected = expected_labels(tifffile.imread(work / "image.tif"), TWO)
    assert (tifffile.imread(work / "labels.tif") != expected).mean() < 1e-3


def test_pyramid_is_read_with_its_levels(work, monkeypatch):
    pytest.importorskip("zarr")
    base = np.random.default_rng(5).integers(0, 255, (256, 320), dtype=np.uint8)
    with tifffile.TiffWriter(work / "pyramid.ome.tif") as file:
        file.write(base, subifds=2, tile=(64, 64), metadata={"axes": "YX"})
        for step in (2, 4):
            file.write(base[::step, ::step], subfiletype=1, tile=(64, 64))
    monkeypatch.setattr(images, "_SMALL", 0)
    with images.open_image(work / "pyramid.ome.tif") as opened:
        assert [level.shape for level in opened.data] == [(256, 320), (128, 160), (64, 80)]
        np.testing.assert_array_equal(opened.data[1][10:20, 30:40], base[::2, ::2][10:20, 30:40])


def test_labels_do_not_need_the_memory_of_the_image(tmp_path, peak_memory):
    from napari_pisam.predict.mask import Mask

    shape = (20_000, 20_000)
    mask = Mask(shape, (19_900, 5, 20_000, 105), np.ones((100, 100), bool), 1.0, (0, 0, *shape))
    with peak_memory() as peak:
        label_files.write_label_stack(tmp_path / "labels.tif", {(): {1: mask}}, shape, {})
    assert peak() < 100e6
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        assert file.pages.first.shape == shape
        corner = file.pages.first.segments()
        assert sum(int((values == 1).sum()) for values, *_ in corner if values is not None) == 10**4


@pytest.fixture
def peak_memory():
    """Peak of what Python and numpy allocate in a block."""
    import contextlib
    import tracemalloc

    @contextlib.contextmanager
    def measure():
        tracemalloc.start()
        try:
            yield lambda: tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("image.tif",), "Give --boxes, --points, --start or several"),
        (("none.tif", "--boxes", "boxes.csv"), "There is no image file none.tif"),
        (("boxes.csv", "--boxes", "boxes.csv"), "is not an image"),
        (("image.tif", "--boxes", "none.csv"), "There is no file none.csv"),
        (("image.tif", "--boxes", "points.csv"), "pass the file with --points"),
        (("image.tif", "--points", "boxes.csv"), "pass the file with --boxes"),
        (("image.tif", "--boxes", "boxes.csv", "--device", "tpu"), "The device is 'tpu'"),
        (("image.tif", "--boxes", "boxes.csv", "--plane", "a"), "--plane is 'a', expected whole"),
        (("image.tif", "--boxes", "boxes.csv", "--propagate"), "needs a stack"),
        (("image.tif", "--boxes", "boxes.csv", "--along", "z"), "--along is for --propagate"),
        (("image.tif", "--boxes", "boxes.csv", "--propagate", "--end", "2,0,0"), "1 at most"),
        (("image.tif", "--boxes", "boxes.csv", "--plane", "1"), "plane is (1,), expected 0"),
        (("image.tif", "--boxes", "boxes.csv", "--channel-axis", "7"), "--channel-axis is 7"),
        (
            ("image.tif", "--boxes", "boxes.csv", "--contrast-limits", "3"),
            "--contrast-limits is '3', expected LO,HI",
        ),
        (("image.tif", "--boxes", "boxes.csv", "--contrast-limits", "5,5"), "white > black"),
    ],
)
def test_mistake_is_one_line_and_status_2(run, work, micro, arguments, message):
    before = files(work)
    result = run("segment", *arguments, "-o", "labels.tif")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert files(work) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("labels.png", "ends in .tif"),
        ("nowhere/labels.tif", "does not exist"),
        ("image.tif", "is also an input"),
    ],
)
def test_output_is_checked_before_the_work(run, work, micro, output, message):
    original = (work / "image.tif").read_bytes()
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", output)
    assert (result.exit_code, micro) == (2, [])
    assert message in result.stderr
    assert (work / "image.tif").read_bytes() == original


def test_stack_without_a_plane_says_how_to_choose_one(run, work, micro):
    tifffile.imwrite(
        work / "stack.ome.tif", np.zeros((2, 3, 48, 64), np.uint8), metadata={"axes": "TZYX"}
    )
    result = run("segment", "stack.ome.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 2
    assert "T = 2, Z = 3" in result.stderr
    assert "--plane 0,0" in result.stderr


def test_box_outside_the_image_is_named(run, work, micro):
    (work / "boxes.csv").write_text(BOXES.replace("1,rectangle,0,10", "1,rectangle,0,100"))
    (work / "boxes.csv").write_text((work / "boxes.csv").read_text().replace(",44,", ",144,"))
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 2
    assert "Object 2: The box" in result.stderr


def test_damaged_image_is_one_line(run, work, micro):
    Image.new("RGB", (64, 48)).save(work / "cut.png")
    (work / "cut.png").write_bytes((work / "cut.png").read_bytes()[:60])
    (work / "cut.tif").write_bytes((work / "image.tif").read_bytes()[:300])
    for name in ("cut.png", "cut.tif"):
        result = run("segment", name, "--boxes", "boxes.csv", "-o", "labels.tif")
        assert result.exit_code == 2, result.exception
        assert result.stderr.startswith("Error: cut")
        assert result.stderr.count("\n") == 1


def test_picture_that_claims_too_many_pixels_is_refused(run, work, micro, monkeypatch):
    Image.new("L", (64, 48)).save(work / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    result = run("segment", "bomb.png", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 2
    assert "tiled TIFF" in result.stderr


def test_unknown_model_is_one_line(run, work):
    arguments = ("--boxes", "boxes.csv", "--model", "huge", "-o", "labels.tif")
    result = run("segment", "image.tif", *arguments)
    assert result.exit_code == 2
    assert "'huge'" in result.stderr


def test_failed_download_is_status_1(run, work, monkeypatch):
    def load(name, *, progress=None, cancel=None):
        raise DownloadError("the address cannot be reached.")

    monkeypatch.setattr(weights, "load_model", load)
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == 1
    assert result.stderr == "Error: the address cannot be reached.\n"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_failure_while_writing_leaves_nothing_half_written(run, work, micro, monkeypatch, failure):
    (work / "labels.tif").write_bytes(b"an earlier result")

    def tiles(*_arguments):
        assert len(list(work.glob(".pisam-*.part"))) == 1
        raise failure
        yield

    monkeypatch.setattr(label_files, "label_tiles", tiles)
    before = files(work)
    result = run("segment", "image.tif", "--boxes", "boxes.csv", "-o", "labels.tif")
    assert result.exit_code == (130 if isinstance(failure, KeyboardInterrupt) else 1)
    assert files(work) == before
    assert (work / "labels.tif").read_bytes() == b"an earlier result"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_a_run_without_a_file(work):
    code = (
        "import signal, sys, time\n"
        # What a script runs in the background ignores Ctrl-C, and so would this.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from napari_pisam.cli import segment\n"
        "from napari_pisam.cli.app import main\n"
        "def wait(*arguments):\n"
        "    open('started', 'w').close()\n"
        "    time.sleep(60)\n"
        "segment.load_predictor = wait\n"
        "sys.argv = ['napari-pisam', 'segment', 'image.tif', '--boxes', 'boxes.csv',"
        " '-o', 'labels.tif']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=work, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (work / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "Stopped; nothing half-written is left.\n"
    assert not list(work.glob("labels*"))


# -- demo -------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["coins", "cell", "retina"])
def test_demo_writes_labels_and_a_picture(run, work, micro, image):
    result = run("demo", "--headless", "--image", image, "-o", work / "out")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert files(work / "out") == ["labels.tif", "preview.png"]
    with Image.open(work / "out" / "preview.png") as picture:
        assert picture.width > 1.2 * picture.height / 2
        assert np.asarray(picture).std() > 10
    rows = result.stdout.splitlines()
    assert rows[0].startswith(f"{image}, micro on")
    assert " -> " in rows[2]
    assert rows[-2:] == [str(work / "out" / "labels.tif"), str(work / "out" / "preview.png")]


def test_demo_opens_napari_where_it_can(run, work, micro, monkeypatch):
    from napari_pisam.layers import result as layers

    shown = []
    monkeypatch.setattr(layers, "can_show", lambda: True)
    monkeypatch.setattr(layers, "show_result", lambda *arguments: shown.append(arguments))
    for more in ((), ("--headless",)):
        assert run("demo", "--image", "cell", "-o", work / "out", *more).exit_code == 0
    assert len(shown) == 1
    image, prompts, labels = shown[0]
    assert image.shape == labels.shape
    assert [one.box is None for one in prompts.values()] == [False]


def test_demo_never_downloads_its_picture(run, work, micro, monkeypatch):
    import pooch

    def fail(*_arguments, **_options):
        raise AssertionError("something was fetched")

    monkeypatch.setattr(pooch.Pooch, "fetch", fail)
    monkeypatch.setattr(pooch, "retrieve", fail)
    assert run("demo", "--headless", "--image", "cell", "-o", work / "out").exit_code == 0


def test_demo_of_an_unknown_picture_names_those_there_are(run, micro):
    result = run("demo", "--headless", "--image", "moon")
    assert result.exit_code == 2
    assert "all, coins, cell, retina" in result.stderr


@pytest.mark.parametrize("name", ["coins", "cell", "retina", "photographer"])
def test_reference_of_the_demo_fills_its_boxes(name):
    from napari_pisam.cli.demo_scenes import SCENES, load

    scene = SCENES[name]
    image = load(scene)
    for box in scene.boxes:
        truth = scene.reference(image, box)
        rows, cols = np.nonzero(truth)
        found = np.array([rows.min(), cols.min(), rows.max(), cols.max()])
        assert np.abs(found - box).max() < 12
        area = (box[2] - box[0]) * (box[3] - box[1])
        # The share of a disc in its box, with room for a box drawn by hand.
        assert 0.55 < truth.sum() / area < 0.82


# -- the real model ---------------------------------------------------------------------------


# The micro model's random masks have outlines that take a minute to draw.
@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED, reason="the embedded model's weights are not in this checkout")
def test_demo_shows_many_objects_a_large_one_and_a_network_unless_told_otherwise(run, work):
    result = run("demo", "--headless", "-o", work / "out")
    assert result.exit_code == 0, (result.stderr, result.exception)
    endings = ("", "-photographer", "-vessels")
    names = [f"labels{one}.tif" for one in endings] + [f"preview{one}.png" for one in endings]
    assert files(work / "out") == sorted([*names, "overview.png"])
    with Image.open(work / "out" / "overview.png") as overview:
        assert overview.height > overview.width
    assert tifffile.imread(work / "out" / "labels.tif").max() == 8


@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED, reason="the embedded model's weights are not in this checkout")
@pytest.mark.parametrize(
    ("image", "objects", "box", "clicks"),
    [("coins", 8, 0.95, 0.95), ("retina", 1, 0.8, 0.9), ("vessels", 1, 0.5, 0.5)],
)
def test_demo_with_the_embedded_model_is_useful(run, work, image, objects, box, clicks):
    result = run("demo", "--headless", "--image", image, "-o", work / "out")
    assert result.exit_code == 0, result.stderr
    mean = next(line for line in result.stdout.splitlines() if line.strip().startswith("mean"))
    before, after = (float(text) for text in mean.split("mean")[1].split("->"))
    assert before > box
    assert after >= before
    assert after > clicks
    labels = tifffile.imread(work / "out" / "labels.tif")
    assert set(np.unique(labels)) == set(range(objects + 1))


def segmented_disc(run, work):
    rows, cols = np.ogrid[:200, :240]
    disc = (rows - 90) ** 2 + (cols - 120) ** 2 < 45**2
    noise = np.random.default_rng(0).normal(0, 5, disc.shape)
    tifffile.imwrite(work / "disc.tif", (60 + 120 * disc + noise).astype(np.uint8))
    (work / "disc.csv").write_text(
        "index,shape-type,vertex-index,axis-0,axis-1\n0,ellipse,0,43,73\n0,ellipse,1,137,167\n"
    )
    result = run("segment", "disc.tif", "--boxes", "disc.csv", "-o", "labels.tif")
    assert result.exit_code == 0, result.stderr
    found = tifffile.imread("labels.tif") == 1
    return (found & disc).sum() / (found | disc).sum()


@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED, reason="the embedded model's weights are not in this checkout")
def test_segment_with_the_embedded_model_outlines_a_plain_disc(run, work):
    # The disc's own box filled gives 0.72.
    assert segmented_disc(run, work) > 0.9


@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED, reason="the embedded model's weights are not in this checkout")
def test_a_box_on_a_disc_with_lines_means_the_disc_and_one_click_between_the_lines_the_lines():
    rows, cols = np.ogrid[:400, :400]
    disc = (rows - 200) ** 2 + (cols - 200) ** 2 < 120**2
    lines = disc & ((rows + cols) % 40 < 5)
    picture = gaussian_filter(60.0 + 90 * disc - 90 * lines, 1)
    picture += np.random.default_rng(0).normal(0, 5, picture.shape)
    predictor = Predictor("tiny")
    predictor.set_image(np.clip(picture, 0, 255).astype(np.uint8))
    box = (79.5, 79.5, 320.5, 320.5)
    solid = predictor.predict(box=box).to_array()
    assert (solid & disc).sum() > 0.9 * (solid | disc).sum()
    between = (211, 211)
    fine = predictor.predict(box=box, points=[between], labels=[False]).to_array()
    assert (fine & lines).sum() > 0.6 * (fine | lines).sum()


@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED, reason="the embedded model's weights are not in this checkout")
def test_embedded_model_is_verified(run):
    result = run("models", "verify", "tiny")
    assert (result.exit_code, result.stderr) == (0, "")


def test_errors_can_be_traced(run, micro, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_TRACEBACK", "1")
    result = run("segment", "image.tif", "-o", "labels.tif")
    assert "Traceback" in result.stderr


def test_version_is_printed(run):
    import napari_pisam

    assert run("--version").stdout == f"napari-pisam {napari_pisam.__version__}\n"


def test_command_is_installed():
    program = os.path.join(os.path.dirname(sys.executable), "napari-pisam")
    if not os.path.exists(program):
        pytest.skip("the package's scripts are not beside this interpreter")
    result = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in ("segment", "demo", "benchmark", "models"))
