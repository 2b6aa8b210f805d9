"""A rollback journal for labels on disk: what an edit changes is noted before it is written.

An edit writes many chunks, and a process that is killed in the midst has written some of them.
Whoever opens the labels next takes those back, as databases do.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import new_locked_file
from napari_pisam.images.json_reader import parse
from napari_pisam.session.autosave import autosave_folder
from napari_pisam.session.merge import Patch
from napari_pisam.system import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pisam.images.json_reader import Node

_FOLDER, _SUFFIX = "unfinished", ".journal"


def place_of(data: Any) -> str:
    """Return where on disk an array has its chunks; empty for what ends with the process.

    Parameters
    ----------
    data : array
        zarr 3 has the folder of a store as its `root`, zarr 2 as its `path`. Labels that are
        mirrored in memory have the array as `on_disk`.
    """
    data = getattr(data, "on_disk", data)
    store = getattr(data, "store", None)
    folder = getattr(store, "root", None) or getattr(store, "path", None)
    if not isinstance(folder, str | os.PathLike):
        return ""
    return str(Path(folder).absolute() / str(getattr(data, "path", "")))


class RollbackJournal:
    """Notes what one edit changes in an array; empty, and then removed, when all is written.

    Does nothing for arrays that end with the process, or where nothing can be noted: then the
    autosave fails too, which is told.

    Parameters
    ----------
    data : array
        See `place_of`.
    """

    def __init__(self, data: Any) -> None:
        self._data, self._place = data, place_of(data)
        self._path: Path | None = None
        self._descriptor = -1

    def note(self, key: tuple[int | slice, ...], after: NDArray[Any]) -> None:
        """Note what a part of the array is before `after` is written there.

        Parameters
        ----------
        key : tuple of int and slice
            One for every axis.
        after : array
            Of the part's shape.
        """
        if not self._place:
            return
        before = np.asarray(self._data[key]).ravel()
        patch = Patch.between((0, 0, 1, before.size), before, after.ravel())
        if patch is None:
            return
        part = [
            list(one.indices(int(size))[:2]) if isinstance(one, slice) else [one, one + 1]
            for one, size in zip(key, self._data.shape, strict=True)
        ]
        noted: dict[str, Any] = {"part": part, "changed": _text(patch.changed)}
        noted |= {"old": _text(patch.old), "new": _text(patch.new)}
        line = json.dumps(noted).encode() + b"\n"
        if self._is_open() and os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _is_open(self) -> bool:
        with suppress(OSError):
            if self._path is None:
                folder = autosave_folder() / _FOLDER
                folder.mkdir(parents=True, exist_ok=True)
                self._path, self._descriptor = new_locked_file(folder, _start(self._place), _SUFFIX)
        return self._path is not None

    def close(self, *, is_whole: bool) -> None:
        """End the edit; what is not whole is taken back by `roll_back`."""
        if self._path is None:
            return
        if is_whole:
            # Emptied first: without its lock it counts as a killed process's.
            os.truncate(self._descriptor, 0)
        os.close(self._descriptor)
        if is_whole:
            with suppress(OSError):
                self._path.unlink()
        self._path, self._descriptor = None, -1


def roll_back(data: Any) -> bool:
    """Take back what was written of edits that were not finished; whether there were any.

    Pixels that somebody changed since stay. Nothing but the parts that were begun is read.

    Raises
    ------
    ValueError, OSError
        If a journal cannot be read, or the array not written: the journal stays.
    """
    place, found = place_of(data), False
    if place and not getattr(data, "read_only", False):
        for path in _journals(place):
            found |= _roll_back(data, path)
    return found


def _journals(place: str) -> list[Path]:
    """List an array's journals, the last one first."""
    try:
        found = list((autosave_folder() / _FOLDER).glob(f"{_start(place)}*{_SUFFIX}"))
        return sorted(found, key=lambda path: -path.stat().st_mtime_ns)
    except OSError:
        return []


def _roll_back(data: Any, path: Path) -> bool:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if lock_file(file.fileno()) is False:
            return False  # somebody is at it
        try:
            begun = list(_read(file.read(), tuple(int(size) for size in data.shape)))
        except ValueError as error:
            raise ValueError(
                f"The labels may hold half of an object: what they were before is noted in {path}, "
                f"which is damaged ({error}). Look at the last object, and remove that file."
            ) from error
        for part, patch in reversed(begun):
            block = np.asarray(data[part])
            data[part] = patch.undone(block.reshape(1, -1)).reshape(block.shape)
        os.truncate(file.fileno(), 0)
    path.unlink(missing_ok=True)
    return bool(begun)


def _read(content: bytes, shape: tuple[int, ...]) -> Iterator[tuple[tuple[slice, ...], Patch]]:
    # What does not end with a line's end was not noted wholly, and then not begun.
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        node = parse(line, f"line {number}")
        ends = [one.items(2) for one in node.at("part").items(len(shape))]
        part = tuple(
            slice(low.integer(0, size), high.integer(0, size))
            for (low, high), size in zip(ends, shape, strict=True)
        )
        count = int(np.prod([max(0, one.stop - one.start) for one in part]))
        changed, old, new = (_value(node.at(name)) for name in ("changed", "old", "new"))
        if isinstance(changed, int):
            raise node.at("changed").wrong("a text")
        patch = Patch((0, 0, 1, count), changed, old, new)
        patch.positions(), patch.old_values(), patch.new_values()
        yield part, patch


def _text(value: int | bytes) -> int | str:
    return value if isinstance(value, int) else base64.b64encode(value).decode()


def _value(node: Node) -> int | bytes:
    if isinstance(node.value, int):
        return node.integer(-(2**63), 2**64)
    try:
        return base64.b64decode(node.value, validate=True)
    except (TypeError, binascii.Error):
        raise node.wrong("base64") from None


def _start(place: str) -> str:
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32] + "-"
