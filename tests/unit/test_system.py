"""What differs between systems, with the other systems simulated."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_pisam import system
from napari_pisam.docks import quiet_import
from napari_pisam.images.files import replacing
from napari_pisam.model import native_libraries

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pretend to be on another system."""

    def pretend(platform: str) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        if platform != "linux":
            monkeypatch.setattr(system, "_STATUS", Path("no-such-file"))
            monkeypatch.setattr(system, "_AUTOGROUP", Path("no-such-file"))

    return pretend


class Windows:
    """Windows' locks, and files that keep their names while they are open."""

    LK_NBLCK = 2

    def __init__(self, *, scanned: int = 0) -> None:
        self.locked: set[tuple[int, int]] = set()
        self.scanned = scanned
        self.tries = 0
        self._replace = os.replace

    def locking(self, descriptor: int, mode: int, size: int) -> None:
        assert (mode, size) == (self.LK_NBLCK, 1)
        place = (os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR))
        if place in self.locked:
            raise PermissionError(errno.EACCES, "locked")
        self.locked.add(place)

    def replace(self, source: Path, target: Path) -> None:
        self.tries += 1
        is_open = False
        for descriptor in range(256):
            with contextlib.suppress(OSError):
                is_open |= os.path.samestat(os.fstat(descriptor), source.stat())
        if is_open or self.tries <= self.scanned:
            raise PermissionError(errno.EACCES, "open elsewhere", str(target))
        self._replace(source, target)


@pytest.fixture
def windows(tmp_path: Path, on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Windows:
    assert tmp_path.is_dir()  # pytest makes it as this system does, before the pretence
    on("win32")
    simulated = Windows()
    monkeypatch.setitem(sys.modules, "msvcrt", simulated)  # type: ignore[arg-type]
    monkeypatch.setattr(os, "replace", simulated.replace)
    monkeypatch.setattr(system, "_PAUSE", 0.0)
    return simulated


def test_a_lock_on_windows_lies_beyond_the_contents_and_moves_nothing(
    windows: Windows, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    with path.open("r+b") as first, path.open("r+b") as second:
        first.seek(3)
        assert system.lock_file(first.fileno()) is True
        assert os.lseek(first.fileno(), 0, os.SEEK_CUR) == 3
        assert system.lock_file(second.fileno()) is False
        assert {place for _, place in windows.locked} == {1 << 40}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is the real thing here")
def test_locks_of_this_system_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("r+b") as first:
        assert system.lock_file(first.fileno()) is True
        with path.open("r+b") as second:
            assert system.lock_file(second.fileno()) is False
    with path.open("r+b") as second:
        assert system.lock_file(second.fileno()) is True


def test_a_file_system_without_locks_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="Windows has no such file systems")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    assert system.lock_file(0) is None


def test_on_windows_a_written_file_is_closed_before_it_is_renamed(
    windows: Windows, tmp_path: Path
) -> None:
    path = tmp_path / "labels.tif"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert windows.tries == 1
    assert [file.name for file in tmp_path.iterdir()] == ["labels.tif"]


def test_on_windows_a_file_that_a_scanner_has_open_is_waited_for(
    windows: Windows, tmp_path: Path
) -> None:
    windows.scanned = 5
    path = tmp_path / "labels.tif"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
    assert (path.read_text(), windows.tries) == ("new", 6)


def test_on_windows_a_file_that_stays_open_elsewhere_stays_as_it_is(
    windows: Windows, tmp_path: Path
) -> None:
    windows.scanned = 10**6
    path = tmp_path / "labels.tif"
    path.write_text("old")
    with pytest.raises(PermissionError, match="open elsewhere"), replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["labels.tif"]


def test_on_other_systems_a_refusal_is_final(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on("darwin")
    simulated = Windows(scanned=10**6)
    monkeypatch.setattr(os, "replace", simulated.replace)
    with pytest.raises(PermissionError):
        system.move_into_place(tmp_path / "a", tmp_path / "b")
    assert simulated.tries == 1


def test_a_child_has_a_session_of_its_own_or_what_windows_has_instead(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for system_name in ("linux", "darwin"):
        on(system_name)
        assert system.background_process() == {"start_new_session": True}
    flags = {
        "BELOW_NORMAL_PRIORITY_CLASS": 0x4000,
        "CREATE_NO_WINDOW": 0x08000000,
        "CREATE_NEW_PROCESS_GROUP": 0x200,
    }
    for name, value in flags.items():
        monkeypatch.setattr(subprocess, name, value, raising=False)
    on("win32")
    assert system.background_process() == {"creationflags": sum(flags.values())}


@pytest.mark.parametrize("leads", [True, False], ids=["own session", "another's session"])
def test_priority_is_lowered_in_the_process_and_in_its_own_session_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, leads: bool
) -> None:
    said: list[int] = []
    group = tmp_path / "autogroup"
    group.write_text("/autogroup-7 nice 0")
    monkeypatch.setattr(system, "_AUTOGROUP", group)
    monkeypatch.setattr(os, "nice", said.append, raising=False)
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid() if leads else -1, raising=False)
    system.lower_priority(10)
    assert said == [10]
    assert group.read_text() == ("10" if leads else "/autogroup-7 nice 0")


def test_priority_on_windows_is_the_parents_to_lower(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on("win32")
    monkeypatch.delattr(os, "nice", raising=False)
    monkeypatch.delattr(os, "getsid", raising=False)
    system.lower_priority(10)


def test_peak_memory_is_in_bytes_on_every_system(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t  3000 kB\n")
    monkeypatch.setattr(system, "_STATUS", tmp_path / "status")
    assert system.peak_memory() == 3000 * 1024

    usage = types.SimpleNamespace(ru_maxrss=5000)
    resource: Any = types.SimpleNamespace(getrusage=lambda _: usage)
    monkeypatch.setitem(sys.modules, "resource", resource)
    on("darwin")
    assert system.peak_memory() == 5000
    on("freebsd14")
    assert system.peak_memory() == 5000 * 1024

    counters = types.SimpleNamespace(peak_wset=7000)
    process = types.SimpleNamespace(memory_info=lambda: counters)
    psutil: Any = types.SimpleNamespace(Process=lambda: process)
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    on("win32")
    assert system.peak_memory() == 7000
    monkeypatch.setitem(sys.modules, "psutil", None)  # type: ignore[arg-type]
    assert system.peak_memory() is None


def test_only_linux_can_be_without_a_display(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    for platform, expected in {"linux": False, "darwin": True, "win32": True}.items():
        on(platform)
        assert system.has_display() is expected
    on("linux")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert system.has_display()
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert not system.has_display()


def test_a_folder_is_where_the_variable_says_or_below_the_users_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    assert system.user_folder("runs", "SOME_FOLDER") == tmp_path
    monkeypatch.setenv("SOME_FOLDER", "")
    found = system.user_folder("runs", "SOME_FOLDER")
    assert (found.name, "napari-pisam" in found.parts) == ("runs", True)


def test_libraries_are_loaded_by_hand_only_where_that_is_known_to_work(
    on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    on("win32")
    assert quiet_import.preload_torch() is False
    on("darwin")
    monkeypatch.setattr(sys, "setdlopenflags", None, raising=False)  # would fail if it were called
    native_libraries.isolate_triton()
