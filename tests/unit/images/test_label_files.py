"""Label images as TIFF, read back by other libraries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_pisam.images.label_files import (
    label_path,
    write_label_array,
    write_label_stack,
)


@dataclass
class Crop:
    crop: Any
    bbox: tuple[int, int, int, int]


def square(row, col, side):
    return Crop(np.ones((side, side), bool), (row, col, row + side, col + side))


def painted(shape, *crops):
    labels = np.zeros(shape, np.uint16)
    for label, one in crops:
        row0, col0, row1, col1 = one.bbox
        labels[row0:row1, col0:col1] = label
    return labels


@pytest.mark.parametrize("overlap", ["keep", "overwrite"])
def test_masks_are_drawn_across_tiles(tmp_path, overlap):
    masks = {3: square(480, 490, 60), 8: square(500, 500, 100)}
    write_label_stack(tmp_path / "a.tif", {(): masks}, (700, 1100), {}, overlap)
    order = list(masks.items())
    expected = painted((700, 1100), *(order if overlap == "overwrite" else order[::-1]))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.tif")), expected)


@pytest.mark.parametrize("shape", [(4, 50, 60), (2, 3, 50, 60), (1, 3, 50, 60)])
def test_planes_come_back_where_they_were(tmp_path, shape):
    index = (shape[0] - 1,) if len(shape) == 3 else (shape[0] - 1, 1)
    write_label_stack(tmp_path / "a.tif", {index: {70_000: square(5, 6, 9)}}, shape, {"a": 1})
    expected = np.zeros(shape, np.uint32)
    expected[(*index, slice(5, 14), slice(6, 15))] = 70_000
    found = iio.imread(tmp_path / "a.tif")  # what napari calls
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, expected)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert json.loads(file.pages.first.description)["a"] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_arrays_of_any_type_of_labels_are_written(tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 100, (3, 600, 30)).astype(dtype)
    write_label_array(tmp_path / "a.tif", labels, {})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)


def test_labels_that_tiff_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="go up to 4294967296"):
        write_label_array(tmp_path / "a.tif", np.full((4, 4), 1 << 32), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "unit", "per_centimetre"),
    [((0.5, 0.25), "micrometer", (40_000, 20_000)), ((2, 4), "mm", (2.5, 5))],
)
def test_size_of_a_pixel_is_written_for_other_programs(tmp_path, size, unit, per_centimetre):
    labels = np.zeros((2, 30, 40), np.uint8)
    write_label_array(tmp_path / "a.tif", labels, {}, (9.0, *size), (unit,) * 3)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.get_resolution("CENTIMETER") == pytest.approx(per_centimetre)
    with Image.open(tmp_path / "a.tif") as picture:
        dpi = picture.info["dpi"]
    assert dpi == pytest.approx(tuple(value * 2.54 for value in per_centimetre))


def test_a_mirrored_layer_is_written_with_the_size_of_its_pixels(tmp_path):
    labels = np.zeros((30, 40), np.uint8)
    write_label_array(tmp_path / "a.tif", labels, {}, (-0.5, 0.25), ("um", "um"))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.get_resolution("CENTIMETER") == pytest.approx((40_000, 20_000))


@pytest.mark.parametrize("size", [(0.0, 1.0), (1e-30, 1.0), (1.0, 1e30)])
def test_sizes_of_a_pixel_that_tiff_has_no_numbers_for_are_left_out(tmp_path, size):
    write_label_array(tmp_path / "a.tif", np.zeros((30, 40), np.uint8), {}, size, ("um", "um"))
    with Image.open(tmp_path / "a.tif") as picture:
        assert "dpi" not in picture.info


def test_pixels_without_a_length_have_no_size(tmp_path):
    write_label_array(tmp_path / "a.tif", np.zeros((30, 40), np.uint8), {}, (2, 2), ("pixel",) * 2)
    with Image.open(tmp_path / "a.tif") as picture:
        assert "dpi" not in picture.info


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("labels.tif", "labels.tif"),
        ("labels.TIFF", "labels.TIFF"),
        ("labels", "labels.tif"),
        ("labels dose 0.5uM", "labels dose 0.5uM.tif"),
        ("cells.ome.tif", "cells.ome.tif"),
    ],
)
def test_names_are_completed(given, written):
    assert label_path(Path("folder") / given) == Path("folder") / written


@pytest.mark.parametrize("name", ["labels.png", "labels.JPG", "labels.csv"])
def test_names_of_other_kinds_of_files_are_refused(name):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.tif"):
        label_path(Path(name))
