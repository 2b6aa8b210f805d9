"""Files are written whole or not at all, whoever writes and however that ends."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import secrets
import threading
import time
import weakref
from typing import TYPE_CHECKING

from napari_pisam.system import lock_file, move_into_place, open_files_stay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp"})
LABEL_TILE = 512
"""Side of the tiles of a label image, px."""

_PART_PREFIX, _PART_SUFFIX = ".pisam-", ".part"
# Where the file system knows no locks, only age tells what a killed process left, s.
_ABANDONED = 24 * 3600


class _Turn:
    """The right to write one file, passed from thread to thread of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_turns: weakref.WeakValueDictionary[str, _Turn] = weakref.WeakValueDictionary()
_turns_guard = threading.Lock()


def _turn_for(path: Path) -> _Turn:
    with _turns_guard:
        return _turns.setdefault(os.path.normcase(path.absolute()), _Turn())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, which gets the final name only if all goes well.

    Whatever ends the block early, Ctrl-C included, removes what was written so far; what a killed
    process left is removed by the next who writes into the folder. Threads of one process write
    the same file one after the other, and of several processes the last one's file stays: whole,
    since each has a part file of its own, whose name nobody can know beforehand.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced. A link is replaced, not followed.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.name} cannot be written: there is no folder {path.parent}. Make it first, or "
            "choose another folder."
        )
    turn = _turn_for(path)
    with turn.lock:
        sweep_parts(path.parent)
        part, descriptor = _new_part(path)
        try:
            yield part
            # Otherwise a power cut can leave the final name without its contents.
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            if open_files_stay():
                os.close(descriptor)
                descriptor = -1
            move_into_place(part, path)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the names of the columns first, as CSV in UTF-8; see `write_text`."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _new_part(path: Path) -> tuple[Path, int]:
    """Make a part file that did not exist, locked as long as its descriptor is open."""
    # Not the file's own name: with anything added it might be too long for the file system.
    about = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return new_locked_file(path.parent, f"{_PART_PREFIX}{about}-", _PART_SUFFIX)


def new_locked_file(folder: Path, start: str, end: str) -> tuple[Path, int]:
    """Make a file that did not exist, of a random name, and open it to read and write.

    Returns
    -------
    path : Path
    descriptor : int
        Locked as long as it is open, see `lock_file`.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{start}{secrets.token_hex(8)}{end}"
        descriptor = os.open(path, flags, 0o666)
        # Between the two somebody who sweeps may have taken it for one left behind.
        is_mine = lock_file(descriptor) is not False and path.exists()
        if is_mine:
            return path, descriptor
        os.close(descriptor)


def sweep_parts(folder: Path) -> None:
    """Remove the part files in a folder that nobody is writing any more.

    Parameters
    ----------
    folder : Path
        What cannot be looked at, or belongs to somebody at work, stays.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.startswith(_PART_PREFIX) and entry.name.endswith(_PART_SUFFIX)
        ]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(folder / name)


def _remove_if_abandoned(part: Path) -> None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(part, flags)
    try:
        is_free = lock_file(descriptor)
        age = time.time() - os.fstat(descriptor).st_mtime
        is_abandoned = is_free or (is_free is None and age > _ABANDONED)
        if is_abandoned and not open_files_stay():
            part.unlink()  # while the lock is held: nobody can begin to write to it
    finally:
        os.close(descriptor)
    if is_abandoned and open_files_stay():
        part.unlink()
