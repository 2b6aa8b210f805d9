"""Tracks of labelled objects, and their file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import napari_pisam as pisam


def stack():
    labels = np.zeros((4, 30, 40), np.uint16)
    for t in range(4):
        labels[t, 3 + t : 8 + t, 5 : 9 + t] = 7
    labels[1:3, 20:23, 30:36] = 2
    return labels


def test_middles_and_areas_are_those_of_the_labels():
    labels = stack()
    table = pisam.tracks(labels)
    assert table[:, :2].tolist() == [[2, 1], [2, 2], [7, 0], [7, 1], [7, 2], [7, 3]]
    for track, t, y, x, area in table:
        there = labels[int(t)] == track
        assert (y, x) == pytest.approx(ndimage.center_of_mass(there))
        assert area == there.sum()


def test_volumes_have_three_places():
    labels = np.zeros((2, 5, 6, 7), np.int32)
    labels[1, 2:4, 1:3, 4] = 3
    labels[0, 0, 0, 0] = -1
    np.testing.assert_array_equal(pisam.tracks(labels), [[3, 1, 2.5, 1.5, 4, 4]])


def test_one_time_after_the_other_is_read():
    class Times:
        shape = (4, 30, 40)

        def __getitem__(self, key):
            assert isinstance(key, int)
            return stack()[key]

        def __array__(self, *args, **kwargs):
            raise AssertionError("the whole array was read")

    np.testing.assert_array_equal(pisam.tracks(Times()), pisam.tracks(stack()))


def test_the_file_is_in_the_order_of_napari(tmp_path):
    path = tmp_path / "tracks.csv"
    pisam.write_tracks(path, pisam.tracks(stack()))
    lines = path.read_text().splitlines()
    assert lines[0] == "track_id,t,y,x,area"
    assert lines[1] == "2,1,21.000,32.500,18"
    read = np.loadtxt(path, delimiter=",", skiprows=1)
    np.testing.assert_allclose(read, pisam.tracks(stack()), atol=1e-3)


def test_what_is_no_series_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected"):
        pisam.tracks(np.zeros((5, 5), int))
    with pytest.raises(ValueError, match="4 columns"):
        pisam.write_tracks(tmp_path / "tracks.csv", np.zeros((1, 4)))
