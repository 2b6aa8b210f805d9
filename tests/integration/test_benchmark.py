"""The benchmark: one measurement beside segment_anything's predictor, and the report of many."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam
from segment_anything.modeling import TwoWayTransformer as Transformer
from typer.testing import CliRunner

from micro import MICRO, micro_model
from napari_pisam.cli import benchmark, benchmark_worker
from napari_pisam.cli.app import app
from napari_pisam.weights.timings import kept_seconds

MACHINE = {"threads": 2, "torch": "2", "device": "cpu", "device_name": None, "precision": "float32"}
TIME = {"p50": 0.5, "p95": 0.75, "seconds": [0.5]}
STEP = {"ours": TIME, "reference": TIME, "ratio": 1.0}
TASK = {"model": "micro", "reference": "vit_b", "device": "cpu", "precision": "fp32", "repeats": 2}


def small_sam():
    """segment_anything's own model in the micro model's size."""
    torch.manual_seed(0)
    vit, grid = MICRO.encoder, MICRO.frame // 16
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=MICRO.frame,
            embed_dim=vit.embed_dim,
            depth=vit.depth,
            num_heads=vit.num_heads,
            out_chans=256,
            use_rel_pos=True,
            window_size=vit.window_size,
            global_attn_indexes=vit.global_attn_indexes,
        ),
        prompt_encoder=PromptEncoder(256, (grid, grid), (MICRO.frame, MICRO.frame), 16),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=Transformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
        ),
    ).eval()


@pytest.fixture
def small(monkeypatch):
    """Worker and reference in the micro size, on a picture that fits their frame."""
    monkeypatch.setattr(benchmark_worker, "build_reference", lambda name: (small_sam(), "random"))
    monkeypatch.setattr(benchmark_worker, "get_variant", lambda name: micro_variant(name))
    monkeypatch.setattr(benchmark_worker, "BOX", np.array([10.0, 12.0, 40.0, 44.0]))
    monkeypatch.setattr(benchmark_worker, "CLICK", np.array([20.0, 24.0]))
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(benchmark_worker, "picture", lambda: picture)


def micro_variant(kind):
    return micro_model(kind=kind, residual=kind == "pisam").variant


@pytest.mark.parametrize("kind", ["sam", "pisam"])
def test_masks_with_the_same_weights_are_those_of_sam(small, kind):
    result = benchmark_worker.measure_time(TASK | {"model": kind})
    assert result["mask_iou"] > 0.99
    assert result["weights"] == "random"


def test_each_step_is_timed_in_turn(small):
    result = benchmark_worker.measure_time(TASK | {"model": "hqsam"})
    assert result["mask_iou"] is None
    for step in benchmark.STEPS:
        for who in ("ours", "reference"):
            assert len(result[step][who]["seconds"]) == TASK["repeats"]
            assert 0 < result[step][who]["p50"] <= result[step][who]["p95"]
        assert result[step]["ratio"] > 0
    assert result["machine"]["device"] == "cpu"


@pytest.mark.parametrize("names", [("sam", None), (None, "vit_b")])
def test_memory_is_measured(small, names):
    task = TASK | {"model": names[0], "reference": names[1]}
    result = benchmark_worker.measure_memory(task)
    assert result["peak_bytes"] >= result["imports_bytes"] > 1e7


def test_time_of_one_image_is_measured(small):
    assert benchmark_worker.measure_once(TASK | {"model": "sam"})["seconds"] > 0


def test_without_a_gpu_there_is_nothing_to_check(small):
    assert benchmark_worker.check_device(TASK | {"model": "sam"}) == {
        "device": "cpu",
        "overlaps": {},
    }


def test_masks_of_a_device_are_compared_also_when_its_memory_is_full(small):
    found = benchmark_worker.compare_devices("pisam", "cpu", "fp32")
    assert (found["box"], found["click"]) == (1.0, 1.0)
    # The CPU's own precision, which may be bf16.
    assert found["memory full"] > benchmark.LEAST_IOU


def test_a_device_that_computes_otherwise_is_found(small, monkeypatch):
    # The second of the three networks is the one on the device.
    networks = [(micro_model(seed), False) for seed in (0, 1, 0)]
    monkeypatch.setattr(benchmark_worker, "build_ours", lambda name, sam: networks.pop(0))
    found = benchmark_worker.compare_devices("pisam", "cpu", "fp32")
    assert max(found["box"], found["click"]) < benchmark.LEAST_IOU
    assert found["memory full"] > benchmark.LEAST_IOU


def test_picture_is_a_frame_of_colours():
    picture = benchmark_worker.picture()
    assert (picture.shape, picture.dtype) == ((1024, 1024, 3), np.uint8)
    assert picture.std() > 10


@pytest.mark.parametrize(
    ("name", "reference"), [("tiny", "vit_b"), ("sam_vit_l", "vit_l"), ("pisam_vit_h", "vit_h")]
)
def test_reference_has_the_same_encoder(name, reference):
    assert benchmark.reference_of(name) == reference


@pytest.fixture
def tasks(monkeypatch, tmp_path):
    """Canned measurements; yields the tasks that were asked for."""
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    given = []

    def measure(**task):
        given.append((task["task"], task["model"] or task["reference"]))
        if task["task"] == "memory":
            return {"peak_bytes": 10**9, "imports_bytes": 10**8, "device_peak_bytes": None}
        steps = dict.fromkeys(benchmark.STEPS, STEP)
        return {"weights": "random", "mask_iou": 0.995, "machine": dict(MACHINE)} | steps

    monkeypatch.setattr(benchmark, "_measure", measure)
    return given


def test_benchmark_prints_a_table_and_writes_json(tasks, tmp_path):
    path = tmp_path / "out.json"
    arguments = ["benchmark", "--models", "tiny,sam_vit_b", "--json", str(path), "--repeats", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert "sam_vit_b" in result.stdout
    assert "0.500 / 0.750" in result.stdout
    written = json.loads(path.read_text())
    assert list(written["models"]) == ["tiny", "sam_vit_b"]
    assert written["machine"]["threads"] == 2
    assert written["machine"]["cpu"]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["out.json"]


def test_measured_times_are_kept_for_the_list_of_models(tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path))
    assert CliRunner().invoke(app, ["benchmark", "--models", "sam_vit_b"]).exit_code == 0
    assert kept_seconds() == {"sam_vit_b": 1.0}  # an image encoded, and a box


def test_reference_is_measured_once(tasks):
    assert CliRunner().invoke(app, ["benchmark", "--models", "tiny,sam_vit_b"]).exit_code == 0
    assert tasks.count(("memory", "vit_b")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "sam_vit_x"], "sam_vit_x"),
        (["--json", "nowhere/out.json"], "does not exist"),
        (["--json", "out.txt"], "ends in .json"),
    ],
)
def test_mistakes_are_found_before_measuring(tasks, arguments, message):
    result = CliRunner().invoke(app, ["benchmark", *arguments])
    assert (result.exit_code, tasks) == (2, [])
    assert message in result.stderr


def test_unknown_device_is_status_2():
    result = CliRunner().invoke(app, ["benchmark", "--models", "tiny", "--device", "tpu"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The device is 'tpu'")


def run_check(monkeypatch, found, *arguments):
    monkeypatch.setattr(benchmark, "_measure", lambda **task: found)
    return CliRunner().invoke(app, ["benchmark", "--check", *arguments])


def test_a_check_without_a_gpu_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path))
    result = run_check(monkeypatch, {"device": "cpu", "overlaps": {}})
    assert result.exit_code == 0
    assert "no GPU that torch can use" in result.stdout


@pytest.mark.parametrize(("overlap", "status"), [(0.995, 0), (0.98, 1)])
def test_a_check_fails_where_masks_differ(overlap, status, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path))
    overlaps = {"box": 1.0, "click": overlap, "memory full": 1.0}
    result = run_check(monkeypatch, {"device": "cuda", "overlaps": overlaps})
    assert result.exit_code == status
    assert f"click {overlap:.4f}" in result.stdout
    assert "sam_vit_b: left out" in result.stdout
    assert ("Choose the device cpu" in result.stderr) == bool(status)
