from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_pisam.learn.crops import exact_box
from napari_pisam.learn.dataset import TrainingSamples, ValidationSamples
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


def test_validation_samples_are_fixed_and_exact(root: Path) -> None:
    images = load_images(root, part="validation")
    first, second = ValidationSamples(images, size=96), ValidationSamples(images[::-1], size=96)
    assert len(first) == len(second) > 0
    for i in range(len(first)):
        assert same(first[i], second[i])
        np.testing.assert_array_equal(
            first[i]["box"].numpy(), exact_box(first[i]["mask"][0].numpy() > 0)
        )


def test_validation_takes_one_object_per_image_while_images_last(root: Path) -> None:
    samples = ValidationSamples(load_images(root, part="all", names=["discs"]), objects=6, size=96)
    names = [image.name for image, _ in samples.entries]
    assert len(names) == len(set(names)) == 6
