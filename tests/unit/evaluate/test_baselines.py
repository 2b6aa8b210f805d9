"""Baselines on scenes whose answer is plain."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from napari_pisam.evaluate import baselines
from napari_pisam.evaluate.baselines import BASELINES, FilledBox, GrabCut, OtsuInBox, RandomWalker
from napari_pisam.evaluate.protocols import box_of
from napari_pisam.measure.metrics import iou

HAS_OPENCV = importlib.util.find_spec("cv2") is not None
needs_opencv = pytest.mark.skipif(not HAS_OPENCV, reason="OpenCV is not installed")


def scene(dark=False, shape=(60, 80)):
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    truth = np.hypot(ys - 30, xs - 40) < 16
    noise = np.random.default_rng(0).normal(0, 6, shape)
    image = np.where(truth ^ dark, 180, 60) + noise
    return image.clip(0, 255).astype(np.uint8), truth


@pytest.mark.parametrize(
    "name", ["otsu", "random_walker", pytest.param("grabcut", marks=needs_opencv)]
)
@pytest.mark.parametrize("dark", [False, True])
def test_a_plain_disc_is_found_from_its_box(name, dark):
    image, truth = scene(dark)
    baseline = BASELINES[name]()
    baseline.set_image(image)
    assert iou(baseline.predict(box=box_of(truth)), truth) > 0.93


@pytest.mark.parametrize(
    "name",
    [
        *("box", "otsu", "random_walker", "local_bright", "sato_dark"),
        pytest.param("grabcut", marks=needs_opencv),
    ],
)
def test_a_box_around_everything_is_answered(name):
    image, truth = scene()
    baseline = BASELINES[name]()
    baseline.set_image(image)
    mask = baseline.predict(box=(-0.5, -0.5, 59.5, 79.5))
    assert (mask.shape, mask.dtype) == (truth.shape, np.bool_)


@pytest.mark.parametrize("method", ["local", "sato"])
@pytest.mark.parametrize("dark", [False, True])
def test_lines_on_an_uneven_ground_are_found_by_their_own_polarity_only(method, dark):
    ys, xs = np.mgrid[:120, :160]
    truth = (np.abs(ys - 60 - 20 * np.sin(xs / 20)) < 1.5) | (np.abs(xs - 80) < 1.5)
    ground = 60 + xs * 0.6 + np.random.default_rng(0).normal(0, 2, truth.shape)
    image = (ground + truth * (-40 if dark else 40)).clip(0, 255).astype(np.uint8)
    found = {}
    for polarity in ("bright", "dark"):
        baseline = BASELINES[f"{method}_{polarity}"]()
        baseline.set_image(image)
        found[polarity] = iou(baseline.predict(box=box_of(truth)), truth)
    assert found["dark" if dark else "bright"] > 0.6
    assert found["bright" if dark else "dark"] < 0.3


def test_the_filled_box_is_the_box():
    image, truth = scene()
    baseline = FilledBox()
    baseline.set_image(image)
    expected = np.zeros_like(truth)
    expected[15:46, 25:56] = True
    np.testing.assert_array_equal(baseline.predict(box=box_of(truth)), expected)


def test_a_click_changes_the_threshold_around_it_only():
    image, truth = scene()
    baseline = OtsuInBox()
    baseline.set_image(image)
    box = box_of(truth)
    before = baseline.predict(box=box)
    after = baseline.predict(box=box, points=[(30, 40), (16, 26)], labels=[False, True])
    assert before[30, 40]
    assert not before[16, 26]
    assert not after[30, 40]
    assert after[16, 26]
    rows, cols = np.nonzero(before != after)
    near = np.minimum(np.hypot(rows - 30, cols - 40), np.hypot(rows - 16, cols - 26))
    assert near.max() <= 2


def test_a_click_moves_the_random_walker():
    image, truth = scene()
    image[truth] = 60  # two halves that only a click tells apart
    image[:, 40:] += 90
    baseline = RandomWalker()
    baseline.set_image(image)
    box = (4, 4, 56, 76)
    clicks = {"points": [(30, 60), (30, 15)], "labels": [True, False]}
    mask = baseline.predict(box=box, **clicks)
    assert mask[30, 60]
    assert not mask[30, 15]


def test_clicks_alone_are_prompts_too():
    image, truth = scene()
    baseline = RandomWalker()
    baseline.set_image(image)
    points = [(30, 40), (5, 5)]
    assert iou(baseline.predict(points=points, labels=[True, False]), truth) > 0.8


def test_large_surroundings_are_reduced_and_enlarged_again(monkeypatch):
    image, truth = scene()
    monkeypatch.setattr(RandomWalker, "longest", 20)
    baseline = RandomWalker()
    baseline.set_image(image)
    mask = baseline.predict(box=box_of(truth))
    assert mask.shape == truth.shape
    assert iou(mask, truth) > 0.75


def test_reducing_takes_means():
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    reduced = baselines._reduced(pixels, 2)
    assert reduced.shape == (3, 2, 3)
    assert reduced[0, 0, 0] == round(pixels[:2, :2, 0].mean())
    assert reduced[2, 1, 2] == round(pixels[4, 2:, 2].mean())


def test_an_image_is_needed_first():
    with pytest.raises(RuntimeError, match="set_image"):
        FilledBox().predict(box=(1, 1, 5, 5))


@pytest.mark.skipif(HAS_OPENCV, reason="OpenCV is installed")
def test_grabcut_without_opencv_says_what_to_install():
    with pytest.raises(ImportError, match="pip install opencv-python-headless"):
        GrabCut()
