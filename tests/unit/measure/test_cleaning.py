"""Cleaning one object, and a label image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_pisam.measure import cleaning
from napari_pisam.measure.cleaning import Cleaning, clean_labels


def disc(radius, side=41):
    rows, cols = np.mgrid[:side, :side] - side // 2
    return rows**2 + cols**2 <= radius**2


def test_holes_are_filled_and_bays_are_not():
    crop = disc(15)
    crop[20, 20] = crop[10:12, 18] = False
    bay = crop.copy()
    bay[20, 30:] = False
    assert np.array_equal(cleaning.fill_holes(crop), disc(15))
    assert not cleaning.fill_holes(bay)[20, 33]
    assert cleaning.fill_holes(bay)[20, 20] or not bay[20, 20:30].all()


def test_the_largest_part_is_kept_and_specks_go_but_never_all():
    crop = disc(8)
    crop[0:2, 0:2] = crop[40, 40] = True
    assert np.array_equal(cleaning.keep_largest(crop), disc(8))
    assert np.array_equal(cleaning.remove_specks(crop, 2), crop & ~(np.indices((41, 41))[0] == 40))
    assert np.array_equal(cleaning.remove_specks(crop, 5), disc(8))
    assert np.array_equal(cleaning.remove_specks(crop, 10_000), disc(8))


def test_smoothing_takes_bumps_off_and_leaves_a_straight_edge_and_the_size():
    block = np.zeros((60, 60), bool)
    block[10:50, 10:50] = True
    rough = block.copy()
    rough[9, 20] = rough[30, 50] = True
    rough[10, 40] = False
    smooth = cleaning.smooth(rough, 2)[3:-3, 3:-3]
    assert np.array_equal(smooth[9:51, 18:42], block[9:51, 18:42])
    big = disc(18)
    assert abs(int(cleaning.smooth(big, 2).sum()) - int(big.sum())) < 0.05 * big.sum()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_growing_and_shrinking_are_distances(seed, distance):
    crop = np.random.default_rng(seed).random((12, 14)) > 0.6
    crop[5, 5] = True
    pad = distance + 1
    rows, cols = np.indices((12 + 2 * pad, 14 + 2 * pad))
    inside = np.argwhere(np.pad(crop, pad))
    far = np.sqrt((rows[..., None] - inside[:, 0]) ** 2 + (cols[..., None] - inside[:, 1]) ** 2)
    assert np.array_equal(cleaning.grow(crop, distance), far.min(axis=-1) <= distance)
    wide = np.pad(crop, 1)
    edge = ndimage.distance_transform_edt(wide)
    assert np.array_equal(cleaning.grow(crop, -distance), edge > distance)


def test_a_line_splits_in_two_that_are_the_whole_the_larger_first():
    crop = disc(15)
    line = np.array([(0.0, 24.0), (40.0, 26.0)])
    first, second = cleaning.split(crop, line)
    assert first.sum() > second.sum() > 50
    assert np.array_equal(first | second, crop)
    assert not (first & second).any()
    assert ndimage.label(first)[1] == ndimage.label(second)[1] == 1
    diagonal = cleaning.split(crop, np.array([(0.0, 0.0), (40.0, 40.0)]))
    assert len(diagonal) == 2


def test_a_line_that_does_not_cut_splits_nothing():
    [whole] = cleaning.split(disc(15), np.array([(20.0, 20.0), (22.0, 22.0)]))
    assert np.array_equal(whole, disc(15))


def test_an_object_is_cleaned_in_order_and_stays_inside_the_image():
    crop = np.ones((6, 6), bool)
    crop[2, 2] = False
    grown, origin = Cleaning(fill_holes=True, grow=3).apply(crop, (0, 10), (20, 20))
    assert origin[0] == 0
    assert grown[:9, 13 - origin[1] - 3 + 6].any()
    assert (origin[0] + grown.shape[0], origin[1] + grown.shape[1]) <= (20, 20)
    assert not Cleaning(grow=-9).apply(crop, (0, 10), (20, 20))[0].any()
    assert not Cleaning()


@pytest.mark.parametrize("cleaning", [Cleaning(smooth=3), Cleaning(grow=-3), Cleaning(grow=2)])
def test_the_border_of_the_image_is_no_edge_of_an_object(cleaning):
    crop, origin = cleaning.apply(np.ones((20, 8), bool), (0, 6), (20, 30))
    found = np.zeros((20, 30), bool)
    found[origin[0] : origin[0] + crop.shape[0], origin[1] : origin[1] + crop.shape[1]] = crop
    grown = int(cleaning.grow)
    expected = np.zeros((20, 30), bool)
    expected[:, 6 - grown : 14 + grown] = True
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("wrong", [{"smooth": -1}, {"grow": 1e9}, {"specks": -2}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 to 1000"):
        Cleaning(**wrong)


def test_labels_of_neighbours_are_never_taken():
    labels = np.zeros((30, 30), np.uint16)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[20:22, 2:4] = 70_000 % 65_536, 3, 9
    grown = clean_labels(labels, Cleaning(grow=4))
    for number in (3, 9, 70_000 % 65_536):
        assert (grown[labels == number] == number).all()
        assert (grown == number).sum() > (labels == number).sum()
    only = clean_labels(labels, Cleaning(grow=4), only=[9])
    assert np.array_equal(only == 3, labels == 3)
    shrunk = clean_labels(labels, Cleaning(grow=-2))
    assert not (shrunk[labels == 0]).any()
    assert 9 not in shrunk
