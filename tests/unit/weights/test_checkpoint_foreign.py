from __future__ import annotations

import os
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from micro import MICRO
from micro_checkpoints import make_micro_a_variant, micro_model, published, same, torch_file
from napari_pisam.model.pisam import build_model
from napari_pisam.weights import checkpoint as ck
from napari_pisam.weights import checkpoint_files
from napari_pisam.weights.checkpoint import (
    CheckpointError,
    infer_variant,
    load_into,
    read_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def pisam():
    return micro_model(seed=1)


@pytest.fixture(autouse=True)
def micro_is_a_variant(monkeypatch):
    make_micro_a_variant(monkeypatch)


# --- other people's files --------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["sam", "hqsam"])
def test_pth_of_sam_and_hqsam_is_read(tmp_path, kind, legacy):
    model = micro_model(kind=kind)
    path = tmp_path / "a.pth"
    torch_file(path, model.state_dict(), _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == kind
    assert checkpoint.variant == f"{kind}_vit_m"
    assert checkpoint.header is None
    fresh = load_into(micro_model(seed=2, kind=kind), checkpoint)
    assert same(fresh.state_dict(), model.state_dict())


def test_sam_as_safetensors_without_our_header_is_read(tmp_path):
    model = micro_model(kind="sam")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "a.st")
    assert read_checkpoint(tmp_path / "a.st").format == "sam"


@pytest.mark.parametrize("prefix", ["", "sam.", "module.sam."])
def test_micro_sam_checkpoint_is_read_without_its_instance_decoder(tmp_path, prefix, caplog):
    model = micro_model(kind="sam")
    state = {prefix + key: value for key, value in model.state_dict().items()}
    content = {"model_state": state, "decoder_state": {"out.weight": torch.ones(2)}}
    with caplog.at_level("INFO"):
        checkpoint = read_checkpoint(torch_file(tmp_path / "a.pt", content))
    assert checkpoint.format == "micro-sam"
    assert "ignored" in caplog.text
    fresh = load_into(micro_model(seed=2, kind="sam"), checkpoint)
    assert same(fresh.state_dict(), model.state_dict())


def test_published_decoder_with_its_base_loads_with_a_warning(tmp_path, pisam):
    path = torch_file(tmp_path / "pisam.pth", published(pisam))
    base = torch_file(tmp_path / "sam.pth", micro_model(seed=1, kind="sam").state_dict())
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "pisam-published"
    assert checkpoint.needs_base
    assert not any(key.endswith(("img_pe", "laplacian_kernel")) for key in checkpoint.tensors)
    models = []
    for seed in (3, 4):
        model = build_model(replace(MICRO, residual=True), seed=seed)
        with pytest.warns(UserWarning, match="RGB embedding"):
            models.append(load_into(model, checkpoint, base=base))
    first, second = models
    assert same(first.state_dict(), second.state_dict())
    assert same(first.mask_decoder.state_dict(), pisam.mask_decoder.state_dict())
    assert first.variant.residual is False
    assert first.variant.click_order == "xy"


def test_published_variant_carries_the_click_order(tmp_path, pisam):
    checkpoint = read_checkpoint(torch_file(tmp_path / "pisam.pth", published(pisam)))
    assert ck.variant_of(checkpoint).click_order == "xy"
    assert ck.variant_of(checkpoint, click_order="rc").click_order == "rc"
    assert ck.variant_of(checkpoint).residual is False


def test_published_decoder_without_base_is_refused(tmp_path, pisam):
    checkpoint = read_checkpoint(torch_file(tmp_path / "pisam.pth", published(pisam)))
    with pytest.raises(CheckpointError, match=r"pisam_vit_m.*base="):
        load_into(pisam, checkpoint)


def test_published_position_code_of_wrong_shape_is_refused(tmp_path, pisam):
    content = published(pisam)
    content["model_state_dict"]["interact_2.img_pe"] = torch.zeros(32, 8, 8)
    path = torch_file(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError, match="img_pe"):
        read_checkpoint(path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = torch_file(tmp_path / "a.pth", {"conv1.weight": torch.ones(3), "fc.bias": torch.ones(3)})
    with pytest.raises(CheckpointError, match=r"another network.*conv1.weight"):
        read_checkpoint(path)


@pytest.mark.parametrize(("width", "size"), [(768, "b"), (1024, "l"), (1280, "h")])
@pytest.mark.parametrize("kind", ["sam", "hqsam", "pisam"])
def test_variant_is_inferred_from_names_and_shapes(width, size, kind):
    tensors = {"mask_decoder.mask_tokens.weight": torch.ones(4, 256)}
    if kind == "sam":
        tensors["image_encoder.pos_embed"] = torch.ones(1, 2, 2, width)
    else:
        tensors["mask_decoder.hf_token.weight"] = torch.ones(1, 256)
        tensors["mask_decoder.compress_vit_feat.0.weight"] = torch.ones(width, 256, 2, 2)
    if kind == "pisam":
        tensors["mask_decoder.mask_aspp.conv_out.0.weight"] = torch.ones(32, 96, 1, 1)
    assert infer_variant(tensors) == f"{kind}_vit_{size}"


def test_unknown_encoder_is_named():
    tensors = {
        "mask_decoder.mask_tokens.weight": torch.ones(4, 256),
        "image_encoder.pos_embed": torch.ones(1, 2, 2, 384),
    }
    with pytest.raises(CheckpointError, match=r"384 channels wide.*768, 1024 or 1280"):
        infer_variant(tensors)


# --- hostile and broken files ----------------------------------------------------------------


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, how):
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    content = {"image_encoder.pos_embed": torch.ones(1), "x": Malicious(marker)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch_file(path, content, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"refused.*code.*safetensors"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.002, 0.3, 0.999])
def test_truncated_file_is_refused(tmp_path, pisam, suffix, share):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch_file(whole, pisam.state_dict())
    else:
        save_checkpoint(whole, pisam, licence="MIT")
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="again"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "a text or a web page"),
        (b"12345678{not weights}", "header"),
        (bytes(range(1, 200)), "unknown kind"),
        (struct.pack("<Q", 2**63) + b"{}" + b" " * 50, "header"),
        (struct.pack("<Q", 12) + b"{xxxxxxxxxx}" + b" " * 50, "safetensors"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged"),
        (b"\x80\x02}q\x00.", "damaged|no tensors"),
    ],
)
def test_file_without_weights_is_refused(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_missing_file_folder_loop_and_device_are_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    for path, message in [
        (tmp_path / "none.pth", "no file"),
        (tmp_path, "is a folder"),
        (tmp_path / "loop", "cannot be opened"),
        (tmp_path / "fifo", "not a regular file"),
        ("a\0b", "cannot be opened"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path)


def test_file_above_the_size_limit_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    with path.open("wb") as file:
        file.truncate(checkpoint_files.MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="GB"):
        read_checkpoint(path)


def test_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"0" * 10_000)
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)


def test_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    huge = torch.ones(1).expand(10**12)
    path = torch_file(tmp_path / "a.pth", {"image_encoder.pos_embed": huge})
    with pytest.raises(CheckpointError, match="larger"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3, dtype=torch.int32), "int32"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
        (torch.tensor([1.0, float("nan")]), "NaN"),
        (torch.tensor([1.0, float("inf")]), "NaN or infinity"),
        (torch.tensor([1.0, -float("inf")]).half(), "NaN or infinity"),
        (torch.ones(0), "no elements"),
        (torch.eye(2).to_sparse(), "dense"),
        (torch.ones(2, device="meta"), "dense"),
        ("text", "is a str"),
        ([1.0], "is a list"),
    ],
)
def test_value_that_is_no_weight_is_named(tmp_path, value, message):
    path = torch_file(tmp_path / "a.pth", {"image_encoder.pos_embed": value})
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {}, {"model_state": {}}])
def test_content_that_is_no_state_dict_is_refused(tmp_path, content):
    path = torch_file(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError, match=r"named tensors|no tensors|is a dict"):
        read_checkpoint(path)
