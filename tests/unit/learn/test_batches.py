"""How many processes load samples, and that it does not matter to a step."""

from __future__ import annotations

import pytest

from napari_pisam.learn import batches
from napari_pisam.learn.batches import loader_processes, training_batches, usable_cores
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.dataset import TrainingSamples
from recipes.tiny.sets import load_images
from training_sets import write_set


@pytest.mark.parametrize(("wanted", "cores", "given"), [(2, 1, 1), (2, 8, 2), (0, 1, 0)])
def test_there_are_no_more_loader_processes_than_cores(monkeypatch, wanted, cores, given):
    monkeypatch.setattr(batches, "usable_cores", lambda: cores)
    assert loader_processes(wanted) == given


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
