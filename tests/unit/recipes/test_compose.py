from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from recipes.tiny.compose import Bank, composite, load_bank
from training_sets import write_bank

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return write_bank(tmp_path)


def test_composites_repeat_and_have_visible_objects(bank: Bank) -> None:
    for seed in range(10):
        image, labels = composite(bank, 128, np.random.default_rng(seed))
        again, _ = composite(bank, 128, np.random.default_rng(seed))
        np.testing.assert_array_equal(image, again)
        assert image.shape == (128, 128, 3)
        assert labels.shape == (128, 128)
        areas = np.bincount(labels.ravel())[1:]
        assert areas.max() >= 30
        assert areas[areas > 0].min() >= 30


def test_a_composite_leaves_the_background_outside_its_objects(bank: Bank) -> None:
    background = np.full((128, 128, 3), 77, np.uint8)
    untouched = []
    for seed in range(20):
        image, labels = composite(bank, 128, np.random.default_rng(seed), background)
        far = ndimage.binary_dilation(labels > 0, iterations=24)
        untouched.append((image[~far] == 77).mean() if (~far).any() else 1.0)
    assert np.mean(untouched) > 0.9


def test_a_bank_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 sets of cut-outs"):
        load_bank(tmp_path)
