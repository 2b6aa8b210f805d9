"""How many processes load samples, and that it does not matter to a step."""

from __future__ import annotations

from napari_pisam.learn import batches
from napari_pisam.learn.batches import training_batches, usable_cores
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.dataset import TrainingSamples
from recipes.tiny.sets import load_images
from training_sets import write_set


def test_cores_that_the_process_may_not_use_do_not_count(monkeypatch):
    monkeypatch.setattr(batches.os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1


def test_one_core_loads_what_two_would(tmp_path, monkeypatch):
    config = TrainConfig(output=tmp_path, batch=2, workers=2)
    write_set(tmp_path, "cells", ["a", "b"], kind="instances")
    samples = TrainingSamples(load_images(tmp_path, part="all"), size=64)
    expected = next(iter(training_batches(samples, config, 4, 0, 1)))["position"]
    # Warnings are errors here: torch gives one about more processes than cores.
    monkeypatch.setattr(batches.os, "sched_getaffinity", lambda _: {0}, raising=False)
    loader = training_batches(samples, config, 4, 0, 1)
    assert loader.num_workers == 1
    assert next(iter(loader))["position"].tolist() == expected.tolist() == [4, 5]
