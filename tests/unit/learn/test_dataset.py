from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from napari_pisam.learn import dataset
from napari_pisam.learn.crops import exact_box
from napari_pisam.learn.dataset import TrainingSamples, ValidationSamples
from napari_pisam.learn.store import load_images
from training_sets import SHARED, needs_shared, same, write_bank, write_sets

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.learn.compose import Bank


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sets(tmp_path)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return write_bank(tmp_path)


def test_training_samples_have_the_documented_form(root: Path, bank: Bank) -> None:
    samples = TrainingSamples(load_images(root), size=96, bank=bank)
    sources = set()
    for sample in islice(samples, 60):
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
    first = TrainingSamples(images, size=64, bank=bank, seed=5)
    second = TrainingSamples(images, size=64, bank=bank, seed=5)
    for index in (7, 0, 3, 12):
        assert same(first.sample(index), second.sample(index))
    assert not same(first.sample(0), TrainingSamples(images, size=64, seed=6).sample(0))


def test_a_later_start_continues_the_stream(root: Path) -> None:
    images = load_images(root)
    stream = list(islice(TrainingSamples(images, size=64), 8))
    resumed = list(islice(TrainingSamples(images, size=64, start=5), 3))
    assert all(same(a, b) for a, b in zip(stream[5:], resumed, strict=True))


def test_processes_share_one_stream() -> None:
    stream = list(islice(TrainingSamples([], size=64), 4))
    for rank in (0, 1):
        own = list(islice(TrainingSamples([], size=64, rank=rank, world=2), 2))
        assert all(same(a, b) for a, b in zip(stream[rank::2], own, strict=True))


def test_workers_share_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = list(islice(TrainingSamples([], size=64), 4))
    for own in (0, 1):
        worker = SimpleNamespace(num_workers=2, id=own)
        monkeypatch.setattr(dataset, "get_worker_info", lambda worker=worker: worker)
        part = list(islice(TrainingSamples([], size=64), 2))
        assert all(same(a, b) for a, b in zip(stream[own::2], part, strict=True))


def test_samples_come_out_of_a_worker_process_unchanged() -> None:
    loader = DataLoader(TrainingSamples([], size=64), batch_size=None, num_workers=1)
    stream = islice(TrainingSamples([], size=64), 2)
    assert all(same(a, b) for a, b in zip(stream, islice(loader, 2), strict=True))


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(ValueError, match="with material to draw from"):
        TrainingSamples([], weights=(1.0, 0.0, 0.0))


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


@needs_shared
def test_a_real_set_gives_samples() -> None:
    images = load_images(SHARED, names=["pebbles", "octa_faz"])
    assert {image.kind for image in images} == {"I", "B"}
    samples = TrainingSamples(images, size=128, weights=(1.0, 0.0, 0.0))
    for sample in islice(samples, 8):
        assert sample["mask"].any()
