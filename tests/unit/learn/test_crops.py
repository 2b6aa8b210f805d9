from __future__ import annotations

import numpy as np

from napari_pisam.learn.crops import cut, noisy_box, predictor_window, training_window


def test_a_cut_at_native_size_is_the_picture_itself() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    mask = pixels[..., 0] > 100
    image, out = cut(pixels, mask[5:35, 10:40], (5, 10, 35, 40), 30)
    np.testing.assert_array_equal(image, pixels[5:35, 10:40])
    np.testing.assert_array_equal(out, mask[5:35, 10:40])


def test_a_reduced_mask_is_where_the_object_covers_more_than_half() -> None:
    mask = np.random.default_rng(0).random((64, 64)) > 0.5
    _, out = cut(np.zeros((64, 64), np.uint8), mask, (0, 0, 64, 64), 16)
    cover = mask.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    clear = abs(cover - 0.5) > 0.02
    np.testing.assert_array_equal(out[clear], (cover > 0.5)[clear])


def test_training_windows_lie_inside_and_never_enlarge_more_than_six_times() -> None:
    rng = np.random.default_rng(0)
    box = np.array([100, 150, 110, 162])
    for _ in range(300):
        r0, c0, r1, c1 = training_window(box, (300, 400), 240, rng, whole=False)
        assert 0 <= r0 < r1 <= 300
        assert 0 <= c0 < c1 <= 400
        assert max(r1 - r0, c1 - c0) >= 240 / 6


def test_most_training_windows_hold_the_whole_object() -> None:
    rng = np.random.default_rng(0)
    box = np.array([100, 150, 160, 190])
    windows = [training_window(box, (300, 400), 128, rng, whole=False) for _ in range(300)]
    inside = [w[0] <= 100 and w[1] <= 150 and w[2] >= 160 and w[3] >= 190 for w in windows]
    assert 0.8 < np.mean(inside) < 0.98


def test_the_predictor_reads_a_small_image_whole_and_a_large_one_around_the_box() -> None:
    box = np.array([10, 2000, 60, 2050])
    assert predictor_window(box, (1024, 700)) == (0, 0, 1024, 700)
    r0, c0, r1, c1 = predictor_window(box, (3000, 4000))
    assert (r1 - r0, c1 - c0) == (1024, 1024)
    assert r0 == 0
    assert c0 <= 2000
    assert c1 >= 2050
    wide = predictor_window(np.array([0, 500, 100, 2500]), (3000, 4000))
    assert wide[3] - wide[1] == 3000


def test_noisy_boxes_stay_near_the_exact_one_and_a_quarter_is_exact() -> None:
    rng = np.random.default_rng(0)
    box = np.array([10, 20, 410, 60], np.float32)
    drawn = np.stack([noisy_box(box, (100, 415), rng) for _ in range(1000)])
    assert (abs(drawn - box) <= np.array([20, 4, 20, 4]) + 1e-3).all()
    assert drawn.min() >= 0
    assert drawn[:, 2].max() <= 415
    assert 0.2 < (drawn == box).all(axis=1).mean() < 0.3
