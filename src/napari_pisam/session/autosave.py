"""Sessions saved unasked: a folder per image, a file per run, the last ten kept.

Each run writes a file of its own. So what an earlier run left stays until ten younger ones are
there, and two viewers on one image do not write over each other's work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_pisam.session.storage import count_objects, save_planes
from napari_pisam.system import user_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_pisam.session.file_format import PackedMasks
    from napari_pisam.session.storage import SessionFile

KEPT = 10
_SUFFIX = ".pisam"
_VARIABLE = "NAPARI_PISAM_AUTOSAVE"


def autosave_folder() -> Path:
    """Find where sessions are saved unasked: a user's data folder, or what the variable says."""
    return user_folder("sessions", _VARIABLE)


@dataclass(frozen=True)
class Generation:
    """What one run saved of an image.

    Attributes
    ----------
    path : Path
    objects : int
        How many, in all planes.
    saved : float
        When, seconds since 1970.
    """

    path: Path
    objects: int
    saved: float


class Autosaves:
    """The files in a folder; may be used in any thread.

    Parameters
    ----------
    folder : Path
        Need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new_path(self, key: str) -> Path:
        """Name a file that nobody has, for an image's key (see `image_key`)."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}{_SUFFIX}"
        return self._folder / key / name

    def write(self, path: Path, content: SessionFile, packed: PackedMasks | None = None) -> None:
        """Write a file of `new_path`, and remove what is older than the last ten.

        Raises
        ------
        OSError, ValueError
            If it cannot be written; nothing is removed then.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        save_planes(path, content, packed)
        others = [one for one, _ in _newest_first(path.parent) if one != path]
        for old in others[KEPT - 1 :]:
            with contextlib.suppress(OSError):
                old.unlink()

    def newest(
        self, key: str, *, but: Path | None = None, signatures: Iterable[str] = ()
    ) -> Generation | None:
        """Find what was saved last of an image; files that cannot be read are passed over.

        Parameters
        ----------
        key : str
            Of the image.
        but : Path, optional
            The file that is being written.
        signatures : iterable of str
            Of planes, as in files of version 1: those lie in the folder itself.
        """
        candidates = list(_newest_first(self._folder / key))
        for signature in signatures:
            name = hashlib.sha256(signature.encode()).hexdigest()[:24] + _SUFFIX
            with contextlib.suppress(OSError):
                path = self._folder / name
                candidates.append((path, path.stat().st_mtime))
        for path, saved in sorted(candidates, key=lambda one: -one[1]):
            if path != but:
                with contextlib.suppress(ValueError):
                    return Generation(path, count_objects(path), saved)
        return None

    @property
    def has_old_files(self) -> bool:
        """Whether there are files of version 1."""
        return any(True for _ in _newest_first(self._folder))


def describe(found: Generation, now: float | None = None) -> str:
    """Say what was saved and when: ``"16 objects, yesterday 17:40"``."""
    moment = time.localtime(found.saved)
    today = time.localtime(time.time() if now is None else now)
    days = _day(today) - _day(moment)
    day = {0: "today", 1: "yesterday"}.get(days, time.strftime("%Y-%m-%d", moment))
    objects = "1 object" if found.objects == 1 else f"{found.objects} objects"
    return f"{objects}, {day} {time.strftime('%H:%M', moment)}"


def _day(moment: time.struct_time) -> int:
    from datetime import date

    return date(moment.tm_year, moment.tm_mon, moment.tm_mday).toordinal()


def _newest_first(folder: Path) -> Iterator[tuple[Path, float]]:
    """List a folder's session files; what is not one or may not be looked at is left out."""
    listed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                    listed.append((folder / entry.name, entry.stat().st_mtime))
    yield from sorted(listed, key=lambda one: -one[1])
