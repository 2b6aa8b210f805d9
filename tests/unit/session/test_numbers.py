"""Which numbers labels hold, and which one a new object gets."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from lazy_arrays import Lazy
from napari_pisam.session import numbers
from napari_pisam.session.numbers import LabelNumbers, numbers_in

STACK = np.zeros((5, 40, 30), np.int32)
STACK[0, 3, 4], STACK[3, 39, 29], STACK[4, 0, 0], STACK[1, 2, 2] = 7, 2**31 - 1, 12, -1


@pytest.mark.parametrize("block", [7, 90, 1300, 1 << 24])
@pytest.mark.parametrize(
    "data",
    [
        STACK,
        da.from_array(STACK, chunks=(2, 16, 16)),
        zarr.array(STACK, chunks=(2, 16, 16)),
    ],
    ids=["numpy", "dask", "zarr"],
)
def test_numbers_are_found_in_every_slice_of_every_kind_of_array(data, block, monkeypatch):
    monkeypatch.setattr(numbers, "_BLOCK", block)
    assert numbers_in(data) == {7, 12, 2**31 - 1}


def test_no_block_is_larger_than_was_asked_for(monkeypatch):
    monkeypatch.setattr(numbers, "_BLOCK", 100)
    data = Lazy((5, 40, 30))
    assert numbers_in(data) == set(range(1, 251))
    assert data.largest_read <= 100


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([], np.uint16, 1),
        ([1, 2, 3], np.uint16, 4),
        ([5], np.uint8, 6),
        # An ignore label is no cell, whatever the type.
        ([1, 2, 255], np.uint8, 3),
        ([3, 65_535], np.uint16, 4),
        ([2**32 - 1], np.uint32, 1),
        ([9, 2**32 - 1], np.uint64, 10),
        ([4, 127], np.int8, 5),
        ([2, 2**40], np.int64, 3),
        # Full: the type has to be a wider one.
        ([*range(1, 255), 255], np.uint8, 256),
        # Nothing is left above: the first gap.
        ([1, 2, 2**32 - 2], np.uint32, 3),
    ],
)
def test_a_new_number_is_above_all_cells(values, dtype, expected):
    data = np.zeros(400, dtype)
    data[: len(values)] = values
    known = LabelNumbers(lambda: data)
    known.look()
    assert known.next() == expected


def known_of(*values):
    data = np.zeros(50, np.uint16)
    data[: len(values)] = values
    known = LabelNumbers(lambda: data)
    known.look()
    return known


def test_an_object_keeps_its_number_where_its_own_pixels_have_it():
    known = known_of(1, 2)
    assert known.is_taken(2, own=False)
    assert not known.is_taken(2, own=True)
    assert not known.is_taken(3, own=False)


def test_a_number_begun_by_hand_is_no_objects_even_where_it_was_one():
    known = known_of(1)
    known.wrote(2)
    known.released(2)
    known.choose(2)
    assert known.is_taken(2, own=True)
    assert known.next() == 3
    # Chosen and never painted with: free again.
    known.choose(1)
    assert not known.is_taken(2, own=True)


def test_what_is_painted_on_an_object_in_the_labels_stays_the_objects():
    known = known_of(1)
    known.wrote(2)
    known.choose(2)
    known.paint([2])
    known.released(2)
    assert not known.is_taken(2, own=True)


def test_a_label_painted_by_hand_can_be_picked_up_under_its_number():
    known = known_of()
    known.choose(1)
    known.paint([1])
    assert known.is_taken(1, own=True)
    known.adopt(1)
    assert not known.is_taken(1, own=True)
    assert known.is_taken(1, own=False)


def test_no_number_is_free_while_large_labels_are_looked_through(monkeypatch):
    monkeypatch.setattr(numbers, "AT_ONCE", 10)
    data = np.zeros(50, np.uint16)
    data[3] = 9
    known = LabelNumbers(lambda: data)
    known.is_awaited = True
    with pytest.raises(ValueError, match="still being looked through"):
        known.look()
    # Painted meanwhile, and not seen by who looks.
    known.paint([20])
    known.take(numbers_in(data))
    known.look()
    assert known.next() == 21
    assert known.is_taken(20, own=True)
