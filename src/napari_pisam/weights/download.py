"""One file over HTTPS: resumable to the byte, cancellable, checked before it gets its name.

Whoever lists models imports this: `requests` is imported only by what downloads.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from napari_pisam.images.files import write_text
from napari_pisam.system import lock_file, move_into_place, open_files_stay
from napari_pisam.weights.files import MAX_BYTES, mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import requests

CACHE_VARIABLE = "NAPARI_PISAM_CACHE"
"""The environment's variable with the folder of downloaded weights."""

_TIMEOUT = (10.0, 30.0)  # s: to connect, and between two pieces
_CHUNK = 256 * 1024
_MAX_REDIRECTS = 10
_TRIES_IN_VAIN = 5


class DownloadError(RuntimeError):
    """A file could not be downloaded. The message says why and what to do."""


class DownloadCancelled(DownloadError):
    """The caller cancelled; what had arrived is kept and the next download goes on from there."""


class _Restart(Exception):
    """What was downloaded before does not belong to what the server offers now."""


class ResumableDownload:
    """One download, which keeps what has arrived in a ``.part`` file.

    Parameters
    ----------
    url
        Address of the file.
    path
        What it becomes; a file that is there is replaced when the new one is whole and right.
    expected
        Hash that it must have, e.g. ``"md5:0123..."``; ``None`` where nobody knows it.
    size
        Expected size, bytes, where it is known exactly.
    progress
        Called with (bytes so far, bytes in all or None).
    cancel
        Asked between pieces; true stops the download.
    """

    def __init__(
        self,
        url: str,
        path: Path,
        *,
        expected: str | None = None,
        size: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        self.url = url
        self.path = path
        self.part = part_of(path)
        self.state_file = path.with_name(f"{self.part.name}.json")
        self.expected = expected
        self.size = size
        self.progress = progress
        self.cancel = cancel
        self._file: IO[bytes]

    @property
    def kept(self) -> int:
        """Bytes that have arrived from this address, from which the next try goes on."""
        return self.part.stat().st_size if self._state() and self.part.is_file() else 0

    def run(self) -> None:
        """Download.

        Raises
        ------
        DownloadError
            If the file does not arrive whole and with the expected hash.
        """
        import requests

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _own_part(self.part) as self._file, requests.Session() as session:
                # A part of an earlier call may be bad in itself: then once more from nothing.
                if not self._fetch_checked(session):
                    self._discard()
                    self._fetch_checked(session)
                if open_files_stay():
                    self._file.close()
                move_into_place(self.part, self.path)
                self.state_file.unlink(missing_ok=True)
        except requests.RequestException as error:
            raise DownloadError(self._unreachable(error)) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "Free some space" if full else "Check the folder's permissions"
            msg = (
                f"Writing to {self.part.parent} failed: {error.strerror or error}. {todo}, or set "
                f"{CACHE_VARIABLE} to another folder. What has arrived is kept for the next try."
            )
            raise DownloadError(msg) from error

    def _unreachable(self, error: Exception) -> str:
        return (
            f"{self.url} cannot be reached ({type(error).__name__}). Check the network connection; "
            "behind a proxy, set HTTPS_PROXY (e.g. HTTPS_PROXY=http://proxy.example:3128). Or "
            f"download the file by other means and put it at {self.path}"
        )

    def _fetch_checked(self, session: requests.Session) -> bool:
        """Whether the file is right; false if it is wrong but was resumed."""
        resumed = self._offset() > 0
        self._fetch(session)
        problem = mismatch(self.part, self.expected)
        if problem is None:
            return True
        if resumed:
            return False
        self._discard()
        msg = (
            f"The file from {self.url} {problem}. It was not kept, and nothing else was touched. "
            "Something changed it on its way, or at its source: try again from another network; if "
            "it stays so, look for a newer napari-pisam."
        )
        raise DownloadError(msg)

    def _fetch(self, session: requests.Session) -> None:
        """Transfer until all is there; go on after a broken connection while there is progress."""
        import requests

        in_vain = 0
        while in_vain < _TRIES_IN_VAIN:
            before = self._offset()
            try:
                self._transfer(session)
            except _Restart:
                self._discard()
                in_vain += 1
            except requests.RequestException as error:
                have = self._offset()
                if have > before:
                    in_vain = 0
                    continue
                if have == 0:
                    raise
                msg = (
                    f"The connection to {self.url} broke after {have} bytes ({error}). They are "
                    "kept: start the download again and it goes on from there."
                )
                raise DownloadError(msg) from error
            else:
                return
        msg = f"The file at {self.url} changes while it is being downloaded. Try again later."
        raise DownloadError(msg)

    def _transfer(self, session: requests.Session) -> None:
        import requests

        state, offset = self._state(), self._offset()
        if offset and offset == state["total"]:
            return  # all had arrived earlier
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": state["validator"]}
        with self._open(session, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and offset:
                raise _Restart
            if not response.ok:
                msg = (
                    f"{self.url} answered {response.status_code} ({response.reason}). Try again "
                    "later; if it stays so, the file may have moved: look for a newer napari-pisam."
                )
                raise DownloadError(msg)
            total = self._total(response, offset, state)
            if response.status_code != requests.codes.partial_content:
                offset = 0  # the server ignored the range, or the file changed
            self._check_room(offset, total)
            self._write_state(response, total)
            self._receive(response, offset, total)

    def _total(self, response: requests.Response, offset: int, state: dict[str, Any]) -> int | None:
        """Size of the whole file, bytes, as the server says it."""
        import requests

        if response.status_code != requests.codes.partial_content:
            length = response.headers.get("Content-Length", "")
            return int(length) if re.fullmatch(r"\d{1,18}", length, re.ASCII) else None
        span = re.fullmatch(
            r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", "")
        )
        if span is None or int(span[1]) != offset or int(span[2]) != state.get("total"):
            raise _Restart
        if _validator(response) not in (None, state["validator"]):
            raise _Restart
        return int(span[2])

    def _check_room(self, offset: int, total: int | None) -> None:
        if self.size is not None and total is not None and total != self.size:
            msg = (
                f"{self.url} offers {total} bytes, expected {self.size}: it is another file. "
                "A proxy or a login page may stand in between; try from another network."
            )
            raise DownloadError(msg)
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - offset > free:
            msg = (
                f"The disk with {self.part.parent} is too full: {(total - offset) / 1e6:.0f} MB "
                f"are needed and {free / 1e6:.0f} MB are free. Free some space, or set "
                f"{CACHE_VARIABLE} to a folder on another disk."
            )
            raise DownloadError(msg)

    def _receive(self, response: requests.Response, offset: int, total: int | None) -> None:
        import requests

        done, limit = offset, self.size or total or MAX_BYTES
        self._file.truncate(offset)
        self._file.seek(offset)
        self._report(done, total)
        for piece in _pieces(response):
            _write_whole(self._file, piece)
            done += len(piece)
            self._report(done, total)
            if done > limit:
                msg = f"{self.url} sends more than the {limit} bytes expected; stopped."
                raise DownloadError(msg)
        os.fsync(self._file.fileno())
        if total is not None and done < total:
            msg = f"only {done} of {total} bytes arrived"
            raise requests.ConnectionError(msg)

    def _report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)
        if self.cancel is not None and self.cancel():
            msg = f"The download was cancelled after {done} bytes; the next one goes on from there."
            raise DownloadCancelled(msg)

    def _open(self, session: requests.Session, headers: dict[str, str]) -> requests.Response:
        import requests

        url = self.url
        # Redirects are followed here, so that each one is checked before it is asked.
        for _ in range(_MAX_REDIRECTS):
            if not _is_allowed(url):
                msg = f"{url} is not an https address; weights are downloaded over https only."
                raise DownloadError(msg)
            try:
                response = session.get(
                    url, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False
                )
            except requests.RequestException:
                raise
            except ValueError as error:
                msg = f"{url} leads to what is not an https address ({error}). Check the address."
                raise DownloadError(msg) from error
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["Location"])
            response.close()
        msg = f"Too many redirects, the last one to {url}. Try again later."
        raise DownloadError(msg)

    def _state(self) -> dict[str, Any]:
        """Read what is known of an earlier try that can be built upon; else nothing."""
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(state, dict) or state.get("url") != self.url:
            return {}
        validator, total = state.get("validator"), state.get("total")
        usable = isinstance(validator, str) and validator and isinstance(total, (int, type(None)))
        return {"validator": validator, "total": total} if usable else {}

    def _offset(self) -> int:
        """Bytes of an earlier try that can be built upon."""
        if not self._state():
            return 0
        return os.fstat(self._file.fileno()).st_size

    def _write_state(self, response: requests.Response, total: int | None) -> None:
        state = {"url": self.url, "validator": _validator(response), "total": total}
        write_text(self.state_file, json.dumps(state))

    def _discard(self) -> None:
        self._file.truncate(0)
        self.state_file.unlink(missing_ok=True)


def _is_allowed(url: str) -> bool:
    try:
        return urlsplit(url).scheme == "https"
    except ValueError:
        return False


def _validator(response: requests.Response) -> str | None:
    """Say by what to tell that a file is still the same: a strong ETag, else its date."""
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield what has arrived as soon as it has: a broken connection then costs no byte of it."""
    import requests
    import urllib3

    try:
        while piece := response.raw.read1(_CHUNK, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise requests.ConnectionError(error) from error


def _write_whole(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:  # an unbuffered file may take less than it is given
        rest = rest[file.write(rest) :]


def part_of(path: Path) -> Path:
    """Where what has arrived of a file is kept until it is whole."""
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def _own_part(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file that nobody else is writing; removed in the end if it is empty.

    It has to keep its name, so that a later process finds it. What somebody has linked there is
    not followed.
    """
    if part.is_symlink():
        part.unlink()
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(part, flags, 0o666), "r+b", buffering=0) as file:
        # Between the two another process may have finished it and given it its name.
        if lock_file(file.fileno()) is False or not part.exists():
            msg = f"Another process is downloading {part.stem}. Wait until it has finished."
            raise DownloadError(msg)
        try:
            yield file
        finally:
            is_empty = not file.closed and not os.fstat(file.fileno()).st_size
            if is_empty and not open_files_stay():  # while it is locked
                part.unlink(missing_ok=True)
