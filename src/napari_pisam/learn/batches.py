"""The stream of batches: which samples a step gets, whatever number of processes share it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_pisam.learn.crops import exact_box, noisy_box
from napari_pisam.learn.stopping import leave_signals_to_the_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_pisam.learn.config import TrainConfig
    from napari_pisam.learn.dataset import TrainingSamples

Batch = dict[str, Any]


def to_batch(samples: Sequence[dict[str, Any]]) -> Batch:
    """Stack samples.

    Returns
    -------
    dict
        ``image`` (B, 3, S, S) float 0..255; ``mask`` and ``valid`` (B, 1, S, S) float; ``box``
        (B, 4) float; ``position`` (B,) int, the place in the stream, 0 where there is none.
    """
    image = torch.stack([torch.as_tensor(s["image"]) for s in samples])
    mask = torch.stack([torch.as_tensor(s["mask"]) for s in samples]).float()
    box = torch.stack([torch.as_tensor(s["box"]) for s in samples]).float()
    valid = torch.zeros_like(mask)
    for i, sample in enumerate(samples):
        height, width = (int(v) for v in sample["valid"])
        valid[i, :, :height, :width] = 1
    position = torch.tensor([int(s.get("position", 0)) for s in samples])
    return {"image": image.float(), "mask": mask, "valid": valid, "box": box, "position": position}


class _Positions(Dataset[Any]):
    """Samples by their position in the run's stream."""

    def __init__(self, samples: TrainingSamples[Any], views: int) -> None:
        self.samples = samples
        self.views = views

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not self.views:
            return {**self.samples.sample(position), "position": position}
        rng = np.random.default_rng((self.samples.seed, 3, position))
        # Every view once before any again, in another order each time around.
        turn, place = divmod(position, self.views)
        order = np.random.default_rng((self.samples.seed, 4, turn)).permutation(self.views)
        sample = dict(self.samples.sample(int(order[place]), choose=rng))
        rows, cols = (int(v) for v in sample["valid"])
        box = noisy_box(exact_box(sample["mask"][0].numpy() > 0), (rows, cols), rng)
        return {**sample, "box": torch.from_numpy(box.copy()), "position": position}


class _StepSampler(Sampler[list[int]]):
    """Positions of this process's share of every step, from a position on, without end."""

    def __init__(self, start: int, batch: int, rank: int, world: int) -> None:
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start + self.rank * self.batch
        while True:
            yield list(range(first, first + self.batch))
            first += self.world * self.batch


def usable_cores() -> int:
    """Count the cores that this process may run on: fewer than the machine has, at times."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def training_batches(
    samples: TrainingSamples[Any], config: TrainConfig, start: int, rank: int, world: int
) -> DataLoader[Any]:
    """Make the endless batches of one of several processes.

    Together, the processes' batches of one step hold the next ``world * config.batch`` samples
    of the stream: the same as one process with a batch of that size. Which samples a step gets
    does not depend on the number of loader processes.

    Parameters
    ----------
    samples
        Draws a sample for any position.
    config
        Batch, views and workers; of the latter not more than there are cores.
    start
        Position of the first sample, as many as were seen before.
    rank, world
        Which process of how many.
    """
    workers = min(config.workers, usable_cores())
    return DataLoader(
        _Positions(samples, config.views),
        batch_sampler=_StepSampler(start, config.batch, rank, world),
        num_workers=workers,
        collate_fn=to_batch,
        prefetch_factor=4 if workers else None,
        worker_init_fn=leave_signals_to_the_parent if workers else None,
    )
