"""Which objects a mask holds, and which saved pixels are meant by one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.evaluate.objects import (
    Target,
    best_label,
    saved_object,
    targets,
    to_probability,
)
from napari_pisam.images.mask_files import connected_parts


def squares(*values, dtype=np.uint16):
    """Squares of growing size, 4, 5, 6 ... px, one for each value."""
    result = np.zeros((30, 40), dtype)
    col = 1
    for side, value in enumerate(values, 4):
        result[2 : 2 + side, col : col + side] = value
        col += side + 2
    return result


def areas(mask, kind, which, min_area=1):
    found = targets(mask, kind, which, min_area)
    return [(target.label, int(target.truth.sum())) for target in found]


@pytest.mark.parametrize(
    ("kind", "which", "expected"),
    [
        ("binary", "whole", [(0, 16 + 25 + 36)]),
        ("binary", "largest", [(3, 36)]),
        ("binary", "each", [(1, 16), (2, 25), (3, 36)]),
        ("binary", "auto", [(0, 77)]),
    ],
)
def test_objects_of_a_binary_mask(kind, which, expected):
    assert areas(squares(255, 255, 255, dtype=np.uint8), kind, which) == expected


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("largest", [(9, 36)]),
        ("auto", [(9, 36)]),
        ("each", [(4, 16), (7, 25), (9, 36)]),
        ("whole", [(0, 77)]),
    ],
)
def test_objects_of_instances(which, expected):
    assert areas(squares(4, 7, 9), "instances", which) == expected


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("whole", [(1, 16 + 36), (2, 25)]),
        ("each", [(1, 16), (2, 36), (3, 25)]),
        ("largest", [(2, 36)]),
    ],
)
def test_objects_of_classes(which, expected):
    assert areas(squares(1, 2, 1), "classes", which) == expected


def test_small_objects_are_left_out():
    assert areas(squares(4, 7, 9), "instances", "each", 25) == [(7, 25), (9, 36)]
    assert areas(squares(4), "instances", "largest", 17) == []


def test_touching_instances_stay_apart_and_diagonal_neighbours_are_connected():
    mask = np.zeros((4, 6), np.uint8)
    mask[0, :3], mask[0, 3:] = 1, 2
    assert areas(mask, "instances", "each") == [(1, 3), (2, 3)]
    diagonal = np.eye(5, dtype=np.uint8)
    assert connected_parts(diagonal).max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), [0, 0.2, 1]),
        (np.array([[0.25, 0.5]]), [0.25, 0.5]),
        (np.array([[0, 1, 1]], np.uint8), [0, 1, 1]),
        (np.array([[0, 90]], np.uint8), [0, 1]),
        (np.array([[False, True]]), [0, 1]),
    ],
)
def test_saved_maps_become_probabilities(values, expected):
    assert to_probability(values).astype(float).tolist() == [pytest.approx(expected)]


def test_logits_are_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        to_probability(np.array([[-3.0, 4.0]]))


def test_a_saved_map_of_the_whole_is_taken_as_it_is():
    truth = squares(1) > 0
    saved = (truth * 128).astype(np.uint8)
    saved[0, 0] = 255
    mask = saved_object(saved, Target(0, truth, "whole"), "binary")
    assert mask.max() == 1
    assert mask[2, 1] == pytest.approx(128 / 255)


def test_the_saved_label_that_fits_best_stands_for_an_instance():
    truth = squares(4, 7, 9)
    saved = np.where(truth == 7, 2, np.where(truth > 0, 5, 0)).astype(np.uint16)
    saved[2, 7] = 5
    mask = saved_object(saved, Target(7, truth == 7, "instance"), "instances")
    np.testing.assert_array_equal(mask, saved == 2)


def test_the_saved_component_that_fits_best_stands_for_an_instance():
    truth = squares(4, 7, 9)
    saved = (truth > 0).astype(np.uint8) * 255
    mask = saved_object(saved, Target(9, truth == 9, "instance"), "instances")
    np.testing.assert_array_equal(mask, truth == 9)


def test_a_class_is_taken_by_its_number():
    truth = squares(1, 2, 1)
    mask = saved_object(np.roll(truth, 1, 0), Target(2, truth == 2, "class"), "classes")
    np.testing.assert_array_equal(mask, np.roll(truth, 1, 0) == 2)


def test_nothing_saved_there_is_an_empty_mask():
    truth = squares(4, 7) == 4
    assert not best_label(squares(0, 7), truth).any()


def test_saved_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match="Save masks in the size"):
        saved_object(np.zeros((3, 3)), Target(0, squares(1) > 0, "whole"), "binary")
