"""Measures against brute force, first principles and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import mean_squared_error

from napari_pisam.measure import metrics


def blob(seed, shape=(40, 56), share=0.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4)
    return noise > np.quantile(noise, 1 - share)


def pair(seed, shape=(40, 56)):
    truth = blob(seed, shape)
    return np.roll(truth, (2, -3), (0, 1)) ^ (blob(seed + 1, shape, 0.1)), truth


def eroded_band(mask, width):
    """What is lost to `width` erosions by a 3 x 3 square, the outside of the image being empty."""
    inner = np.pad(mask, 1)
    for _ in range(width):
        inner = np.array(
            [
                [
                    inner[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].all()
                    and 0 < r < inner.shape[0] - 1
                    and 0 < c < inner.shape[1] - 1
                    for c in range(inner.shape[1])
                ]
                for r in range(inner.shape[0])
            ]
        )
    return mask & ~inner[1:-1, 1:-1]


def counted_iou(first, second):
    pixels = list(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True))
    either = sum(a or b for a, b in pixels)
    return sum(a and b for a, b in pixels) / either if either else 1.0


@pytest.mark.parametrize("seed", range(3))
def test_iou_counts_pixels(seed):
    predicted, truth = pair(seed)
    assert metrics.iou(predicted, truth) == pytest.approx(counted_iou(predicted, truth))


def test_iou_of_two_empty_masks_is_one():
    empty = np.zeros((4, 5), bool)
    assert metrics.iou(empty, empty) == 1.0


@pytest.mark.parametrize("width", [1, 2, 4])
def test_boundary_is_what_erosions_take_away(width):
    mask = blob(1, (24, 30))
    mask[:8, :10] = True  # cut by the image border
    np.testing.assert_array_equal(metrics.boundary(mask, width), eroded_band(mask, width))


@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_is_the_iou_of_bands_of_two_percent_of_the_diagonal(seed):
    predicted, truth = pair(seed, (90, 120))
    width = round(0.02 * 150)  # the diagonal of 90 x 120 is 150
    expected = counted_iou(eroded_band(predicted, width), eroded_band(truth, width))
    assert metrics.boundary_iou(predicted, truth) == pytest.approx(expected)


def test_boundary_band_is_at_least_a_pixel_wide():
    truth = np.zeros((10, 10), bool)
    truth[2:7, 2:7] = True
    larger = np.zeros_like(truth)
    larger[1:8, 1:8] = True
    # Rings of one pixel around different squares: no pixel in common.
    assert metrics.boundary_iou(larger, truth) == 0


def test_radii_go_from_three_to_a_three_hundredth_in_five_steps():
    assert metrics.boundary_radii((1200, 1800)) == pytest.approx([3, 4.75, 6.5, 8.25, 10])
    assert metrics.boundary_radii((100, 100)) == [3.0] * 5


def test_mean_boundary_accuracy_counts_pixels_near_the_other_kind():
    predicted, truth = pair(4, (30, 34))
    radii = [1.0, 2.0, 3.0, 4.5]
    places = np.argwhere(np.ones_like(truth))
    shares = []
    for radius in radii:
        right = total = 0
        for row, col in places:
            others = np.argwhere(truth != truth[row, col])
            if np.hypot(*(others - (row, col)).T).min() <= radius:
                total += 1
                right += predicted[row, col] == truth[row, col]
        shares.append(right / total)
    measured = metrics.mean_boundary_accuracy(predicted, truth, radii)
    assert measured == pytest.approx(np.mean(shares))


def test_mean_boundary_accuracy_without_a_boundary_is_the_share_of_right_pixels():
    truth = np.ones((6, 8), bool)
    predicted = truth.copy()
    predicted[:3] = False
    assert metrics.mean_boundary_accuracy(predicted, truth) == 0.5


def test_mean_boundary_accuracy_does_not_see_errors_far_from_the_boundary():
    truth = np.zeros((60, 60), bool)
    truth[5:35, 5:35] = True
    predicted = truth.copy()
    predicted[50:58, 50:58] = True
    assert metrics.mean_boundary_accuracy(predicted, truth) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_mae_of_masks_is_the_share_of_wrong_pixels(seed):
    predicted, truth = pair(seed)
    expected = mean_squared_error(predicted.astype(float), truth.astype(float))  # 0 and 1
    assert metrics.mean_absolute_error(predicted, truth) == pytest.approx(expected)


def test_mae_of_a_map_is_taken_after_stretching_it():
    truth = np.array([[True, False, False, False]])
    values = np.array([[0.6, 0.2, 0.4, 0.2]])  # stretched: 1, 0, 0.5, 0
    assert metrics.mean_absolute_error(values, truth) == pytest.approx(0.125)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_every_measure_of_a_right_mask_is_perfect(seed, share):
    truth = np.random.default_rng(seed).random((12, 15)) < share
    assert metrics.iou(truth, truth) == 1
    assert metrics.boundary_iou(truth, truth) == 1
    assert metrics.mean_boundary_accuracy(truth, truth) == 1
    if truth.any() and not truth.all():
        assert metrics.mean_absolute_error(truth, truth) == 0


@pytest.mark.parametrize(
    "measure",
    [metrics.boundary_iou, metrics.mean_boundary_accuracy, metrics.mean_absolute_error],
)
def test_masks_of_different_sizes_are_refused(measure):
    with pytest.raises(ValueError, match=r"shape \(3, 4\), the truth \(4, 3\)"):
        measure(np.zeros((3, 4), bool), np.zeros((4, 3), bool))


IOUS = [0.5, 0.7, 0.65, 0.86, 0.91, 0.91]


@pytest.mark.parametrize(("target", "clicks"), [(0.4, 0), (0.7, 1), (0.85, 3), (0.9, 4)])
def test_number_of_clicks_is_the_first_that_reaches_the_target(target, clicks):
    assert metrics.number_of_clicks(IOUS, target) == clicks
    assert not metrics.is_failure(IOUS, target)


def test_what_is_not_reached_counts_as_the_limit_and_as_a_failure():
    assert metrics.number_of_clicks(IOUS, 0.95) == 20
    assert metrics.is_failure(IOUS, 0.95)
    assert metrics.number_of_clicks(IOUS, 0.9, limit=3) == 3
    assert metrics.is_failure(IOUS, 0.9, limit=3)


def test_iou_stays_when_nothing_is_left_to_click():
    assert [metrics.iou_after([0.8, 1.0], n) for n in (0, 1, 5)] == [0.8, 1.0, 1.0]


def test_worst_drop_is_the_largest_loss_by_one_click():
    assert metrics.worst_drop([0.5, 0.7, 0.65, 0.4, 0.9]) == pytest.approx(0.25)
    assert metrics.worst_drop([0.5, 0.7]) == 0
    assert metrics.worst_drop([0.5]) == 0


def test_boundary_share_is_that_of_the_paper():
    assert math.isclose(metrics.BOUNDARY_SHARE, 0.02)
