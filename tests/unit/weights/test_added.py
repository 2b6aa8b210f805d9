from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from file_server import local_http, serve
from micro import MICRO, micro_model
from napari_pisam.model import variants
from napari_pisam.weights import added
from napari_pisam.weights.added import add_model, added_models
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.checkpoint_format import save_checkpoint
from napari_pisam.weights.download import DownloadError
from napari_pisam.weights.files import CheckpointError, file_hash
from napari_pisam.weights.loading import load_model
from napari_pisam.weights.models import list_models, network_of, remove, verify


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(variants.VARIANTS, "micro", MICRO)
    return tmp_path / "models"


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "yeast v2.safetensors"
    save_checkpoint(path, micro_model(seed=3), licence="CC0-1.0")
    return path


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_added_model_is_known_by_its_name_and_independent_of_its_file(ours):
    model = add_model(str(ours))
    assert model.name == "yeast-v2"
    ours.unlink()
    loaded = load_model("yeast-v2")
    assert torch.equal(loaded.model.image_encoder.pos_embed, micro_model(3).image_encoder.pos_embed)
    assert loaded.licence == "CC0-1.0"
    assert verify("yeast-v2").hash == model.hash == f"sha256:{loaded.sha256}"
    row = next(row for row in list_models() if row.name == "yeast-v2")
    assert (row.variant, row.status, row.is_here) == ("micro", "added", True)
    assert network_of("yeast-v2") == "micro"


def test_licence_can_be_given_where_the_file_has_none(ours, tmp_path):
    torch.save(micro_model(kind="sam").state_dict(), tmp_path / "lab.pth")
    variant = replace(MICRO, name="micro_sam", kind="sam")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(variants.VARIANTS, "micro_sam", variant)
        model = add_model(str(tmp_path / "lab.pth"), licence="ask us")
    assert (model.licence, model.variant, model.file_name) == ("ask us", "micro_sam", "lab.pth")


def test_changed_copy_is_refused_on_every_load(ours):
    path = add_model(str(ours), "yeast").path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for use in (load_model, verify):
        with pytest.raises(CheckpointError, match="damaged or was changed"):
            use("yeast")


def test_model_at_an_address_is_downloaded_and_checked(ours, folder):
    with serve() as server, local_http():
        server.data = ours.read_bytes()
        server.cut_every = len(server.data) // 3
        address = f"{server.address}/files/net.safetensors?download=1"
        model = add_model(address, expected=file_hash(ours, "xxh128"), licence="MIT")
        assert (model.name, model.source, model.hash) == ("net", address, file_hash(ours))
        with pytest.raises(DownloadError, match="expected 0000"):
            add_model(address, "other", expected="md5:" + "0" * 32)
    assert names(folder) == ["net.json", "net.safetensors"]
    load_model("net")


@pytest.mark.parametrize("address", ["http://example.invalid/net.pth", "https://[/net.pth"])
def test_what_is_no_https_address_is_refused(address):
    with pytest.raises(DownloadError, match="not an https address"):
        add_model(address)


@pytest.mark.parametrize("name", ["tiny", "SAM_VIT_B", "pisam_vit_h", "a/b", "..", "", "x" * 65])
def test_name_that_cannot_be_used_is_refused_before_anything_is_copied(ours, folder, name):
    with pytest.raises(ValueError, match="--name"):
        add_model(str(ours), name or "-")
    assert not folder.exists()


def test_name_that_is_taken_is_refused(ours):
    add_model(str(ours), "yeast")
    with pytest.raises(ValueError, match="already"):
        add_model(str(ours), "Yeast")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>", "a text or a web page"), (b"", "empty"), (None, "no file")],
)
def test_file_without_weights_is_not_added(tmp_path, folder, content, message):
    path = tmp_path / "net.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        add_model(str(path))
    assert not folder.exists() or names(folder) == []
    assert added_models() == {}


def test_wrong_hash_is_said_with_both_hashes(ours, folder):
    with pytest.raises(CheckpointError) as caught:
        add_model(str(ours), expected="sha256:" + "0" * 64)
    assert "0" * 64 in str(caught.value)
    assert file_hash(ours).removeprefix("sha256:") in str(caught.value)
    assert names(folder) == []


def test_removing_takes_the_copy_and_leaves_the_source(ours, folder):
    add_model(str(ours), "yeast")
    assert [path.name for path in remove("yeast")] == ["yeast.json", "yeast.safetensors"]
    assert names(folder) == []
    assert ours.is_file()
    with pytest.raises(ValueError, match="not a model"):
        remove("yeast")


@pytest.mark.parametrize(
    "change",
    [
        "null",
        "[" * 100_000,
        "{",
        " " * 100_000,
        {"size": None},
        {"size": 1e400},
        {"name": "other"},
        {"file_name": "../yeast"},
        {"file_name": "/etc/yeast"},
        {"hash": "sha256:0"},
        {"more": 1},
    ],
)
def test_damaged_record_is_left_out_and_hides_no_other_model(ours, folder, change):
    add_model(str(ours), "good")
    add_model(str(ours), "yeast")
    record = folder / "yeast.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(record.read_text()) | change)
    record.write_text(change)
    assert list(added_models()) == ["good"]
    assert [row.name for row in list_models() if row.status == "added"] == ["good"]
    with pytest.raises(CheckpointError, match="neither a model nor a file"):
        load_model("yeast")


def test_folder_that_cannot_be_used_costs_no_list(folder):
    folder.write_text("not a folder")
    assert added_models() == {}
    assert len(list_models()) >= len(CATALOGUE)


def test_kill_between_copy_and_record_leaves_nothing_that_counts(ours, folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(added, "_described", killed)
        with pytest.raises(KeyboardInterrupt):
            add_model(str(ours), "yeast")
    assert added_models() == {}
    add_model(str(ours), "yeast")
    load_model("yeast")
