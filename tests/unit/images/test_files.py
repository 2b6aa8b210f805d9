"""A file that is replaced is whole or not there, whoever writes it and however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from napari_pisam.images.files import replacing, sweep_parts, write_text

BLOCKS, BLOCK = 40, 5000


def write_slowly(path, letter):
    with replacing(path) as part, part.open("wb") as file:
        for _ in range(BLOCKS):
            file.write(letter * BLOCK)
            file.flush()


def write_often(path, letter):
    for _ in range(20):
        write_slowly(path, letter)


def parts(folder):
    return list(folder.glob(".pisam-*.part"))


def is_whole(path):
    content = path.read_bytes()
    return len(content) == BLOCKS * BLOCK and len(set(content)) == 1


def test_file_gets_its_name_only_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.parent == tmp_path
    assert path.read_text() == "new"
    assert parts(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_failure_leaves_what_was_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def fail_half_way():
        with replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone.* Make it first"):
        write_text(tmp_path / "gone" / "table.csv", "")
    assert not (tmp_path / "gone").exists()


def test_longest_name_that_the_file_system_takes_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".tif")
    with replacing(path) as part:
        part.write_bytes(b"labels")
    assert path.read_bytes() == b"labels"


def test_two_threads_never_make_an_unreadable_file(tmp_path):
    path = tmp_path / "a.bin"
    writers = [threading.Thread(target=write_often, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert is_whole(path)
    assert is_whole(path)
    assert parts(tmp_path) == []


def test_a_second_thread_waits_and_its_file_is_the_one_that_stays(tmp_path):
    path, begun, order = tmp_path / "a.txt", threading.Event(), []

    def first():
        with replacing(path) as part:
            begun.set()
            time.sleep(0.2)
            part.write_text("first")
            order.append("first")

    writer = threading.Thread(target=first)
    writer.start()
    assert begun.wait(30)
    with replacing(path) as part:
        part.write_text("second")
        order.append("second")
    writer.join()
    assert order == ["first", "second"]
    assert path.read_text() == "second"


def test_two_processes_never_make_an_unreadable_file(tmp_path):
    path, context = tmp_path / "a.bin", multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert is_whole(path)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert is_whole(path)
    assert parts(tmp_path) == []


def test_part_of_a_killed_process_is_removed_by_the_next_writer(tmp_path):
    program = (
        "import sys, time; from pathlib import Path\n"
        "from napari_pisam.images.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); print('begun', flush=True); time.sleep(600)\n"
    )
    path = tmp_path / "a.txt"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        sweep_parts(tmp_path)
        assert len(parts(tmp_path)) == 1  # somebody is at work on it
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert len(parts(tmp_path)) == 1
    with replacing(tmp_path / "another.txt") as part:
        part.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["another.txt"]


def test_planted_links_are_neither_followed_nor_written_through(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt.part", f".a.txt.{os.getpid()}.part", ".pisam-00000000-planted.part"):
        (folder / name).symlink_to(secret)
    (folder / "a.txt").symlink_to(secret)
    with replacing(folder / "a.txt") as part:
        part.write_text("new")
    assert secret.read_text() == "mine"
    assert not (folder / "a.txt").is_symlink()
    assert (folder / "a.txt").read_text() == "new"
