from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch

import micro
from micro import MICRO
from napari_pisam.model import variants
from napari_pisam.weights import embedded as embedded_module
from napari_pisam.weights import loading as weights
from napari_pisam.weights.catalogue import CATALOGUE, EMBEDDED
from napari_pisam.weights.checkpoint_format import save_checkpoint
from napari_pisam.weights.files import CheckpointError, file_hash, split_hash
from napari_pisam.weights.loading import load_model
from napari_pisam.weights.models import list_models, verify


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_public_model_has_an_https_address_a_hash_and_a_place_of_its_own():
    public = [entry for entry in CATALOGUE.values() if not entry.is_embedded]
    assert {entry.variant for entry in CATALOGUE.values()} <= set(variants.VARIANTS)
    for entry in public:
        for address in (entry.address, *entry.mirrors):
            assert address.startswith("https://")
        assert split_hash(entry.hash)
        assert entry.size > 1e6
        assert entry.good_for
        assert entry.licence
        assert entry.citation
    assert len({entry.file_name for entry in public}) == len(public)
    assert len({entry.hash for entry in public}) == len(public)


def test_the_models_that_the_field_trusts_are_offered():
    named = [f"sam_vit_{size}" for size in "tblh"] + [f"hqsam_vit_{size}" for size in "blh"]
    named += [f"microsam_vit_{size}_{what}" for size in "tbl" for what in ("lm", "em")]
    named += [f"microsam_vit_{size}_histopathology" for size in "blh"]
    assert {"tiny", *named} == set(CATALOGUE)
    assert CATALOGUE["sam_vit_t"].mirrors


def test_one_model_is_inside_the_package():
    assert [name for name, entry in CATALOGUE.items() if entry.is_embedded] == [EMBEDDED]


def test_what_has_no_pinned_hash_is_not_offered_by_name():
    assert all(split_hash(entry.hash) for entry in CATALOGUE.values() if not entry.is_embedded)
    assert "hqsam_vit_t" not in CATALOGUE
    with pytest.raises(ValueError, match="not a hash"):
        split_hash("")


@cache
def micro_state(kind, seed=1):
    return micro.micro_model(seed=seed, kind=kind).state_dict()


@pytest.fixture
def micro_registry(monkeypatch, folder):
    """Make the micro model the network behind sam_vit_b, hqsam_vit_b, pisam_vit_b and tiny."""
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
    entry = replace(CATALOGUE["sam_vit_b"], hash=f"sha256:{sha256}")
    monkeypatch.setitem(CATALOGUE, "sam_vit_b", entry)
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
    load_model("sam_vit_b")
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CheckpointError, match="damaged or was changed"):
        load_model("sam_vit_b")


def test_absent_public_model_is_downloaded(micro_registry, monkeypatch):
    asked = []

    def fake(name, **_):
        asked.append(name)
        put_sam(micro_registry, monkeypatch)

    monkeypatch.setattr(weights, "download", fake)
    assert equals(load_model("sam_vit_b").model, micro_state("sam"))
    assert asked == ["sam_vit_b"]


def test_public_file_with_another_model_in_it_is_refused(micro_registry, monkeypatch):
    put_sam(micro_registry, monkeypatch, micro_state("hqsam"))
    with pytest.raises(CheckpointError, match="holds a hqsam_vit_b, expected a sam_vit_b"):
        load_model("sam_vit_b")


def test_file_put_there_by_hand_must_have_the_pinned_hash(micro_registry):
    path = micro_registry / "sam_hq_vit_b.pth"
    torch.save(micro_state("hqsam"), path)
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError) as caught:
        load_model("hqsam_vit_b")
    message = str(caught.value)
    assert found in message
    assert CATALOGUE["hqsam_vit_b"].hash.removeprefix("md5:") in message
    assert "models download hqsam_vit_b" in message
    assert path.is_file()


def test_decoder_finds_a_base_that_is_pinned_by_another_hash(micro_registry, monkeypatch, tmp_path):
    path = micro_registry / "sam_hq_vit_b.pth"
    torch.save(micro_state("hqsam"), path)
    md5, sha256 = (getattr(hashlib, kind)(path.read_bytes()) for kind in ("md5", "sha256"))
    entry = replace(CATALOGUE["hqsam_vit_b"], hash=f"md5:{md5.hexdigest()}")
    monkeypatch.setitem(CATALOGUE, "hqsam_vit_b", entry)
    save_decoder(tmp_path / "mine.safetensors", sha256.hexdigest())
    model = load_model(tmp_path / "mine.safetensors").model
    position = micro_state("hqsam")["image_encoder.pos_embed"]
    assert torch.equal(model.image_encoder.pos_embed, position)


def test_model_of_micro_sam_is_loaded_by_its_name(micro_registry, monkeypatch):
    path = micro_registry / "microsam_vit_b_lm.pt"
    torch.save({"model_state": micro_state("sam"), "decoder_state": {"a": torch.ones(2)}}, path)
    entry = replace(CATALOGUE["microsam_vit_b_lm"], hash=file_hash(path, "xxh128"))
    monkeypatch.setitem(CATALOGUE, "microsam_vit_b_lm", entry)
    loaded = load_model("microsam_vit_b_lm")
    assert equals(loaded.model, micro_state("sam"))
    assert loaded.model.variant.name == "sam_vit_b"
    assert loaded.licence.startswith("MIT")


@pytest.mark.parametrize(
    ("name", "instead"), [("pisam_vit_l", "hqsam_vit_l"), ("hqsam_vit_t", "sam_vit_t")]
)
def test_network_without_public_weights_asks_for_a_file(name, instead):
    with pytest.raises(CheckpointError, match=rf"path of its checkpoint.* '{instead}'"):
        load_model(name)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(CheckpointError, match=r"neither a model nor a file.*tiny"):
        load_model("huge")


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
    model = load_model(tmp_path / "mine.safetensors").model
    for key, value in model.state_dict().items():
        kind = "sam" if key.startswith(("image_encoder.", "prompt_encoder.")) else "pisam"
        assert torch.equal(value, micro_state(kind)[key]), key


def test_decoder_of_unknown_base_names_the_hash(micro_registry, tmp_path):
    save_decoder(tmp_path / "mine.safetensors", "5" * 64)
    with pytest.raises(CheckpointError, match="5555"):
        load_model(tmp_path / "mine.safetensors")


def test_published_decoder_takes_sam_from_the_cache(micro_registry, monkeypatch, tmp_path):
    monkeypatch.delitem(variants.VARIANTS, "tiny")  # of the same encoder, here only
    state = {
        key.removeprefix("mask_decoder."): value
        for key, value in micro_state("pisam").items()
        if key.startswith("mask_decoder.")
    }
    torch.save({"model_state_dict": state}, tmp_path / "published.pth")
    with pytest.raises(CheckpointError, match="napari-pisam models download sam_vit_b"):
        load_model(tmp_path / "published.pth")
    put_sam(micro_registry, monkeypatch)
    with pytest.warns(UserWarning, match="RGB embedding"):
        model = load_model(tmp_path / "published.pth").model
    assert model.variant.residual is False
    assert torch.equal(model.image_encoder.pos_embed, micro_state("sam")["image_encoder.pos_embed"])


@pytest.fixture
def embedded(micro_registry, monkeypatch, tmp_path):
    """Put the micro Pi-SAM in the place of the embedded model."""
    folder = tmp_path / "weights"
    folder.mkdir()
    tiny = variants.VARIANTS["tiny"]
    path = folder / "tiny.safetensors"
    sha256 = save_checkpoint(path, micro_state("pisam"), variant=tiny, licence="MIT")
    (folder / "SHA256SUMS").write_text(f"{sha256}  tiny.safetensors\n")
    monkeypatch.setattr(embedded_module, "embedded_folder", lambda: folder)
    return path


def test_embedded_model_is_loaded(embedded):
    loaded = load_model("tiny")
    assert equals(loaded.model, micro_state("pisam"))
    assert loaded.licence == "MIT"
    assert loaded.source == "embedded"
    assert verify("tiny").path == embedded


def test_changed_embedded_file_is_refused(embedded):
    embedded.write_bytes(embedded.read_bytes()[:-1] + b"x")
    for use in (load_model, verify):
        with pytest.raises(CheckpointError, match="SHA-256"):
            use("tiny")


@pytest.mark.parametrize("missing", ["tiny.safetensors", "SHA256SUMS"])
def test_absent_file_of_the_embedded_model_is_named(embedded, missing):
    embedded.with_name(missing).unlink()
    with pytest.raises(CheckpointError, match=rf"{missing}.*Reinstall"):
        load_model("tiny")
    assert {row.name: row.status for row in list_models()}["tiny"] == "missing"


def test_installation_without_embedded_model_says_to_reinstall(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded_module, "embedded_folder", lambda: tmp_path / "none")
    with pytest.raises(CheckpointError, match="Reinstall"):
        load_model("tiny")


def test_list_needs_no_torch():
    """Docks and the command line show it before anything is loaded."""
    code = (
        "import sys\nfrom napari_pisam.weights.models import list_models\n"
        "assert list_models()\nassert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_list_tells_what_is_there(embedded, micro_registry, monkeypatch):
    put_sam(micro_registry, monkeypatch)
    (micro_registry / "sam_vit_l_0b3195.pth.part").write_bytes(b"x")
    rows = {row.name: row for row in list_models()}
    assert list(rows)[: len(CATALOGUE)] == list(CATALOGUE)
    assert set(variants.VARIANTS) <= {row.variant for row in rows.values()}
    assert rows["tiny"].status == "embedded"
    assert rows["tiny"].size == embedded.stat().st_size
    assert rows["sam_vit_b"].status == "downloaded"
    assert rows["sam_vit_b"].sha256 == CATALOGUE["sam_vit_b"].hash.removeprefix("sha256:")
    assert rows["sam_vit_l"].status == "incomplete"
    assert rows["hqsam_vit_h"].status == "available"
    assert rows["hqsam_vit_h"].sha256 is None
    assert rows["pisam_vit_b"].status == "needs a file"
    assert rows["sam_vit_h"].licence == "Apache-2.0"
    assert "tissue" in rows["microsam_vit_b_histopathology"].good_for
    assert [row.name for row in rows.values() if row.is_here] == ["tiny", "sam_vit_b"]
