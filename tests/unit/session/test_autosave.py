"""Sessions saved unasked: what an earlier run left stays, whatever else lies in the folder."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from fake_session import fake_session, save_session
from napari_pisam.predict.prompts import Prompts
from napari_pisam.session.autosave import Autosaves, Generation, autosave_folder, describe
from napari_pisam.session.storage import SavedPlane, SessionFile, load_session

KEY = "ab" * 16


def content(count):
    session = fake_session()
    for number in range(count):
        session.new_object(Prompts((2, 2 + number, 8, 9 + number)))
    return SessionFile((SavedPlane(session.to_state()),))


@pytest.fixture
def autosaves(tmp_path):
    return Autosaves(tmp_path / "sessions")


def saved(autosaves, count, age):
    path = autosaves.new_path(KEY)
    autosaves.write(path, content(count))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_two_runs_write_two_files_and_the_last_is_found(autosaves):
    first, second = saved(autosaves, 3, 50), saved(autosaves, 2, 10)
    assert first != second
    assert (autosaves.newest(KEY).path, autosaves.newest(KEY).objects) == (second, 2)
    assert autosaves.newest(KEY, but=second).path == first
    assert autosaves.newest("cd" * 16) is None


def test_the_last_ten_are_kept(autosaves):
    paths = [saved(autosaves, 1, 100 - age) for age in range(14)]
    assert [path for path in paths if path.is_file()] == paths[4:]


def test_a_run_never_removes_its_own_file(autosaves):
    own = saved(autosaves, 1, 10_000)
    others = [saved(autosaves, 1, 100 - age) for age in range(12)]
    assert not own.exists()
    autosaves.write(own, content(1))
    assert own.is_file()
    assert sum(path.is_file() for path in others) == 9


def test_files_that_cannot_be_read_are_passed_over(autosaves, tmp_path):
    good = saved(autosaves, 1, 100)
    folder = good.parent
    (folder / "damaged.pisam").write_bytes(b"PK nothing")
    (folder / "folder.pisam").mkdir()
    (folder / "gone.pisam").symlink_to(tmp_path / "none")
    (folder / "notes.txt").write_text("hello")
    assert autosaves.newest(KEY).path == good


def test_a_folder_that_is_none_holds_nothing_and_cannot_be_written(tmp_path):
    (tmp_path / "sessions").write_text("a file")
    autosaves = Autosaves(tmp_path / "sessions")
    assert autosaves.newest(KEY) is None
    assert not autosaves.has_old_files
    with pytest.raises(OSError, match=r"exists|directory"):
        autosaves.write(autosaves.new_path(KEY), content(1))


def test_a_folder_that_may_not_be_entered_holds_nothing(autosaves, monkeypatch):
    saved(autosaves, 1, 1)

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert autosaves.newest(KEY) is None


def test_what_version_1_saved_is_found(autosaves, tmp_path):
    signature = "24x30x1-uint16-" + "0" * 64
    name = hashlib.sha256(signature.encode()).hexdigest()[:24] + ".pisam"
    (tmp_path / "sessions").mkdir()
    save_session(tmp_path / "sessions" / name, content(4).state)
    assert autosaves.has_old_files
    assert autosaves.newest(KEY, signatures=[signature]).objects == 4
    saved(autosaves, 1, 0)
    load_session(autosaves.newest(KEY, signatures=[signature]).path)


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NAPARI_PISAM_AUTOSAVE", "~/kept")
    assert autosave_folder() == tmp_path / "kept"


def test_what_was_saved_is_described(tmp_path):
    now = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
    yesterday = time.mktime((2026, 2, 28, 17, 40, 0, 0, 0, -1))
    assert describe(Generation(tmp_path, 16, yesterday), now) == "16 objects, yesterday 17:40"
    assert describe(Generation(tmp_path, 1, now - 3600), now) == "1 object, today 11:00"
    assert describe(Generation(tmp_path, 2, now - 9 * 86400), now).startswith(
        "2 objects, 2026-02-20"
    )
