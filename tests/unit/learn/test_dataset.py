from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_pisam.learn.dataset import TrainingSamples
from recipes.tiny.sets import load_images
from training_sets import same, write_sets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


def test_samples_repeat_by_seed_and_index(root: Path) -> None:
    images = load_images(root)
    first, second = (TrainingSamples(images, size=64, seed=5) for _ in range(2))
    for index in (7, 0, 3, 12):
        assert same(first.sample(index), second.sample(index))
    assert not same(first.sample(0), TrainingSamples(images, size=64, seed=6).sample(0))


def test_nothing_to_draw_from_is_said() -> None:
    with pytest.raises(ValueError, match="no images to draw"):
        TrainingSamples([]).sample(0)
