from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest

from file_server import DATA, SHA256, serve
from napari_pisam.weights import download as download_module
from napari_pisam.weights import loading as weights
from napari_pisam.weights import public_weights
from napari_pisam.weights.checkpoint import CheckpointError
from napari_pisam.weights.download import DownloadCancelled, DownloadError
from napari_pisam.weights.loading import download, verify


@pytest.fixture
def server():
    with serve() as state:
        yield state


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def public(server, folder, monkeypatch):
    """Register a file of that server as the model 'sam_vit_b' and return it."""

    def register(**changes):
        values = {"sha256": SHA256, "size": len(DATA), "url": f"{server.address}/weights.pth"}
        file = replace(weights.REGISTRY["sam_vit_b"], **values | changes)
        monkeypatch.setitem(public_weights.REGISTRY, "sam_vit_b", file)
        return file

    register()
    return register


def fetch(**options):
    return download("sam_vit_b", allow_local_http=True, **options)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


# --- downloading -----------------------------------------------------------------------------


def test_download_reports_progress_and_gives_the_file_its_name_last(public, folder):
    seen = []

    def progress(done, total):
        assert not (folder / "weights.pth").exists()
        seen.append((done, total))

    path = fetch(progress=progress)
    assert path == folder / "weights.pth"
    assert path.read_bytes() == DATA
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert names(folder) == ["weights.pth"]


def test_file_that_is_there_is_not_downloaded_again(public, server):
    fetch()
    fetch()
    assert len(server.seen) == 1


def test_damaged_file_is_downloaded_again(public, server, folder):
    fetch()
    (folder / "weights.pth").write_bytes(DATA[:-1] + b"x")
    assert fetch().read_bytes() == DATA
    assert len(server.seen) == 2


def test_broken_connection_is_taken_up_where_it_broke(public, server):
    server.cut_after = [600_000, 500_000]
    assert fetch().read_bytes() == DATA
    starts = [asked for _, asked in server.seen]
    assert starts[0] is None
    assert 0 < int(starts[1][6:-1]) <= 600_000
    assert int(starts[1][6:-1]) < int(starts[2][6:-1]) <= 1_100_000


def test_next_download_goes_on_where_the_last_one_ended(public, server, folder):
    with pytest.raises(DownloadCancelled, match="goes on"):
        fetch(cancel=iter([False, False, False, True]).__next__)
    assert "weights.pth" not in names(folder)
    done = (folder / "weights.pth.part").stat().st_size
    assert 0 < done < len(DATA)
    assert fetch().read_bytes() == DATA
    assert server.seen[-1][1] == f"bytes={done}-"


def test_connection_that_never_gets_further_is_an_error_that_keeps_the_part(public, server, folder):
    server.cut_after = [600_000, 0, 0]
    with pytest.raises(DownloadError, match="start the download again"):
        fetch()
    assert "weights.pth" not in names(folder)
    server.cut_after = []
    assert fetch().read_bytes() == DATA


def test_server_without_ranges_means_a_clean_start(public, server):
    server.ranges = False
    server.cut_after = [600_000]
    assert fetch().read_bytes() == DATA


def test_server_without_any_validator_means_a_clean_start(public, server):
    server.etag = None
    with pytest.raises(DownloadCancelled):
        fetch(cancel=iter([False, False, True]).__next__)
    assert fetch().read_bytes() == DATA
    assert server.seen[-1][1] is None


def test_file_that_changed_meanwhile_means_a_clean_start(public, server):
    server.data = b"\1" * len(DATA)
    with pytest.raises(DownloadCancelled):
        fetch(cancel=iter([False, False, True]).__next__)
    server.data, server.etag = DATA, '"v2"'
    assert fetch().read_bytes() == DATA


def test_bad_part_of_an_earlier_try_means_a_clean_start(public, folder):
    with pytest.raises(DownloadCancelled):
        fetch(cancel=iter([False, False, True]).__next__)
    part = folder / "weights.pth.part"
    part.write_bytes(b"\0" * part.stat().st_size)
    assert fetch().read_bytes() == DATA


def test_part_longer_than_the_file_means_a_clean_start(public, folder, server):
    with pytest.raises(DownloadCancelled):
        fetch(cancel=iter([False, False, True]).__next__)
    (folder / "weights.pth.part").write_bytes(b"\0" * (len(DATA) + 5))
    assert fetch().read_bytes() == DATA


def test_wrong_hash_removes_the_file(public, server, folder):
    server.data = DATA[:-1] + b"x"
    with pytest.raises(DownloadError, match=f"expected {SHA256}"):
        fetch()
    assert names(folder) == []


def test_another_size_is_refused_at_once(public, server, folder):
    server.data = DATA + b"x"
    with pytest.raises(DownloadError, match="another file"):
        fetch()
    assert "weights.pth" not in names(folder)


def test_missing_file_on_the_server_is_reported(public, server):
    server.status = 404
    with pytest.raises(DownloadError, match="answered 404"):
        fetch()


def test_unreachable_server_names_address_proxy_and_place(public, folder):
    file = public(url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(DownloadError) as caught:
        fetch()
    message = str(caught.value)
    assert file.url in message
    assert "HTTPS_PROXY" in message
    assert str(folder / "weights.pth") in message


def test_proxy_of_the_environment_is_used(public, server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", server.address)
    public(url="http://localhost:9/weights.pth")
    assert fetch().read_bytes() == DATA
    assert server.seen[0][0] == "http://localhost:9/weights.pth"


def test_plain_http_is_refused(public):
    with pytest.raises(DownloadError, match="not an https address"):
        download("sam_vit_b")


def test_redirect_to_plain_http_elsewhere_is_refused(public, server):
    public(url=f"{server.address}/redirect/weights.pth")
    server.location = "http://example.invalid/weights.pth"
    with pytest.raises(DownloadError, match=r"example\.invalid.*not an https"):
        fetch()


def test_endless_redirects_are_an_error(public, server):
    public(url=f"{server.address}/redirect/weights.pth")
    server.location = "/redirect/weights.pth"
    with pytest.raises(DownloadError, match="redirects"):
        fetch()


def test_full_disk_is_reported_before_the_transfer(public, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(DownloadError, match="too full"):
        fetch()
    assert "weights.pth" not in names(folder)


def test_disk_that_fills_up_is_reported_and_the_part_kept(public, folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download_module.os, "fsync", full)
        with pytest.raises(DownloadError, match=r"No space left.*Free some space"):
            fetch()
    assert "weights.pth.part" in names(folder)
    assert fetch().read_bytes() == DATA


def test_folder_that_cannot_be_made_is_reported(public, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_PISAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="NAPARI_PISAM_CACHE"):
        fetch()


def test_two_downloads_of_one_file_do_not_mix(public):
    errors = []

    def second(done, total):
        if done == 0:
            with pytest.raises(DownloadError, match="Another process") as caught:
                fetch()
            errors.append(caught.value)

    assert fetch(progress=second).read_bytes() == DATA
    assert errors


def test_only_public_models_can_be_downloaded(folder):
    for name, message in [
        ("tiny", "inside the package"),
        ("pisam_vit_b", "checkpoint file"),
        ("other", "not a model"),
    ]:
        with pytest.raises(ValueError, match=message):
            download(name)


# --- hashes that the server names ------------------------------------------------------------


def test_hash_named_by_the_hub_is_checked_and_recorded(public, server, folder):
    public(url=f"{server.address}/redirect/weights.pth", sha256=None, size=None)
    server.linked = f'"{SHA256}"'
    fetch()
    record = json.loads((folder / "weights.pth.json").read_text())
    assert record["sha256"] == SHA256
    assert record["trust"] == "hub"
    assert verify("sam_vit_b").trust == "hub"


def test_file_unlike_the_hash_named_by_the_hub_is_removed(public, server, folder):
    public(url=f"{server.address}/redirect/weights.pth", sha256=None, size=None)
    server.linked = f'"{"0" * 64}"'
    with pytest.raises(DownloadError, match="expected 0000"):
        fetch()
    assert names(folder) == []


def test_recorded_hash_counts_from_then_on(public, server, folder):
    public(url=f"{server.address}/redirect/weights.pth", sha256=None, size=None)
    server.linked = f'"{SHA256}"'
    fetch()
    (folder / "weights.pth").write_bytes(b"x" + DATA[1:])
    with pytest.raises(CheckpointError, match="models download sam_vit_b"):
        verify("sam_vit_b")
    server.linked = f'"{"1" * 64}"'
    with pytest.raises(DownloadError, match="on record"):
        fetch()


def test_hash_that_nobody_vouches_for_is_recorded_with_a_warning(public, folder):
    public(sha256=None, size=None)
    with pytest.warns(UserWarning, match="Nobody vouches"):
        fetch()
    assert json.loads((folder / "weights.pth.json").read_text())["trust"] == "first-use"
    assert verify("sam_vit_b").sha256 == SHA256


def test_etag_that_is_no_sha256_is_not_taken_for_one(public, server):
    public(url=f"{server.address}/redirect/weights.pth", sha256=None, size=None)
    server.linked = '"abc-1"'
    with pytest.warns(UserWarning, match="Nobody vouches"):
        fetch()


def test_file_put_there_by_hand_is_compared_with_the_hub(public, server, folder):
    public(url=f"{server.address}/redirect/weights.pth", sha256=None, size=None)
    server.linked = f'"{SHA256}"'
    folder.mkdir()
    (folder / "weights.pth").write_bytes(DATA)
    fetch()
    assert verify("sam_vit_b").trust == "hub"
    assert [path for path, _ in server.seen] == ["/redirect/weights.pth", "/weights.pth"]


def test_damaged_record_is_an_error(public, folder):
    public(sha256=None)
    folder.mkdir()
    (folder / "weights.pth.json").write_text('{"sha256": 5}')
    with pytest.raises(CheckpointError, match="is damaged"):
        verify("sam_vit_b")


def test_verify_of_an_absent_file_says_how_to_get_it(public):
    with pytest.raises(CheckpointError, match="models download sam_vit_b"):
        verify("sam_vit_b")
