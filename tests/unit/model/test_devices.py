"""On a GPU no stage mixes devices or waits for a value, and what crosses to it is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from fake_device import FakeDevice
from micro import MICRO
from napari_pisam.learn.objective import Objective
from napari_pisam.learn.starting import stiffen
from napari_pisam.model.deform_conv import ModulatedDeformConv2d, modulated_deform_conv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import CompactEncoder, TinyVitEncoder
from napari_pisam.model.weights_cache import WeightsCache
from napari_pisam.predict import predictor as predictors
from napari_pisam.predict.device import DeviceRunner, is_out_of_memory
from napari_pisam.predict.predictor import Predictor
from recipes.tiny.config import RecipeConfig
from recipes.tiny.optimizers import build_optimizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_pisam.model.pisam import PiSam

FRAME = MICRO.frame
IMAGE = torch.zeros(1, 3, 48, 64)
BOX = torch.tensor([[8.0, 10.0, 40.0, 50.0]])
POINTS = torch.tensor([[[20.0, 30.0], [50.0, 12.0]]])
LABELS = torch.tensor([[1, 0]])
MASK = torch.zeros(1, 1, FRAME // 4, FRAME // 4)
SWITCHES = {
    "box_maps": True,
    "appearance_prior": True,
    "fine_answer": True,
    "click_maps": True,
    "local_clicks": True,
    "residual": True,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "sam": {"kind": "sam"},
    "hqsam": {"kind": "hqsam"},
    "pisam": {"coarse_source": "sam+hq", "click_order": "rc"},
    "all switches": SWITCHES,
    "compact": {"kind": "sam", "encoder": CompactEncoder("hgnetv2_b0")},
    "tiny vit": {
        "kind": "sam",
        "encoder": TinyVitEncoder((8, 16, 16, 32), (1, 1, 1, 1), (1, 1, 2, 2)),
    },
}


@pytest.fixture(params=["cuda", "mps"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    # Values are looked at once after each change of weights (test_weights_cache); here are none.
    monkeypatch.setattr(WeightsCache, "of", lambda self, weights, make: make())
    monkeypatch.setattr(ModulatedDeformConv2d, "is_ordinary", lambda self: False)
    with FakeDevice(request.param) as device:
        yield device


def on(gpu: FakeDevice, **changes: Any) -> PiSam:
    model = build_model(replace(MICRO, **changes))
    gpu.take(model)
    return model


@pytest.mark.parametrize("network", NETWORKS)
@torch.inference_mode()
def test_every_stage_stays_on_its_device(network: str, gpu: FakeDevice) -> None:
    model = on(gpu, **NETWORKS[network])
    image, box, points, labels, mask = (
        value.to(gpu.device) for value in (IMAGE, BOX, POINTS, LABELS, MASK)
    )
    gpu.uploads.clear()
    encoded = model.encode(image)
    results = [encoded]
    for prompts in (
        {"boxes": box},
        {"points": points, "labels": labels, "multimask": True},
        {"boxes": box, "masks": mask},
    ):
        results.append(model.decode(encoded, **prompts))
    results.append(model.correct(encoded, results[1], points, labels, boxes=box))
    for one in results:
        for name, value in vars(one).items():
            if isinstance(value, torch.Tensor):
                kind = torch.bool if name == "is_fine" else torch.float32
                assert (value.device, value.dtype) == (gpu.device, kind)
    for region in (None, (2, 3, 9, 12)):
        fine = model.upscale(encoded, results[-1], region=region)
        assert fine.shape == (1, 1, FRAME, FRAME)
        assert (fine.device, fine.dtype) == (gpu.device, torch.float32)
    assert not gpu.uploads
    assert not gpu.downloads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_torchvision", [True, False])
def test_a_deformable_convolution_and_its_gradients_stay_on_their_device(
    dtype: torch.dtype, with_torchvision: bool, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_torchvision:
        monkeypatch.setattr(
            "napari_pisam.model.deform_conv.torchvision_deform_conv2d", lambda: None
        )
    shapes = ((2, 4, 9, 7), (2, 18, 9, 7), (2, 9, 9, 7), (5, 4, 3, 3))
    inputs = [gpu.like(torch.empty(shape, dtype=dtype)).requires_grad_() for shape in shapes]
    out = modulated_deform_conv2d(*inputs)
    assert (out.device, out.dtype, out.shape) == (gpu.device, dtype, (2, 5, 9, 7))
    out.sum().backward()
    for value in inputs:
        assert value.grad is not None
        assert (value.grad.device, value.grad.dtype) == (gpu.device, dtype)
    assert not gpu.uploads
    assert not gpu.downloads


@pytest.mark.parametrize(
    ("network", "optimizer"), [("sam", "adamw"), ("all switches", "adamw"), ("sam", "muon")]
)
def test_a_training_step_fetches_masks_for_its_clicks_and_nothing_else(
    network: str, optimizer: Any, gpu: FakeDevice, tmp_path: Path
) -> None:
    values = {"data": tmp_path, "output": tmp_path, "frame": FRAME, "max_clicks": 1}
    config = RecipeConfig(**values, optimizer=optimizer)
    model = on(gpu, **NETWORKS[network])
    stiffen(model, True)
    built = build_optimizer(model, config)
    objective = Objective(model, config, None).train()
    frames = {key: torch.zeros(2, 1, FRAME, FRAME) for key in ("mask", "valid")}
    batch = {"image": torch.zeros(2, 3, FRAME, FRAME), "box": BOX.expand(2, 4), **frames}
    batch = {key: value.to(gpu.device) for key, value in batch.items()}
    loss = objective({**batch, "position": torch.arange(2)}, 0)
    assert loss.device == gpu.device
    loss.backward()
    built.step()
    # What is true, where the image is, and what was found before the click, and with flaws drawn.
    assert set(gpu.downloads) == {(2, FRAME, FRAME)}
    assert len(gpu.downloads) <= 4


def predictor_on(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Predictor:
    monkeypatch.setattr(predictors, "select_device", lambda name: gpu.device)
    monkeypatch.setattr(predictors, "select_precision", lambda device, name: torch.float32)
    # The weights are there already: torch moves none that have no values.
    monkeypatch.setattr(DeviceRunner, "_move_model", lambda self: None)
    predictor = Predictor(on(gpu, **changes))
    predictor.set_image(np.zeros((48, 64, 3), np.uint8))
    return predictor


@pytest.mark.parametrize("network", ["sam", "all switches"])
def test_a_click_costs_two_uploads_and_one_mask(
    network: str, gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_on(gpu, monkeypatch, **NETWORKS[network])
    box = (10.0, 8.0, 40.0, 50.0)
    predictor.predict(box)
    assert gpu.uploads == [(1, 3, 48, 64), (1, 4)]
    # What is kept of the image, then the mask, and its score with which of two answers it is.
    mask = [(1, 48, 64), (1,) if network == "sam" else (2, 1)]
    assert gpu.downloads[-2:] == mask
    gpu.uploads.clear()
    gpu.downloads.clear()
    predictor.predict(box, [(20, 30)], [True])
    # A SAM decodes the box again, too.
    assert gpu.uploads == [(1, 1, 2), (1, 1), *([(1, 4)] if network == "sam" else [])]
    # The first click on a box may ask for the other of two answers.
    answers = [] if network == "sam" else [(2, FRAME // 4, FRAME // 4)]
    assert gpu.downloads == [*answers, *mask]
    gpu.uploads.clear()
    gpu.downloads.clear()
    predictor.predict(box, [(20, 30), (21, 30)], [True, True])
    assert gpu.downloads == mask
    gpu.uploads.clear()
    predictor.predict(box)
    assert not gpu.uploads


def test_weights_that_were_moved_tell_when_they_change() -> None:
    model = nn.BatchNorm2d(2)
    runner = DeviceRunner(model, torch.device("meta"), torch.float32)
    assert model.weight.device == runner.device
    assert not any(value.is_inference() for value in model.state_dict(keep_vars=True).values())


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_device_that_is_full_is_told_by_its_error(error: Exception, is_full: bool) -> None:
    assert is_out_of_memory(error) == is_full
