"""Labels as tiles: like an array, and read again only where they were touched."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.session.tiles import LabelTile, SparseLabels, TouchedTiles


def test_sparse_labels_are_like_an_array():
    rng = np.random.default_rng(0)
    sparse, dense = SparseLabels((1500, 1300)), np.zeros((1500, 1300), np.uint32)
    for value in range(1, 30):
        (r0, r1), (c0, c1) = np.sort(rng.integers(0, 1300, (2, 2)))
        block = np.full((r1 - r0, c1 - c0), value, np.uint32)
        sparse[r0:r1, c0:c1] = block
        dense[r0:r1, c0:c1] = block
        (r0, r1), (c0, c1) = np.sort(rng.integers(0, 1300, (2, 2)))
        assert np.array_equal(sparse[r0:r1, c0:c1], dense[r0:r1, c0:c1])


def test_only_touched_tiles_are_read_again():
    labels = np.zeros((1500, 1300), np.uint16)
    labels[600, 700] = 3
    touched = TouchedTiles()
    assert not touched
    touched.touch((590, 690, 610, 710))
    (first,) = touched.read(labels)
    assert first.bbox == (512, 512, 1024, 1024)
    labels[600, 701] = 4
    labels[10, 10] = 5
    assert touched.read(labels)[0] is first
    touched.touch((0, 0, 20, 20))
    corner, same = touched.read(labels)
    assert same is first
    assert corner.values()[10, 10] == 5
    touched.touch_all()
    assert touched.read(labels)[1].values()[600 - 512, 701 - 512] == 4


@pytest.mark.parametrize("value", [0, 200, 60_000, 2**32 - 1, 2**40])
def test_a_tile_comes_back_from_its_bytes(value):
    values = np.zeros((4, 6), np.int64)
    values[1, 2] = value
    dtype, packed = LabelTile((0, 0, 4, 6), values).packed()
    again = LabelTile((0, 0, 4, 6), dtype=dtype, packed=packed)
    assert np.array_equal(again.values(), values)


def test_a_tile_of_another_size_is_refused():
    dtype, packed = LabelTile((0, 0, 4, 6), np.ones((4, 6), np.uint16)).packed()
    with pytest.raises(ValueError, match="Compressed data"):
        LabelTile((0, 0, 4, 7), dtype=dtype, packed=packed).values()
