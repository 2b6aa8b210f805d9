from __future__ import annotations

import numpy as np
import pytest

from napari_pisam.learn.augment import augment_appearance


@pytest.mark.parametrize("shape", [(128, 128), (96, 128, 3)])
def test_grey_and_colour_pictures_of_any_size_come_back_as_rgb(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for seed in range(12):
        image = rng.integers(0, 200, shape).astype(np.uint8)
        result = augment_appearance(image, np.random.default_rng(seed))
        assert result.shape == (*shape[:2], 3)
        assert result.dtype == np.uint8
