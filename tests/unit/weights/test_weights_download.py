from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import pytest
import xxhash

from file_server import DATA, SHA256, local_http, serve
from napari_pisam.weights import download as download_module
from napari_pisam.weights.cache import download, missing_entry
from napari_pisam.weights.catalogue import CATALOGUE
from napari_pisam.weights.download import DownloadCancelled, DownloadError
from napari_pisam.weights.files import CheckpointError
from napari_pisam.weights.models import verify


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
        values = {
            "hash": f"sha256:{SHA256}",
            "size": len(DATA),
            "is_exact_size": True,
            "address": f"{server.address}/weights.pth",
            "file_name": "weights.pth",
        }
        entry = replace(CATALOGUE["sam_vit_b"], **values | changes)
        monkeypatch.setitem(CATALOGUE, "sam_vit_b", entry)
        return entry

    register()
    return register


def fetch(**options):
    with local_http():
        return download("sam_vit_b", **options)


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


def test_connection_that_breaks_again_and_again_loses_no_byte(public, server):
    server.cut_every = 200_000
    assert fetch().read_bytes() == DATA
    starts = [0 if asked is None else int(asked[6:-1]) for _, asked in server.seen]
    assert starts == list(range(0, len(DATA), 200_000))


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


def test_kill_in_the_middle_leaves_a_part_and_nothing_else(public, server, folder):
    class Killed(BaseException):
        pass

    def progress(done, total):
        if done > 500_000:
            raise Killed

    with pytest.raises(Killed):
        fetch(progress=progress)
    assert names(folder) == ["weights.pth.part", "weights.pth.part.json"]
    assert fetch().read_bytes() == DATA
    assert names(folder) == ["weights.pth"]
    assert int(server.seen[-1][1][6:-1]) > 500_000


CHILD = """
import sys
from dataclasses import replace
from napari_pisam.weights.cache import download
from napari_pisam.weights.catalogue import CATALOGUE

CATALOGUE["sam_vit_b"] = replace(
    CATALOGUE["sam_vit_b"], address=sys.argv[1], hash=sys.argv[2], size=2097152, file_name="w.pth"
)
from napari_pisam.weights import download as module

module._is_allowed = lambda url: True
download("sam_vit_b", progress=lambda *_: print(flush=True))
"""


@pytest.mark.slow
def test_download_that_is_killed_again_and_again_ends_whole_and_leaves_nothing_else(server, folder):
    server.pause = 0.02
    rng = random.Random(0)
    command = [sys.executable, "-c", CHILD, f"{server.address}/w.pth", f"sha256:{SHA256}"]
    codes = []
    while not codes or codes[-1] != 0:
        assert len(codes) < 20
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            if len(codes) < 5:
                time.sleep(rng.uniform(0, 0.3))
                child.kill()
        codes.append(child.returncode)
    assert codes.count(-signal.SIGKILL) >= 3
    assert (folder / "w.pth").read_bytes() == DATA
    assert names(folder) == ["w.pth"]
    starts = [0 if asked is None else int(asked[6:-1]) for _, asked in server.seen]
    assert starts == sorted(starts)
    assert starts[-1] > 0


def test_link_in_the_place_of_the_part_is_not_followed(public, folder, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    folder.mkdir()
    (folder / "weights.pth.part").symlink_to(tmp_path / "precious")
    assert fetch().read_bytes() == DATA
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (folder / "weights.pth").is_symlink()


@pytest.mark.parametrize(
    "state",
    [
        "[" * 100_000,
        "null",
        '{"url": "URL"}',
        '{"url": "URL", "validator": 5, "total": 9}',
        '{"url": "URL", "validator": "v", "total": "nine"}',
        '{"url": "URL", "validator": "v", "total": 1e400}',
    ],
)
def test_damaged_note_beside_the_part_means_a_clean_start(public, folder, state):
    address = public().address
    folder.mkdir()
    (folder / "weights.pth.part").write_bytes(b"something")
    (folder / "weights.pth.part.json").write_text(state.replace("URL", address))
    assert fetch().read_bytes() == DATA
    assert names(folder) == ["weights.pth"]


def test_length_that_no_number_holds_is_not_believed(public, server):
    server.length = "9" * 5000
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
    entry = public(address="http://127.0.0.1:9/weights.pth")
    with pytest.raises(DownloadError) as caught:
        fetch()
    message = str(caught.value)
    assert entry.address in message
    assert "HTTPS_PROXY" in message
    assert str(folder / "weights.pth") in message


def test_proxy_of_the_environment_is_used(public, server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", server.address)
    public(address="http://localhost:9/weights.pth")
    assert fetch().read_bytes() == DATA
    assert server.seen[0][0] == "http://localhost:9/weights.pth"


def test_plain_http_is_refused(public):
    with pytest.raises(DownloadError, match="not an https address"):
        download("sam_vit_b")


def test_redirect_to_plain_http_elsewhere_is_refused(public, server):
    public(address=f"{server.address}/redirect/weights.pth")
    server.location = "http://example.invalid/weights.pth"
    with pytest.raises(DownloadError, match=r"example\.invalid.*not an https"):
        fetch()


@pytest.mark.parametrize(
    "location", ["https://[", "ftp://example.invalid/w", "file:///etc/w", "//["]
)
def test_redirect_to_what_is_no_https_address_is_refused(public, server, location):
    public(address=f"{server.address}/redirect/weights.pth")
    server.location = location
    with pytest.raises(DownloadError, match="not an https address"):
        fetch()


def test_endless_redirects_are_an_error(public, server):
    public(address=f"{server.address}/redirect/weights.pth")
    server.location = "/redirect/weights.pth"
    with pytest.raises(DownloadError, match="redirects"):
        fetch()


def test_full_disk_is_reported_before_the_transfer(public, folder, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(DownloadError, match="too full"):
        fetch()
    assert "weights.pth" not in names(folder)


def test_disk_that_fills_up_is_reported_and_the_part_kept(public, folder, server, monkeypatch):
    write = download_module._write_whole

    def full(file, piece):
        if file.tell() > 500_000:
            raise OSError(28, "No space left on device")
        write(file, piece)

    with monkeypatch.context() as patch:
        patch.setattr(download_module, "_write_whole", full)
        with pytest.raises(DownloadError, match=r"No space left.*Free some space"):
            fetch()
    have = (folder / "weights.pth.part").stat().st_size
    assert have > 500_000
    assert fetch().read_bytes() == DATA
    assert server.seen[-1][1] == f"bytes={have}-"


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


def test_what_would_have_to_be_downloaded_is_known_beforehand(public):
    assert missing_entry("sam_vit_b").name == "sam_vit_b"
    assert missing_entry("tiny") is None
    assert missing_entry("pisam_vit_b") is None
    fetch()
    assert missing_entry("sam_vit_b") is None


def test_only_public_models_can_be_downloaded(folder):
    for name, message in [
        ("tiny", "inside the package"),
        ("pisam_vit_b", "checkpoint file"),
        ("other", "not a model"),
    ]:
        with pytest.raises(ValueError, match=message):
            download(name)


# --- mirrors ---------------------------------------------------------------------------------


@pytest.fixture
def mirrored(public):
    """A second server that has the same file, named as a mirror of the first."""
    with serve() as second:
        public(mirrors=(f"{second.address}/copy.pth",))
        yield second


def _is_away(server, public, mirror):
    public(address="http://127.0.0.1:9/weights.pth", mirrors=(f"{mirror.address}/copy.pth",))


def _has_moved(server, public, mirror):
    server.status = 404


def _has_another_file(server, public, mirror):
    server.data = DATA[:-1] + b"x"


@pytest.mark.parametrize("trouble", [_is_away, _has_moved, _has_another_file])
def test_mirror_is_asked_where_the_address_does_not_have_the_file(
    public, server, mirrored, folder, trouble
):
    trouble(server, public, mirrored)
    assert fetch().read_bytes() == DATA
    assert mirrored.seen == [("/copy.pth", None)]
    assert names(folder) == ["weights.pth"]


def test_mirror_is_left_alone_where_the_address_has_the_file(public, server, mirrored):
    assert fetch().read_bytes() == DATA
    assert mirrored.seen == []


def test_what_has_arrived_is_not_given_up_for_a_mirror(public, server, mirrored):
    server.cut_after = [600_000, 0, 0]
    with pytest.raises(DownloadError, match="start the download again"):
        fetch()
    assert mirrored.seen == []
    server.cut_after = []
    assert fetch().read_bytes() == DATA
    assert server.seen[-1][1] is not None


def test_what_has_arrived_from_a_mirror_is_gone_on_with_there(public, server, mirrored, folder):
    server.status = 404
    with pytest.raises(DownloadCancelled):
        fetch(cancel=iter([False, False, False, True]).__next__)
    done = (folder / "weights.pth.part").stat().st_size
    assert fetch().read_bytes() == DATA
    assert mirrored.seen[-1][1] == f"bytes={done}-"


def test_mirror_must_have_the_pinned_hash_too(public, server, mirrored, folder):
    server.status = 404
    mirrored.data = DATA[:-1] + b"x"
    with pytest.raises(DownloadError) as caught:
        fetch()
    for text in (server.address, "answered 404", mirrored.address, f"expected {SHA256}"):
        assert text in str(caught.value)
    assert names(folder) == []


def test_who_cancels_is_not_sent_to_a_mirror(public, server, mirrored):
    with pytest.raises(DownloadCancelled):
        fetch(cancel=lambda: True)
    assert mirrored.seen == []


def test_full_disk_is_said_once(public, mirrored, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 10, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DownloadError) as caught:
        fetch()
    assert str(caught.value).count("is too full") == 1


# --- hashes ----------------------------------------------------------------------------------

HASHES = {
    "sha256": SHA256,
    "md5": hashlib.md5(DATA).hexdigest(),
    "xxh128": xxhash.xxh128(DATA).hexdigest(),
}


@pytest.mark.parametrize("algorithm", list(HASHES))
def test_each_kind_of_hash_is_checked_on_arrival_and_later(public, server, folder, algorithm):
    public(hash=f"{algorithm}:{HASHES[algorithm]}")
    path = fetch()
    assert verify("sam_vit_b").hash == f"{algorithm}:{HASHES[algorithm]}"
    path.write_bytes(DATA[:-1] + b"x")
    with pytest.raises(CheckpointError, match=f"expected {HASHES[algorithm]}"):
        verify("sam_vit_b")
    server.data = DATA[:-1] + b"y"
    with pytest.raises(DownloadError, match=f"expected {HASHES[algorithm]}"):
        fetch()


def test_only_a_cryptographic_hash_is_said_to_tell_malice(public):
    for algorithm, tells in [("sha256", True), ("md5", True), ("xxh128", False)]:
        public(hash=f"{algorithm}:{HASHES[algorithm]}")
        fetch()
        assert verify("sam_vit_b").tells_malice is tells


def test_wrong_hash_leaves_what_was_good(public, server, folder):
    fetch()
    other = server.data = b"\1" * len(DATA)
    public(hash=f"sha256:{hashlib.sha256(other).hexdigest()}")
    server.data = b"\2" * len(DATA)
    with pytest.raises(DownloadError) as caught:
        fetch()
    message = str(caught.value)
    assert hashlib.sha256(other).hexdigest() in message
    assert hashlib.sha256(server.data).hexdigest() in message
    assert "another network" in message
    assert (folder / "weights.pth").read_bytes() == DATA
    assert names(folder) == ["weights.pth"]


def test_verify_of_an_absent_file_says_how_to_get_it(public):
    with pytest.raises(CheckpointError, match="models download sam_vit_b"):
        verify("sam_vit_b")
