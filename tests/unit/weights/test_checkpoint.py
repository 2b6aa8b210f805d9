from __future__ import annotations

import json
import os
import resource
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from micro import MICRO
from micro_checkpoints import make_micro_a_variant, masks, micro_model, same, torch_file
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights import checkpoint as ck
from napari_pisam.weights.checkpoint import initialise_pisam_from, load_into
from napari_pisam.weights.checkpoint_format import read_checkpoint, save_checkpoint
from napari_pisam.weights.checkpoint_header import CheckpointHeader
from napari_pisam.weights.files import CheckpointError, file_sha256

DECODER = ("mask_decoder.", "rgb_embedding.")


@pytest.fixture
def pisam():
    return micro_model(seed=1)


@pytest.fixture(autouse=True)
def micro_is_a_variant(monkeypatch):
    make_micro_a_variant(monkeypatch)


# --- our own files ---------------------------------------------------------------------------


def test_saved_weights_come_back_unchanged(tmp_path, pisam):
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(path, pisam, licence="MIT", training_summary={"steps": 3})
    checkpoint = read_checkpoint(path)
    fresh = load_into(micro_model(seed=2), checkpoint)
    assert same(fresh.state_dict(), pisam.state_dict())
    assert digest == checkpoint.sha256 == file_sha256(path)
    assert checkpoint.format == "napari-pisam"
    assert checkpoint.header.training == {"steps": 3}
    assert checkpoint.header.licence == "MIT"
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_switches_of_the_variant_are_saved_and_restored(tmp_path):
    model = micro_model(residual=True, coarse_source="sam+hq", click_order="rc")
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT")
    fresh = load_into(micro_model(), read_checkpoint(tmp_path / "a.safetensors"))
    assert fresh.variant == model.variant


@pytest.mark.parametrize("drawn", [True, False])
def test_a_header_from_before_local_clicks_is_read(drawn):
    values = CheckpointHeader("tiny", "MIT", switches={"click_maps": drawn}).to_metadata()
    assert CheckpointHeader.from_metadata(values).switches["local_clicks"] is drawn


def test_half_precision_file_gives_a_float32_model(tmp_path, pisam):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, pisam, licence="MIT", dtype=torch.float16)
    checkpoint = read_checkpoint(path)
    gaussian = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert checkpoint.tensors["mask_decoder.hf_token.weight"].dtype == torch.float16
    assert checkpoint.tensors[gaussian].dtype == torch.float32
    fresh = load_into(micro_model(seed=2), checkpoint)
    for key, value in fresh.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, pisam.state_dict()[key], rtol=1e-3, atol=1e-6)


def test_value_too_large_for_half_precision_stays_float32(tmp_path, pisam):
    with torch.no_grad():
        pisam.mask_decoder.hf_token.weight[0, 0] = 1e6
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, pisam, licence="MIT", dtype=torch.float16)
    assert read_checkpoint(path).tensors["mask_decoder.hf_token.weight"][0, 0] == 1e6


def test_decoder_saved_alone_needs_its_base(tmp_path, pisam):
    base = tmp_path / "base.safetensors"
    digest = save_checkpoint(base, pisam, licence="MIT")
    path = tmp_path / "decoder.safetensors"
    save_checkpoint(path, pisam, licence="MIT", base_sha256=digest, only=DECODER)
    checkpoint = read_checkpoint(path)
    assert checkpoint.needs_base
    assert checkpoint.header.only == DECODER
    with pytest.raises(CheckpointError, match="base="):
        load_into(micro_model(seed=2), checkpoint)
    fresh = load_into(micro_model(seed=2), checkpoint, base=base)
    assert same(fresh.state_dict(), pisam.state_dict())


def test_another_base_than_the_recorded_one_is_refused(tmp_path, pisam):
    base = tmp_path / "base.safetensors"
    save_checkpoint(base, pisam, licence="MIT")
    path = tmp_path / "decoder.safetensors"
    save_checkpoint(path, pisam, licence="MIT", base_sha256="0" * 64, only=DECODER)
    with pytest.raises(CheckpointError, match="trained on"):
        load_into(micro_model(), read_checkpoint(path), base=base)


def test_state_dict_is_saved_with_its_variant(tmp_path, pisam):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="without its variant"):
        save_checkpoint(path, pisam.state_dict(), licence="MIT")
    save_checkpoint(path, pisam.state_dict(), variant=pisam.variant, licence="MIT")
    assert read_checkpoint(path).variant == "micro"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pth", {"licence": "MIT"}, r"\.safetensors"),
        ("a.safetensors", {"licence": ""}, "licence"),
        ("a.safetensors", {"licence": "MIT", "only": ["decoder."]}, r"decoder\."),
    ],
)
def test_wrong_argument_of_save_is_named(tmp_path, pisam, name, options, message):
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / name, pisam, **options)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_saved(tmp_path, pisam):
    with torch.no_grad():
        pisam.mask_decoder.hf_token.weight[0, 3] = float("nan")
    with pytest.raises(ValueError, match=r"hf_token\.weight"):
        save_checkpoint(tmp_path / "a.safetensors", pisam, licence="MIT")
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file(tmp_path, pisam, monkeypatch):
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(path, pisam, licence="MIT")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, micro_model(seed=9), licence="MIT")
    assert file_sha256(path) == digest
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_disk_that_fills_up_is_what_the_system_calls_it(tmp_path, pisam):
    """Not what a serializer calls it: a limit on the size of files stands for a full disk."""
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(path, pisam, licence="MIT")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(path, micro_model(seed=9), licence="MIT")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file_sha256(path) == digest
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_file_is_one_that_safetensors_itself_reads(tmp_path, pisam):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, pisam, licence="MIT", dtype=torch.bfloat16)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["licence"] == "MIT"
        theirs = {key: file.get_tensor(key) for key in file.keys()}
    assert same(theirs, read_checkpoint(path).tensors)


def test_newer_format_says_to_update(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, {"format": "napari-pisam", "format_version": "2"})
    with pytest.raises(CheckpointError, match="update napari-pisam"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": "{"}, "cannot be used"),
        ({"training": "[" * 100_000}, "cannot be used"),
        ({"switches": json.dumps({"frame": 10**9})}, "unknown switch frame"),
        ({"switches": json.dumps({"click_order": "yx"})}, "unknown switch click_order"),
        ({"switches": "[]"}, "switches"),
        ({"variant": ""}, "lacks variant"),
    ],
)
def test_malformed_header_is_refused(tmp_path, change, message):
    header = CheckpointHeader(variant="tiny", licence="MIT").to_metadata()
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, header | change)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_wrong_hash_is_refused_before_reading(tmp_path, pisam):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, pisam, licence="MIT")
    with pytest.raises(CheckpointError, match="damaged or was changed"):
        read_checkpoint(path, expected="sha256:" + "0" * 64)


# --- fitting ---------------------------------------------------------------------------------


def test_missing_and_unexpected_weights_are_counted_and_named(tmp_path, pisam):
    state = pisam.state_dict()
    for key in [key for key in state if ".mask_aspp." in key]:
        if not key.endswith("conv_out.0.weight"):
            state[key.replace("mask_aspp", "mask_bspp")] = state.pop(key)
    save_checkpoint(tmp_path / "a.safetensors", state, variant=pisam.variant, licence="MIT")
    fresh = micro_model(seed=2)
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(fresh, read_checkpoint(tmp_path / "a.safetensors"))
    message = str(caught.value)
    count = sum(".mask_bspp." in key for key in state)
    assert f"{count} missing: " in message
    assert f"{count} unexpected: " in message
    assert message.count("mask_bspp") == 8
    assert same(fresh.state_dict(), before)


def test_wrong_shape_is_named(tmp_path, pisam):
    state = pisam.state_dict() | {"mask_decoder.hf_token.weight": torch.ones(2, 256)}
    save_checkpoint(tmp_path / "a.safetensors", state, variant=pisam.variant, licence="MIT")
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"hf_token.weight \(2, 256\).*\(1, 256\)"):
        load_into(pisam, checkpoint)


def test_checkpoint_of_another_variant_is_refused(tmp_path, pisam):
    other = replace(MICRO, name="other")
    save_checkpoint(tmp_path / "a.safetensors", pisam.state_dict(), variant=other, licence="MIT")
    with pytest.raises(CheckpointError, match=r"'other'.*'micro'"):
        load_into(pisam, read_checkpoint(tmp_path / "a.safetensors"))


def test_building_from_an_unknown_variant_lists_the_known_ones(tmp_path, pisam):
    save_checkpoint(tmp_path / "a.safetensors", pisam, licence="MIT")
    with pytest.raises(CheckpointError, match=r"'micro'.*tiny, sam_vit_t, sam_vit_b"):
        ck.build_from_checkpoint(read_checkpoint(tmp_path / "a.safetensors"))


def test_model_is_built_from_its_checkpoint(tmp_path):
    model = micro_model(name="pisam_vit_m", residual=True, coarse_source="sam")
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT")
    built = ck.build_from_checkpoint(read_checkpoint(tmp_path / "a.safetensors"))
    assert built.variant == model.variant
    assert not built.training
    assert torch.equal(masks(built), masks(model))


@pytest.mark.parametrize("kind", ["sam", "hqsam"])
def test_pisam_that_starts_from_a_base_gives_the_base_s_own_mask(tmp_path, kind):
    base = micro_model(seed=5, kind=kind)
    path = torch_file(tmp_path / "a.pth", base.state_dict())
    model = initialise_pisam_from(micro_model(seed=6), path)
    assert model.variant.kind == "pisam"
    torch.testing.assert_close(masks(model), masks(base), rtol=1e-5, atol=1e-5)


def test_pisam_does_not_start_from_another_encoder():
    base = micro_model(kind="sam", encoder=replace(MICRO.encoder, embed_dim=48))
    with pytest.raises(CheckpointError, match="another shape"):
        initialise_pisam_from(micro_model(), base.state_dict())


def test_only_a_pisam_can_start_from_a_base():
    with pytest.raises(ValueError, match="not a Pi-SAM"):
        initialise_pisam_from(micro_model(kind="sam"), micro_model(kind="sam").state_dict())


# --- the embedded model's encoders -----------------------------------------------------------


def compact(backbone, frame):
    tiny = VARIANTS["tiny"]
    encoder = replace(tiny.encoder, backbone=backbone)
    return build_model(replace(tiny, encoder=encoder, focus=replace(tiny.focus, frame=frame)))


def with_metadata(path, **changes):
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata()) | changes
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    return path


def test_a_compact_model_comes_back_with_the_backbone_and_frame_of_its_training(tmp_path):
    model = compact("tf_efficientnet_lite0", 768)
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT", dtype=torch.float16)
    built = ck.build_from_checkpoint(read_checkpoint(tmp_path / "a.safetensors"))
    assert built.variant == model.variant


@pytest.mark.parametrize("name", ["score_curve", "fine_score_curve"])
def test_a_score_curve_comes_back(tmp_path, name):
    curve = ((0.1, 0.05), (0.9, 0.8))
    model = build_model(replace(MICRO, name="tiny", **{name: curve}))
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT")
    variant = ck.variant_of(read_checkpoint(tmp_path / "a.safetensors"))
    other = {"score_curve", "fine_score_curve"} - {name}
    assert (getattr(variant, name), getattr(variant, other.pop())) == (curve, ())


@pytest.mark.parametrize("name", ["score_curve", "fine_score_curve"])
@pytest.mark.parametrize(
    "curve",
    [
        *("[[0.1, 0.2]]", "[[0.5, 0.1], [0.4, 0.2]]", "[[0, 0], [1, 2]]", "[[0, NaN], [1, 1]]"),
        *("[[0, [1]], [1, 1]]", "7", "{}x"),
        "[" + ", ".join(f"[{i / 100}, 0]" for i in range(90)) + "]",
    ],
)
def test_a_score_curve_that_is_none_is_refused(tmp_path, name, curve):
    model = build_model(replace(MICRO, name="tiny"))
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT")
    path = with_metadata(tmp_path / "a.safetensors", **{name: curve})
    with pytest.raises(CheckpointError, match=f"'{name}'"):
        read_checkpoint(path)


def test_a_file_that_names_no_backbone_has_the_first_one(tmp_path):
    model = compact("hgnetv2_b0", 384)
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT", dtype=torch.float16)
    path = with_metadata(tmp_path / "a.safetensors", backbone=None, focus_frame=None)
    built = ck.build_from_checkpoint(read_checkpoint(path))
    assert built.variant == model.variant


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"backbone": "vgg99"}, "has the backbone 'vgg99'"), ({"focus_frame": "10"}, "unknown frame")],
)
def test_an_encoder_that_is_not_known_is_refused(tmp_path, changes, words):
    model = compact("hgnetv2_b0", 384)
    save_checkpoint(tmp_path / "a.safetensors", model, licence="MIT", dtype=torch.float16)
    path = with_metadata(tmp_path / "a.safetensors", **changes)
    with pytest.raises(CheckpointError, match=words):
        ck.build_from_checkpoint(read_checkpoint(path))
