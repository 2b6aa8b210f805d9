from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.learn.augment import augment_appearance, augment_geometry
from recipes.tiny.rendering import bundled_pictures
from recipes.tiny.synthetic import KINDS, generate


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_an_object_and_a_background_in_range(kind: str) -> None:
    for seed in range(4):
        image, labels = generate(kind, 96, np.random.default_rng(seed))
        assert labels.shape == (96, 96)
        assert labels.dtype == np.int32
        assert image.shape in {(96, 96), (96, 96, 3)}
        assert image.dtype == np.uint8
        assert labels.min() >= 0
        assert 30 <= np.count_nonzero(labels)
        assert len(np.unique(labels)) > 1


def test_the_same_seed_draws_the_same_image() -> None:
    for seed in range(6):
        first = generate(None, 128, np.random.default_rng(seed))
        second = generate(None, 128, np.random.default_rng(seed))
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def test_another_seed_draws_another_image() -> None:
    first, _ = generate("cells", 64, np.random.default_rng(0))
    second, _ = generate("cells", 64, np.random.default_rng(1))
    assert first.shape != second.shape or (first != second).any()


def test_both_polarities_and_both_grey_and_colour_occur() -> None:
    signs, dimensions = set(), set()
    for seed in range(40):
        image, labels = generate("nuclei", 64, np.random.default_rng(seed))
        dimensions.add(image.ndim)
        grey = image if image.ndim == 2 else image.mean(axis=2)
        signs.add(bool(grey[labels > 0].mean() > grey[labels == 0].mean()))
    assert signs == {True, False}
    assert dimensions == {2, 3}


def test_networks_are_one_object() -> None:
    for kind in ("network", "vessels", "cracks"):
        _, labels = generate(kind, 128, np.random.default_rng(3))
        assert set(np.unique(labels)) == {0, 1}


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected None or one of cells"):
        generate("clouds", 64, np.random.default_rng(0))


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 px"):
        generate(None, 8, np.random.default_rng(0))


def test_bundled_pictures_are_found_without_a_download() -> None:
    pictures = bundled_pictures()
    assert len(pictures) >= 5
    assert max(max(picture.size) for picture in pictures) <= 512


def test_geometry_moves_image_and_mask_alike() -> None:
    # The picture is its own mask, so the two agree after any flip or turn.
    mask = np.zeros((96, 64), bool)
    mask[30:60, 20:35] = True
    mask[30:40, 35:44] = True
    image = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    for seed in range(40):
        turned, moved = augment_geometry(image, mask, np.random.default_rng(seed))
        np.testing.assert_array_equal(turned[..., 0] > 127, moved)
        assert moved.any()


def test_a_rotation_never_mirrors_a_second_copy_of_an_object() -> None:
    mask = np.zeros((96, 96), bool)
    mask[:20, :20] = True
    image = np.zeros((96, 96, 3), np.uint8)
    for seed in range(60):
        _, moved = augment_geometry(image, mask, np.random.default_rng(seed))
        assert moved.sum() <= 1.1 * mask.sum()


def test_appearance_keeps_shape_and_type_and_leaves_its_input_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3)).astype(np.uint8)
    before = image.copy()
    for seed in range(60):
        changed = augment_appearance(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_appearance_of_strength_zero_is_the_identity() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert augment_appearance(image, np.random.default_rng(0), 0.0) is image
