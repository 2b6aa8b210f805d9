"""Objects through a stack, beside scikit-image's 3-D regions and what is counted voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_pisam.measure import volumes
from napari_pisam.measure.regions import Pixel, with_unit
from napari_pisam.measure.volumes import measure_volumes


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(3)
    blobs = ndimage.gaussian_filter(rng.random((9, 40, 50)), (1, 3, 3)) > 0.5
    numbers = ndimage.label(blobs)[0] * 3
    numbers[numbers == 6] = 4_000_000
    return numbers.astype(np.uint32)


@pytest.fixture
def picture(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4000, (*labels.shape, 2)).astype(np.uint16)


SAME = {
    "volume": "area",
    "centroid_3d_z": "centroid-0",
    "centroid_3d_x": "centroid-2",
    "intensity_3d_mean_1": "intensity_mean-0",
    "intensity_3d_max_2": "intensity_max-1",
    "intensity_3d_min_2": "intensity_min-1",
    "first_slice": "bbox-0",
}


@pytest.mark.parametrize("band", [1 << 20, 70])
def test_values_are_those_of_scikit_image_where_voxels_are_no_cubes(
    labels, picture, band, monkeypatch
):
    monkeypatch.setattr(volumes, "_BAND_PIXELS", band)
    names = sorted({name.partition("-")[0] for name in SAME.values()})
    spacing = (1.5, 0.5, 0.2)
    table = regionprops_table(labels, picture, properties=("label", *names), spacing=spacing)
    pixel = Pixel(0.5, 0.2, "um", depth=1.5)
    rows = measure_volumes(labels, picture, pixel=pixel)
    assert list(rows) == table["label"].tolist()
    for own, theirs in SAME.items():
        values = [row[own] for row in rows.values()]
        np.testing.assert_allclose(values, table[theirs], rtol=1e-9, atol=1e-9)


def test_slices_are_counted_where_an_object_leaves_and_comes_back():
    labels = np.zeros((6, 5, 7), np.uint8)
    labels[1, 2, 3] = labels[4, 2, 3] = labels[4, 3, 3] = 9
    row = measure_volumes(labels)[9]
    assert (row["slices"], row["first_slice"], row["last_slice"]) == (2, 1, 4)
    assert (row["volume"], row["volume_vx"]) == (3, 3)
    middle = row["centroid_3d_slice"], row["centroid_3d_row"], row["centroid_3d_col"]
    assert middle == pytest.approx((3, 7 / 3, 3))


def test_names_have_the_units():
    assert with_unit("volume", "um") == "volume_um3"
    assert with_unit("centroid_3d_z", "um") == "centroid_3d_z_um"
    assert with_unit("volume_vx", "um") == "volume_vx"


def test_stacks_without_objects_have_no_rows():
    assert measure_volumes(np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4))) == {}
    assert measure_volumes(np.zeros((0, 3, 4), np.uint8)) == {}


def test_what_does_not_fit_is_refused(labels):
    with pytest.raises(ValueError, match="same slices, height and width"):
        measure_volumes(labels, np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match=r"expected \(Z, H, W\) integers"):
        measure_volumes(labels[0])
    with pytest.raises(ValueError, match="how far the slices are apart is not known"):
        measure_volumes(labels, pixel=Pixel(0.5, 0.2, "um"))
    with pytest.raises(ValueError, match="three positive sides"):
        Pixel(1, 1, "um", depth=-1)
