from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from micro import MICRO
from micro_checkpoints import make_micro_a_variant, micro_model, published, same, torch_file
from napari_pisam.model.pisam import build_model
from napari_pisam.weights import checkpoint as ck
from napari_pisam.weights import files
from napari_pisam.weights.checkpoint import load_into
from napari_pisam.weights.checkpoint_format import infer_variant, read_checkpoint, save_checkpoint
from napari_pisam.weights.files import CheckpointError


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


@pytest.mark.parametrize("kind", ["sam", "hqsam", "pisam"])
def test_variants_on_mobile_sam_are_inferred_too(kind):
    tensors = {
        "mask_decoder.mask_tokens.weight": torch.ones(4, 256),
        "image_encoder.neck.0.weight": torch.ones(256, 320, 1, 1),
    }
    if kind != "sam":
        tensors["mask_decoder.hf_token.weight"] = torch.ones(1, 256)
        tensors["mask_decoder.compress_vit_feat.0.weight"] = torch.ones(160, 256, 2, 2)
    if kind == "pisam":
        tensors["mask_decoder.mask_aspp.conv_out.0.weight"] = torch.ones(32, 96, 1, 1)
    assert infer_variant(tensors) == f"{kind}_vit_t"


def test_unknown_encoder_is_named():
    tensors = {
        "mask_decoder.mask_tokens.weight": torch.ones(4, 256),
        "image_encoder.pos_embed": torch.ones(1, 2, 2, 384),
    }
    with pytest.raises(CheckpointError, match=r"384 channels wide.*768, 1024, 1280.*MobileSAM"):
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


def test_code_in_a_wrapper_of_micro_sam_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"
    content = {"model_state": micro_model(kind="sam").state_dict(), "trainer": Malicious(marker)}
    with pytest.raises(CheckpointError, match=r"refused.*pathlib\.Path\.touch|refused.*getattr"):
        read_checkpoint(torch_file(tmp_path / "a.pt", content))
    assert not marker.exists()


def peaks_after(paths):
    """What reading each file said, and by how much memory had grown since the first, bytes."""
    code = f"""
import json, resource, torch
from napari_pisam.weights.checkpoint_format import read_checkpoint
from napari_pisam.weights.files import CheckpointError
before, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
for path in {[str(path) for path in paths]!r}:
    try:
        said = str(read_checkpoint(path))
    except CheckpointError as error:
        said = str(error)
    found.append((said, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def expanding(path, how):
    """A file of a kilobyte or two that wants gigabytes."""
    if how == "one number repeated":
        torch_file(path, {"image_encoder.pos_embed": torch.ones(1).expand(1_900_000_000)})
    elif how == "numbers that are not there":
        # As PyTorch wrote before 2020; none of the numbers that it lists follows.
        content = {"image_encoder.pos_embed": torch.ones(10)}
        torch_file(path, content, _use_new_zipfile_serialization=False)
        data = path.read_bytes().replace(b"K\n", b"J" + struct.pack("<i", 1_900_000_000))
        keys = data.rindex(b"\x80\x02]")
        path.write_bytes(data[:keys] + b"\x80\x02].")
    else:
        name = {"a byte array": "__builtin__\nbytearray", "a tensor": "torch\nFloatTensor"}[how]
        number = (7_600_000_000).to_bytes(5, "little")
        with zipfile.ZipFile(path, "w") as archive:
            # REDUCE: the name is called with (number,).
            archive.writestr(
                "a/data.pkl", b"\x80\x02c" + name.encode() + b"\n\x8a\x05" + number + b"\x85R."
            )
            archive.writestr("a/version", b"3\n")
    assert path.stat().st_size < 2000
    return path


def test_small_files_do_not_become_gigabytes(tmp_path):
    ways = ["one number repeated", "numbers that are not there", "a byte array", "a tensor"]
    found = peaks_after([expanding(tmp_path / f"{how}.pth", how) for how in ways])
    for how, (said, grown) in zip(ways, found, strict=True):
        assert "larger than their file" in said or "refused" in said, how
        assert grown < 100e6, how


def test_archive_whose_parts_lie_over_each_other_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch_file(path, {"image_encoder.pos_embed": torch.ones(100_000)})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
        start = archive.start_dir
    end = data.rindex(b"PK\x05\x06")
    directory = data[start:end]
    place = directory.index(entry.filename.encode()) - 46
    length = 46 + sum(struct.unpack("<HHH", directory[place + 28 : place + 34]))
    again = directory[place : place + length] * 5_000
    head = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 5_000, 5_000, len(again), start, 0)
    path.write_bytes(data[:start] + again + head)
    with pytest.raises(CheckpointError, match="unpack to something larger"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_that_is_shortened_afterwards_does_not_take_the_process_with_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    state = {"image_encoder.pos_embed": torch.ones(1, 2, 2, 32)}
    state |= {"mask_decoder.mask_tokens.weight": torch.ones(1_000_000)}
    torch_file(path, state) if suffix == ".pth" else save_file(state, path)
    tensors = read_checkpoint(path).tensors
    with path.open("r+b") as file:
        file.truncate(100)
    assert float(tensors["mask_decoder.mask_tokens.weight"].sum()) == 1_000_000  # else SIGBUS


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a": ' * 50_000,
        b"[]",
        b'{"__metadata__": 5}',
        b'{"__metadata__": {"format": 5}}',
        b'{"a": null}',
        b'{"a": {}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e400]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}',
        b'{"a": {"dtype": "F32", "shape": [99999999999999999999], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        "{\u00e9".encode("utf-16"),
    ],
)
def test_malformed_safetensors_header_is_a_sentence(tmp_path, header):
    path = tmp_path / "a.safetensors"
    if not header.startswith(b"{"):
        header = b"{" + header
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        read_checkpoint(path)


def test_damaged_bytes_anywhere_are_a_sentence_or_other_numbers(tmp_path):
    """Whatever a byte becomes, there is no other error than the promised one."""
    rng = np.random.default_rng(0)
    state = {"image_encoder.pos_embed": torch.ones(1, 2, 2, 32)}
    state |= {"mask_decoder.mask_tokens.weight": torch.ones(4, 256)}
    save_file(state, tmp_path / "0.pth")
    torch_file(tmp_path / "1.pth", state)
    torch_file(tmp_path / "2.pth", state, _use_new_zipfile_serialization=False)
    path, refused = tmp_path / "damaged.pth", 0
    for turn in range(300):
        data = bytearray((tmp_path / f"{turn % 3}.pth").read_bytes())
        # Where the structure is: the beginning, and the end of archives.
        place = int(rng.integers(min(700, len(data)))) * (1 if turn % 2 else -1)
        data[place] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 50


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
        file.truncate(files.MAX_BYTES + 1)
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


def test_weights_of_no_variant_are_refused_by_a_sentence_that_names_the_file(tmp_path):
    torch.save({"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, tmp_path / "part.pth")
    with pytest.raises(
        CheckpointError, match=r"part\.pth cannot be used: There is no mask decoder"
    ):
        read_checkpoint(tmp_path / "part.pth")
