"""A mask is its window: exact against a full-size reference, and small."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_pisam.predict.mask import Mask
from napari_pisam.predict.preprocessing import FrameTransform
from napari_pisam.predict.windows import Window


def build(logits, window, shape, frame=64):
    transform = FrameTransform.of(window, frame)
    return Mask.from_frame_logits(logits, transform, window.native_bbox(shape), shape, 0.9)


def square_mask(shape=(40, 50), bbox=(10, 20, 15, 30)):
    logits = np.full(FrameTransform.of(Window(0, 0, 0, *shape), 50).size, -1, np.float32)
    logits[bbox[0] : bbox[2], bbox[1] : bbox[3]] = 1
    return build(logits, Window(0, 0, 0, *shape), shape, 50)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 1000))
def test_logits_are_what_torch_interpolates(height, width, seed):
    window = Window(0, 0, 0, height, width)
    size = FrameTransform.of(window, 64).size
    logits = np.random.default_rng(seed).normal(-0.5, 1, size).astype(np.float32)
    mask = build(logits, window, (height, width))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], (height, width), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(mask.logits, expected, atol=1e-4)
    sure = np.abs(expected) > 1e-3
    np.testing.assert_array_equal(mask.to_array()[sure], (expected > 0)[sure])
    np.testing.assert_array_equal(mask.to_array(), mask.logits > 0)


def test_the_bbox_is_tight():
    mask = square_mask()
    assert mask.bbox == (10, 20, 15, 30)
    assert mask.crop.shape == (5, 10)
    assert mask.crop.all()
    assert mask.area == 50
    assert not mask.crop.flags.writeable


def test_an_empty_mask_has_an_empty_crop():
    mask = build(np.full((64, 64), -1, np.float32), Window(0, 5, 6, 69, 70), (100, 100))
    assert mask.bbox == (5, 6, 5, 6)
    assert mask.area == 0
    assert not mask.to_array().any()
    mask.paste_into(np.zeros((100, 100), int), 3)


def test_nan_is_not_the_object():
    assert build(np.full((64, 64), np.nan, np.float32), Window(0, 0, 0, 64, 64), (64, 64)).area == 0


def test_a_window_lies_where_it_was_read():
    logits = np.full((64, 64), -1, np.float32)
    logits[2:4, 3:6] = 1
    mask = build(logits, Window(0, 1000, 2000, 1064, 2064), (100_000, 100_000))
    assert mask.bbox == (1002, 2003, 1004, 2006)
    assert mask.window == (1000, 2000, 1064, 2064)
    assert mask.logits.shape == (64, 64)


def test_a_coarse_level_gives_a_mask_at_full_resolution():
    logits = np.full((64, 64), -1, np.float32)
    logits[:, 32:] = 1
    mask = build(logits, Window(1, 10, 20, 74, 84, 1, (4.0, 4.0)), (1000, 1000))
    assert mask.window == (40, 80, 296, 336)
    assert mask.bbox == (40, 80 + 128, 296, 336)


def test_pasting_writes_the_object_alone():
    mask, labels = square_mask(), np.full((40, 50), 7, np.uint16)
    mask.paste_into(labels, 9)
    np.testing.assert_array_equal(labels == 9, mask.to_array())
    assert (labels != 9).sum() == (labels == 7).sum()


def test_pasting_works_with_zarr():
    labels = zarr.create_array({}, shape=(40, 50), dtype="uint16", chunks=(16, 16))
    square_mask().paste_into(labels, 9)
    np.testing.assert_array_equal(labels[...] == 9, square_mask().to_array())


@pytest.mark.parametrize(
    ("labels", "value", "message"),
    [
        (np.zeros((40, 51), int), 1, "shape"),
        (np.zeros((40, 50)), 1, "float64"),
        (np.zeros((40, 50), np.uint8), 256, "uint32"),
        (np.zeros((40, 50), np.uint8), -1, "does not fit"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, value, message):
    with pytest.raises(ValueError, match=message):
        square_mask().paste_into(labels, value)
    assert not labels.any()


def test_a_huge_whole_array_is_refused():
    mask = build(np.ones((64, 64), np.float32), Window(0, 0, 0, 64, 64), (100_000, 100_000))
    with pytest.raises(ValueError, match="4 GiB"):
        mask.to_array()


def test_huge_logits_are_refused_and_frame_logits_are_there():
    window = Window(0, 0, 0, 100_000, 100_000, 1563)
    mask = build(np.full((64, 64), -1, np.float32), window, (100_000, 100_000))
    with pytest.raises(ValueError, match="frame_logits"):
        _ = mask.logits
    assert mask.frame_logits.shape == (64, 64)


def test_a_mask_without_logits_is_the_same_mask():
    mask = square_mask()
    light = mask.without_logits()
    np.testing.assert_array_equal(light.to_array(), mask.to_array())
    assert (light.bbox, light.score, light.window) == (mask.bbox, mask.score, mask.window)
    with pytest.raises(ValueError, match="again to get them"):
        _ = light.logits


def test_logits_of_another_size_are_refused():
    with pytest.raises(ValueError, match="valid part"):
        build(np.zeros((64, 63), np.float32), Window(0, 0, 0, 64, 64), (64, 64))


def test_a_large_object_costs_little_more_than_its_pixels():
    logits = np.full((64, 64), -1, np.float32)
    logits[16:48, 16:48] = 1
    window = Window(0, 0, 0, 16_384, 16_384, 256)
    tracemalloc.start()
    mask = build(logits, window, (100_000, 100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.area == pytest.approx(8192**2, rel=0.1)
    assert peak < 3 * mask.crop.nbytes + (32 << 20)
