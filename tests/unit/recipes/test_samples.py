"""Samples of three origins: their form, that they repeat, and what there is to draw from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_pisam.learn.crops import exact_box
from napari_pisam.model.variants import Focus
from recipes.tiny.samples import (
    MixedSamples,
    crossed_by_lines,
    part_of_network,
    thin_entries,
    validation_samples,
)
from recipes.tiny.sets import load_images
from training_sets import SHARED, needs_shared, same, write_bank, write_set, write_sets

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.tiny.compose import Bank


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return write_bank(tmp_path)


def test_training_samples_have_the_documented_form(root: Path, bank: Bank) -> None:
    samples = MixedSamples(load_images(root), size=96, bank=bank)
    sources = set()
    for sample in map(samples.sample, range(60)):
        assert sample["image"].shape == (3, 96, 96)
        assert sample["image"].dtype == torch.uint8
        assert sample["mask"].shape == (1, 96, 96)
        assert set(sample["mask"].unique().tolist()) == {0, 1}
        rows, cols = sample["valid"].tolist()
        assert max(rows, cols) == 96
        for key in ("image", "mask"):
            assert not sample[key][:, rows:].any()
            assert not sample[key][:, :, cols:].any()
        exact = exact_box(sample["mask"][0].numpy() > 0)
        box = sample["box"].numpy()
        assert box.dtype == np.float32
        extent = np.array([exact[2] - exact[0], exact[3] - exact[1]] * 2)
        assert (abs(box - exact) <= 0.1 * extent + 1e-3).all()
        assert (box >= 0).all()
        assert (box[2:] <= [cols, rows]).all()
        sources.add(sample["source"].split(":")[0])
    assert sources == {"discs", "cells", "synthetic", "composite"}


def test_samples_repeat_by_seed_and_index(root: Path, bank: Bank) -> None:
    images = load_images(root)
    first = MixedSamples(images, size=64, bank=bank, seed=5)
    second = MixedSamples(images, size=64, bank=bank, seed=5)
    for index in (7, 0, 3, 12):
        assert same(first.sample(index), second.sample(index))
    assert not same(first.sample(0), MixedSamples(images, size=64, seed=6).sample(0))


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="with something to draw from"):
        MixedSamples([], weights=(1.0, 0.0, 0.0))


@needs_shared
def test_a_real_set_gives_samples() -> None:
    images = load_images(SHARED, names=["pebbles", "octa_faz"])
    assert {image.kind for image in images} == {"instances", "binary"}
    samples = MixedSamples(images, size=128, weights=(1.0, 0.0, 0.0))
    for sample in map(samples.sample, range(8)):
        assert sample["mask"].any()


def test_lines_are_drawn_as_often_as_is_wanted(tmp_path: Path) -> None:
    write_sets(tmp_path)
    (tmp_path / "sets.toml").write_text(
        '[discs]\nkind = "binary"\nuse = "training"\nthin = true\n'
        '[cells]\nkind = "instances"\nuse = "training"\n'
    )
    images = load_images(tmp_path)
    samples = MixedSamples(images, size=64, weights=(1, 0, 0), thin_share=1.0)
    assert {samples.sample(i)["source"] for i in range(8)} == {"discs"}
    for item in images:
        assert (len(thin_entries(item)) > 0) == (item.source == "discs")


def test_a_part_of_a_network_is_inside_it() -> None:
    mask = np.zeros((80, 80), bool)
    mask[::8] = mask[:, ::8] = True
    for seed in range(8):
        part = part_of_network(mask, np.random.default_rng(seed))
        assert (part <= mask).all()
        assert 30 <= part.sum() < mask.sum()


def test_lines_cross_what_is_compact_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    image = np.full((96, 96, 3), 120, np.uint8)
    rows, cols = np.ogrid[:96, :96]
    disc = (rows - 48) ** 2 + (cols - 48) ** 2 < 30**2
    crossed, _ = crossed_by_lines(image, disc, rng)
    assert (crossed[disc] != image[disc]).any()
    meant = 0
    for _ in range(40):
        crossed, mask = crossed_by_lines(image, disc, rng)
        assert crossed.dtype == np.uint8
        if (mask != disc).any():
            meant += 1
            assert mask[18:79, 18:79].sum() == mask.sum() >= 30
            assert (crossed[mask] != image[mask]).any()
    assert 0 < meant < 20
    line = abs(rows - cols) < 3
    same, mask = crossed_by_lines(image, line, rng)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(mask, line)


def test_validation_samples_are_fixed_and_exact(root: Path) -> None:
    images = load_images(root, part="validation")
    first, second = validation_samples(images, size=96), validation_samples(images[::-1], size=96)
    assert len(first) == len(second) > 0
    for i in range(len(first)):
        assert same(first[i], second[i])
        np.testing.assert_array_equal(
            first[i]["box"].numpy(), exact_box(first[i]["mask"][0].numpy() > 0)
        )


def test_validation_takes_one_object_per_image_while_images_last(root: Path) -> None:
    samples = validation_samples(load_images(root, part="all", names=["discs"]), objects=6, size=96)
    names = [image.name for image, _, _ in samples.entries]
    assert len(names) == len(set(names)) == 6


def test_a_network_with_a_focus_is_validated_in_its_own_windows(tmp_path: Path) -> None:
    write_set(tmp_path, "cells", ["a", "b"], kind="instances", side=400)
    images = load_images(tmp_path, part="all")
    samples = validation_samples(images, size=96, objects=4, focus=Focus(factor=2.0))
    assert len(samples)
    for sample in (samples[i] for i in range(len(samples))):
        box = sample["box"].numpy()
        side = max(box[2] - box[0], box[3] - box[1])
        # Objects of more than 16 px fill half of the frame, unless the image ends before.
        assert 0.45 * 96 < side
