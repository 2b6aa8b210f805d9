from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_pisam.measure.metrics import iou
from recipes.tiny.compose import Bank
from recipes.tiny.pseudo import regions
from recipes.tiny.samples import MixedSamples

if TYPE_CHECKING:
    from pathlib import Path


def discs(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A picture of four discs on grey, and where they are, 1 to 4."""
    ys, xs = np.mgrid[:size, :size]
    picture = np.full((size, size, 3), 90, np.uint8)
    truth = np.zeros((size, size), np.int32)
    for number, (row, col) in enumerate([(34, 34), (34, 92), (92, 34), (92, 92)], start=1):
        inside = np.hypot(ys - row, xs - col) < 18
        truth[inside] = number
        picture[inside] = [(200, 60, 60), (60, 200, 60), (60, 60, 200), (220, 220, 220)][number - 1]
    noise = np.random.default_rng(0).integers(0, 9, picture.shape, dtype=np.uint8)
    return picture + noise, truth


def test_regions_are_the_things_in_a_picture() -> None:
    picture, truth = discs()
    ious = []
    # Of random coarseness: a fine one may divide a disc.
    for seed in range(8):
        found = regions(picture, np.random.default_rng(seed))
        for number in range(1, 5):
            disc = truth == number
            region = found == max(1, np.bincount(found[disc]).argmax())
            ious.append(iou(region, disc))
    assert np.median(ious) > 0.85


def test_a_picture_without_contrast_has_no_regions() -> None:
    flat = np.full((96, 96, 3), 120, np.uint8)
    assert not regions(flat, np.random.default_rng(0)).any()


def test_as_many_samples_as_asked_for_are_of_pictures_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "discs.png"
    Image.fromarray(discs()[0]).save(path)
    bank = Bank(textures=((path.read_bytes(),),), kinds=("cells",))
    samples = MixedSamples([], size=64, weights=(0, 1, 0), bank=bank, pseudo=0.5)
    sources = [samples.draw(np.random.default_rng((3, i)), None)[2] for i in range(60)]
    assert set(sources) == {"pseudo", "synthetic:cells"}
    assert 18 < sources.count("pseudo") < 42
