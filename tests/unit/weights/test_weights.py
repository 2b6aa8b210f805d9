from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch

import micro
from micro import MICRO
from napari_pisam.model import variants
from napari_pisam.weights import checkpoint_format, public_weights
from napari_pisam.weights import download as download_module
from napari_pisam.weights import loading as weights
from napari_pisam.weights.checkpoint import CheckpointError, save_checkpoint
from napari_pisam.weights.loading import list_models, load_model, resolve_model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_registry_has_an_https_address_for_every_sam_and_hqsam():
    expected = {name for name in variants.VARIANTS if name.startswith(("sam_", "hqsam_"))}
    assert set(weights.REGISTRY) == expected
    for file in weights.REGISTRY.values():
        assert file.url.startswith("https://")
        assert file.licence == "Apache-2.0"
        assert (file.sha256 is None) == file.name.startswith("hqsam")


@cache
def micro_state(kind, seed=1):
    return micro.micro_model(seed=seed, kind=kind).state_dict()


@pytest.fixture
def micro_registry(monkeypatch, folder):
    """Make the micro model the network behind sam_vit_b, hqsam_vit_b, pisam_vit_b and tiny."""
    monkeypatch.setitem(checkpoint_format._ENCODER_WIDTHS, 32, "b")
    for name, kind in [
        ("sam_vit_b", "sam"),
        ("hqsam_vit_b", "hqsam"),
        ("pisam_vit_b", "pisam"),
        ("tiny", "pisam"),
    ]:
        monkeypatch.setitem(variants.VARIANTS, name, replace(MICRO, name=name, kind=kind))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_sam(folder, monkeypatch, content=None):
    path = folder / "sam_vit_b_01ec64.pth"
    torch.save(micro_state("sam") if content is None else content, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = replace(weights.REGISTRY["sam_vit_b"], sha256=sha256)
    monkeypatch.setitem(public_weights.REGISTRY, "sam_vit_b", file)
    return path


def equals(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_public_model_is_loaded_from_the_cache(micro_registry, monkeypatch):
    path = put_sam(micro_registry, monkeypatch)
    loaded = load_model("sam_vit_b")
    assert equals(loaded.model, micro_state("sam"))
    assert not loaded.model.training
    assert loaded.licence == "Apache-2.0"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_hash_is_checked_on_every_load(micro_registry, monkeypatch):
    path = put_sam(micro_registry, monkeypatch)
    resolve_model("sam_vit_b")
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    download_module.os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CheckpointError, match="damaged or was changed"):
        resolve_model("sam_vit_b")


def test_absent_public_model_is_downloaded(micro_registry, monkeypatch):
    asked = []

    def fake(name, **_):
        asked.append(name)
        put_sam(micro_registry, monkeypatch)

    monkeypatch.setattr(weights, "download", fake)
    assert equals(resolve_model("sam_vit_b"), micro_state("sam"))
    assert asked == ["sam_vit_b"]


def test_public_file_with_another_model_in_it_is_refused(micro_registry, monkeypatch):
    put_sam(micro_registry, monkeypatch, micro_state("hqsam"))
    with pytest.raises(CheckpointError, match="holds a hqsam_vit_b, expected a sam_vit_b"):
        resolve_model("sam_vit_b")


def test_hq_file_put_there_by_hand_is_recorded_with_a_warning(micro_registry):
    torch.save(micro_state("hqsam"), micro_registry / "sam_hq_vit_b.pth")
    with pytest.warns(UserWarning, match="Nobody vouches"):
        resolve_model("hqsam_vit_b")
    resolve_model("hqsam_vit_b")  # no second warning


def test_pisam_by_name_alone_asks_for_a_file():
    with pytest.raises(CheckpointError, match=r"path of its checkpoint.*hqsam_vit_l"):
        resolve_model("pisam_vit_l")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(CheckpointError, match=r"neither a model nor a file.*tiny"):
        resolve_model("huge")


def test_checkpoint_file_is_loaded_by_its_path(micro_registry, tmp_path):
    path = tmp_path / "mine.safetensors"
    variant = variants.VARIANTS["pisam_vit_b"]
    save_checkpoint(path, micro_state("pisam"), variant=variant, licence="CC-BY-4.0")
    loaded = load_model(path)
    assert equals(loaded.model, micro_state("pisam"))
    assert loaded.licence == "CC-BY-4.0"


def save_decoder(path, base_sha256):
    save_checkpoint(
        path,
        micro_state("pisam"),
        variant=variants.VARIANTS["pisam_vit_b"],
        licence="MIT",
        base_sha256=base_sha256,
        only=["mask_decoder.", "rgb_embedding."],
    )


def test_decoder_finds_its_base_in_the_cache_by_hash(micro_registry, monkeypatch, tmp_path):
    sam = put_sam(micro_registry, monkeypatch)
    base_sha256 = hashlib.sha256(sam.read_bytes()).hexdigest()
    save_decoder(tmp_path / "mine.safetensors", base_sha256)
    model = resolve_model(tmp_path / "mine.safetensors")
    for key, value in model.state_dict().items():
        kind = "sam" if key.startswith(("image_encoder.", "prompt_encoder.")) else "pisam"
        assert torch.equal(value, micro_state(kind)[key]), key


def test_decoder_of_unknown_base_names_the_hash(micro_registry, tmp_path):
    save_decoder(tmp_path / "mine.safetensors", "5" * 64)
    with pytest.raises(CheckpointError, match="5555"):
        resolve_model(tmp_path / "mine.safetensors")


def test_published_decoder_takes_sam_from_the_cache(micro_registry, monkeypatch, tmp_path):
    state = {
        key.removeprefix("mask_decoder."): value
        for key, value in micro_state("pisam").items()
        if key.startswith("mask_decoder.")
    }
    torch.save({"model_state_dict": state}, tmp_path / "published.pth")
    with pytest.raises(CheckpointError, match="napari-pisam models download sam_vit_b"):
        resolve_model(tmp_path / "published.pth")
    put_sam(micro_registry, monkeypatch)
    with pytest.warns(UserWarning, match="RGB embedding"):
        model = resolve_model(tmp_path / "published.pth")
    assert model.variant.residual is False
    assert torch.equal(model.image_encoder.pos_embed, micro_state("sam")["image_encoder.pos_embed"])


@contextmanager
def embedded(folder, monkeypatch, *parts):
    """Files of an embedded model: a list of key prefixes for each file."""
    folder.mkdir()
    lines = []
    for i, only in enumerate(parts, start=1):
        name = "tiny.safetensors" if len(parts) == 1 else f"tiny-{i}-of-{len(parts)}.safetensors"
        sha256 = save_checkpoint(
            folder / name,
            micro_state("pisam"),
            variant=variants.VARIANTS["tiny"],
            licence="MIT",
            only=only,
        )
        lines.append(f"{sha256}  {name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_embedded_folder", lambda: folder)
        yield


@pytest.mark.parametrize("parts", [[[]], [["image_encoder."], ["prompt_", "mask_", "rgb_"]]])
def test_embedded_model_is_loaded_from_one_file_or_several(
    micro_registry, monkeypatch, tmp_path, parts
):
    with embedded(tmp_path / "weights", monkeypatch, *parts):
        loaded = load_model("tiny")
    assert equals(loaded.model, micro_state("pisam"))
    assert loaded.licence == "MIT"
    assert loaded.source == "embedded"


def test_changed_embedded_file_is_refused(micro_registry, monkeypatch, tmp_path):
    with embedded(tmp_path / "weights", monkeypatch, []):
        path = tmp_path / "weights" / "tiny.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(CheckpointError, match="SHA-256"):
            resolve_model("tiny")


def test_absent_part_of_the_embedded_model_is_named(micro_registry, monkeypatch, tmp_path):
    with embedded(tmp_path / "weights", monkeypatch, ["image_encoder."], ["mask_decoder."]):
        (tmp_path / "weights" / "tiny-2-of-2.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"tiny-2-of-2.*Reinstall"):
            resolve_model("tiny")


def test_installation_without_embedded_model_says_to_reinstall(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "_embedded_folder", lambda: tmp_path / "none")
    with pytest.raises(CheckpointError, match="Reinstall"):
        resolve_model("tiny")


def test_list_tells_what_is_there(micro_registry, monkeypatch, tmp_path):
    put_sam(micro_registry, monkeypatch)
    (micro_registry / "sam_vit_l_0b3195.pth.part").write_bytes(b"x")
    with embedded(tmp_path / "weights", monkeypatch, []):
        rows = {row.name: row for row in list_models()}
    assert list(rows) == list(variants.VARIANTS)
    assert rows["tiny"].status == "embedded"
    assert rows["tiny"].size > 0
    assert rows["sam_vit_b"].status == "downloaded"
    assert rows["sam_vit_l"].status == "incomplete"
    assert rows["hqsam_vit_h"].status == "available"
    assert rows["pisam_vit_b"].status == "needs a file"
    assert rows["sam_vit_h"].licence == "Apache-2.0"
