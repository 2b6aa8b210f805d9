from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_pisam.learn.batches import training_batches
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.crops import exact_box
from napari_pisam.learn.dataset import TrainingSamples
from recipes.tiny.sets import load_images
from training_sets import write_set

if TYPE_CHECKING:
    from pathlib import Path


def test_views_come_round_with_other_objects_and_boxes(tmp_path: Path) -> None:
    write_set(tmp_path, "cells", [f"b{i}" for i in range(3)], kind="instances")
    samples = TrainingSamples(load_images(tmp_path, part="all"), size=64)
    config = TrainConfig(output=tmp_path, views=4, batch=4, workers=0)
    rounds = list(islice(training_batches(samples, config, 0, 0, 1), 6))
    pictures = [{image.numpy().tobytes() for image in batch["image"]} for batch in rounds]
    # The same pictures every time around, each once.
    assert all(len(found) == 4 for found in pictures)
    assert len(set.union(*pictures)) == 4
    seen = {
        (image.numpy().tobytes(), mask.numpy().tobytes())
        for batch in rounds
        for image, mask in zip(batch["image"], batch["mask"], strict=True)
    }
    assert len(seen) > 4
    boxes = {tuple(box.tolist()) for batch in rounds for box in batch["box"]}
    assert len(boxes) > len(seen)
    for batch in rounds:
        for mask, box in zip(batch["mask"], batch["box"], strict=True):
            exact = exact_box(mask[0].numpy() > 0)
            extent = np.array([exact[2] - exact[0], exact[3] - exact[1]] * 2)
            assert (abs(box.numpy() - exact) <= 0.1 * extent + 1e-3).all()


def test_processes_divide_a_step_among_them(tmp_path: Path) -> None:
    write_set(tmp_path, "cells", ["a", "b"], kind="instances")
    samples = TrainingSamples(load_images(tmp_path, part="all"), size=64)
    config = TrainConfig(output=tmp_path, batch=2, workers=0)
    parts = [list(islice(training_batches(samples, config, 10, r, 2), 2)) for r in (0, 1)]
    whole = config.model_copy(update={"batch": 4})
    for step, batch in enumerate(islice(training_batches(samples, whole, 10, 0, 1), 2)):
        assert batch["position"].tolist() == [10 + 4 * step + i for i in range(4)]
        for key, value in batch.items():
            assert torch.equal(value, torch.cat([part[step][key] for part in parts]))
