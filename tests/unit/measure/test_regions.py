"""Size, shape and intensity of objects, beside scikit-image's and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import regionprops_table

from napari_pisam.measure.regions import Pixel, measure_objects


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(3)
    blobs = ndimage.gaussian_filter(rng.random((120, 150)), 4) > 0.5
    numbers = ndimage.label(blobs)[0] * 3
    numbers[numbers == 6] = 4_000_000
    return numbers.astype(np.uint32)


@pytest.fixture
def picture(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4000, (*labels.shape, 2)).astype(np.uint16)


SAME = {
    "area": "area",
    "perimeter": "perimeter_crofton",
    "length": "axis_major_length",
    "width": "axis_minor_length",
    "centroid_row": "centroid-0",
    "centroid_col": "centroid-1",
    "intensity_mean_1": "intensity_mean-0",
    "intensity_max_2": "intensity_max-1",
    "intensity_min_2": "intensity_min-1",
}


def test_values_are_those_of_scikit_image(labels, picture):
    names = sorted({name.partition("-")[0] for name in SAME.values()})
    table = regionprops_table(labels, picture, properties=("label", *names))
    rows = measure_objects(labels, picture)
    assert list(rows) == table["label"].tolist()
    for own, theirs in SAME.items():
        values = [row[own] for row in rows.values()]
        np.testing.assert_allclose(values, table[theirs], rtol=1e-9, atol=1e-9)


def test_lengths_are_in_the_unit_where_pixels_are_no_squares(labels):
    properties = ("label", "area", "axis_major_length", "axis_minor_length")
    table = regionprops_table(labels, spacing=(0.5, 0.2), properties=properties)
    rows = measure_objects(labels, pixel=Pixel(0.5, 0.2, "um"))
    for own, theirs in (("area", "area"), ("length", properties[2]), ("width", properties[3])):
        np.testing.assert_allclose([row[own] for row in rows.values()], table[theirs], rtol=1e-9)


def test_a_disc_is_one_in_pixels_of_any_shape():
    down, across = np.mgrid[-60:61, -160:161]
    disc = ((down * 0.5) ** 2 + (across * 0.2) ** 2 <= 25**2).astype(np.uint8)
    row = measure_objects(disc, pixel=Pixel(0.5, 0.2))[1]
    assert row["area"] == pytest.approx(math.pi * 25**2, rel=0.01)
    assert row["length"] == pytest.approx(50, rel=0.01)
    assert row["width"] == pytest.approx(50, rel=0.01)
    assert row["perimeter"] == pytest.approx(2 * math.pi * 25, rel=0.03)
    assert row["circularity"] > 0.93
    assert row["solidity"] > 0.98
    assert (row["centroid_row"], row["centroid_col"]) == (60, 160)


def test_solidity_is_of_the_hull_of_the_pixels(labels):
    for label, row in measure_objects(labels).items():
        rows, cols = np.nonzero(labels == label)
        corners = [
            (r + i, c + j) for r, c in zip(rows, cols, strict=True) for i in (0, 1) for j in (0, 1)
        ]
        assert row["solidity"] == pytest.approx(len(rows) / ConvexHull(corners).volume)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1)])
def test_single_pixels_and_lines_are_measured(shape):
    row = measure_objects(np.ones(shape, np.uint8))[1]
    assert row["solidity"] == 1
    assert row["area_px"] == math.prod(shape)
    assert all(math.isfinite(value) for value in row.values())


def test_only_some_are_measured(labels, picture):
    everything = measure_objects(labels, picture)
    some = list(everything)[2:5]
    chosen = measure_objects(labels, picture, only=[*some, 999_999])
    assert chosen == {label: everything[label] for label in some}


def test_channels_have_names(labels, picture):
    row = next(iter(measure_objects(labels, picture, channels=("DAPI", "GFP")).values()))
    assert {"intensity_mean_DAPI", "intensity_mean_GFP"} <= set(row)


def test_what_does_not_fit_is_refused(labels):
    with pytest.raises(ValueError, match="same height and width"):
        measure_objects(labels, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="expected \\(H, W\\) integers"):
        measure_objects(np.zeros((2, 2), float))
    with pytest.raises(ValueError, match="two positive sides"):
        Pixel(0, 1)
