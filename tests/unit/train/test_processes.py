"""Several processes, and starting from weights."""

from __future__ import annotations

import multiprocessing
import socket
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from micro import micro_model
from napari_pisam.model.checkpoint import save_checkpoint
from napari_pisam.train import engine
from napari_pisam.train.config import TrainConfig

if TYPE_CHECKING:
    from pathlib import Path


def _share(rank: int, port: int, out: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.fill_(0)
    if rank == 0:
        # The other process's prompts did not reach the bias.
        layer.bias.grad = torch.tensor([1.0, 3.0])
    layer.weight.grad = torch.full((2, 3), float(rank + 1))
    clock = engine._average(layer, 10.0 * (rank + 1))  # type: ignore[arg-type]
    np.savez(f"{out}/{rank}.npz", weight=layer.weight.grad, bias=layer.bias.grad, clock=clock)
    dist.destroy_process_group()


def test_two_processes_end_with_the_mean_of_their_gradients_and_clocks(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_share, args=(r, port, str(tmp_path))) for r in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    for rank in (0, 1):
        found = np.load(tmp_path / f"{rank}.npz")
        np.testing.assert_allclose(found["weight"], 1.5)
        np.testing.assert_allclose(found["bias"], [0.5, 1.5])
        assert found["clock"] == pytest.approx(15.0)


def test_a_run_starts_from_shipped_weights(tmp_path: Path) -> None:
    trained, fresh = micro_model(seed=3), micro_model(seed=0)
    save_checkpoint(tmp_path / "w.safetensors", trained, licence="MIT")
    config = TrainConfig(data=tmp_path, output=tmp_path / "run", initial=tmp_path / "w.safetensors")
    engine._load_initial(fresh, config)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value)
