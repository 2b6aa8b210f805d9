"""One file over HTTPS: resumable, cancellable, checked before it gets its name."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests

from napari_pisam.weights.checkpoint_files import MAX_BYTES, file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TIMEOUT = (10.0, 30.0)  # s: to connect, and between two pieces
_CHUNK = 256 * 1024
_MAX_REDIRECTS = 10
_ATTEMPTS = 5
_LOCAL = ("127.0.0.1", "localhost", "::1")


class DownloadError(RuntimeError):
    """A file could not be downloaded. The message says why and what to do."""


class DownloadCancelled(DownloadError):
    """The caller cancelled; what had arrived is kept and the next download goes on from there."""


class _Restart(Exception):
    """What was downloaded before does not belong to what the server offers now."""


class ResumableDownloader:
    """A downloader for `pooch` that keeps what has arrived in a ``.part`` file.

    Parameters
    ----------
    part
        Where the incoming file is kept; a description of it lies beside as ``.part.json``.
    sha256
        Expected hash, or ``None`` to take the one that the server names in the header
        ``X-Linked-ETag`` (see ``linked_sha256``).
    size
        Expected size, bytes.
    progress
        Called with (bytes so far, bytes in all or None).
    cancel
        Asked between pieces; true stops the download.
    allow_local_http
        Permit plain ``http`` from this very machine (for tests).

    Attributes
    ----------
    linked_sha256 : str or None
        The hash that the server named.
    """

    def __init__(
        self,
        part: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        allow_local_http: bool = False,
    ) -> None:
        self.part = part
        self.state_file = part.with_name(f"{part.name}.json")
        self.sha256 = sha256
        self.size = size
        self.progress = progress
        self.cancel = cancel
        self.allow_local_http = allow_local_http
        self.linked_sha256: str | None = None

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download ``url`` to ``output_file``; `pooch` calls this.

        Raises
        ------
        DownloadError
            If the file does not arrive whole and with the expected hash.
        requests.RequestException
            If the server cannot be reached.
        """
        try:
            with _exclusive(self.part), requests.Session() as session:
                # A part of an earlier call may be bad in itself: then once more from nothing.
                if not self._fetch_checked(session, url):
                    self._discard()
                    self._fetch_checked(session, url)
                os.replace(self.part, output_file)
                self.state_file.unlink(missing_ok=True)
        except requests.RequestException:
            raise
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            todo = "Free some space" if full else "Check the folder's permissions"
            msg = (
                f"Writing to {self.part.parent} failed: {error.strerror or error}. {todo}, or set "
                "NAPARI_PISAM_CACHE to another folder. What has arrived is kept for the next try."
            )
            raise DownloadError(msg) from error

    def ask_linked_sha256(self, url: str) -> str | None:
        """Ask the server for the hash of its file, without downloading it."""
        with requests.Session() as session:
            self._open(session, url, {}).close()
        return self.linked_sha256

    def _fetch_checked(self, session: requests.Session, url: str) -> bool:
        """Whether the file is right; false if it is wrong but was resumed."""
        resumed = self._offset(url) > 0
        self._fetch(session, url)
        expected = self.sha256 or self.linked_sha256
        digest = file_sha256(self.part)
        if expected is None or digest == expected:
            return True
        if resumed:
            return False
        self._discard()
        msg = (
            f"The file from {url} has the SHA-256 {digest}, expected {expected}. It was deleted. "
            "Something changed it on its way, or at its source; try again from another network."
        )
        raise DownloadError(msg)

    def _fetch(self, session: requests.Session, url: str) -> None:
        """Transfer until all is there; go on after a broken connection while there is progress."""
        for attempt in range(1, _ATTEMPTS + 1):
            before = self._offset(url)
            try:
                self._transfer(session, url)
            except _Restart:
                self._discard()
            except requests.RequestException as error:
                gained = self._offset(url) - before
                if gained <= 0 or attempt == _ATTEMPTS:
                    if self._offset(url) == 0:
                        raise
                    msg = (
                        f"The connection to {url} broke after {self._offset(url)} bytes ({error}). "
                        "They are kept: start the download again and it goes on from there."
                    )
                    raise DownloadError(msg) from error
            else:
                return
        msg = f"The file at {url} changes while it is being downloaded. Try again later."
        raise DownloadError(msg)

    def _transfer(self, session: requests.Session, url: str) -> None:
        state, offset = self._state(url), self._offset(url)
        if offset and offset == state.get("total"):
            # All had arrived earlier; only the server's word on the hash may be needed.
            if self.sha256 is None:
                self._open(session, url, {}).close()
            return
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": state["validator"]}
        with self._open(session, url, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and offset:
                raise _Restart
            if not response.ok:
                msg = (
                    f"{url} answered {response.status_code} ({response.reason}). Try again later; "
                    "if it stays so, the file may have moved: look for a newer napari-pisam."
                )
                raise DownloadError(msg)
            total = self._total(response, offset, state)
            if response.status_code != requests.codes.partial_content:
                offset = 0  # the server ignored the range, or the file changed
            self._check_room(url, offset, total)
            self._write_state(url, response, total)
            self._receive(response, url, offset, total)

    def _total(self, response: requests.Response, offset: int, state: dict[str, Any]) -> int | None:
        """Size of the whole file, bytes, as the server says it."""
        if response.status_code != requests.codes.partial_content:
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != offset or int(span[2]) != state.get("total"):
            raise _Restart
        if _validator(response) not in (None, state["validator"]):
            raise _Restart
        return int(span[2])

    def _check_room(self, url: str, offset: int, total: int | None) -> None:
        if self.size is not None and total is not None and total != self.size:
            msg = (
                f"{url} offers {total} bytes, expected {self.size}: it is another file. "
                "A proxy or a login page may stand in between; try from another network."
            )
            raise DownloadError(msg)
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - offset > free:
            msg = (
                f"The disk with {self.part.parent} is too full: {(total - offset) / 1e6:.0f} MB "
                f"are needed and {free / 1e6:.0f} MB are free. Free some space, or set "
                "NAPARI_PISAM_CACHE to a folder on another disk."
            )
            raise DownloadError(msg)

    def _receive(
        self, response: requests.Response, url: str, offset: int, total: int | None
    ) -> None:
        done, limit = offset, self.size or total or MAX_BYTES
        with self.part.open("ab" if offset else "wb") as file:
            self._report(done, total)
            for chunk in response.iter_content(_CHUNK):
                done += file.write(chunk)
                self._report(done, total)
                if done > limit:
                    msg = f"{url} sends more than the {limit} bytes expected; stopped."
                    raise DownloadError(msg)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done < total:
            msg = f"only {done} of {total} bytes arrived"
            raise requests.ConnectionError(msg)

    def _report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)
        if self.cancel is not None and self.cancel():
            msg = f"The download was cancelled after {done} bytes; the next one goes on from there."
            raise DownloadCancelled(msg)

    def _open(
        self, session: requests.Session, url: str, headers: dict[str, str]
    ) -> requests.Response:
        # Redirects are followed here, so that each one is checked before it is asked.
        first_host = urlsplit(url).hostname
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            local = self.allow_local_http and parts.scheme == "http" and parts.hostname in _LOCAL
            if parts.scheme != "https" and not local:
                msg = f"{url} is not an https address; weights are downloaded over https only."
                raise DownloadError(msg)
            response = session.get(
                url, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False
            )
            if parts.hostname == first_host:
                self._note_linked_hash(response, url)
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["Location"])
            response.close()
        msg = f"Too many redirects, the last one to {url}. Try again later."
        raise DownloadError(msg)

    def _note_linked_hash(self, response: requests.Response, url: str) -> None:
        linked = response.headers.get("X-Linked-ETag", "").removeprefix("W/").strip('"').lower()
        if not re.fullmatch(r"[0-9a-f]{64}", linked):
            return
        self.linked_sha256 = linked
        if self.sha256 is not None and linked != self.sha256:
            msg = (
                f"{url} now offers a file with the SHA-256 {linked}; on record is {self.sha256}. "
                "If the change is known to be right, delete the .json beside the file and repeat."
            )
            raise DownloadError(msg)

    def _state(self, url: str) -> dict[str, Any]:
        try:
            state = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        usable = isinstance(state, dict) and state.get("url") == url and state.get("validator")
        return state if usable else {}

    def _offset(self, url: str) -> int:
        """Bytes of an earlier try that can be built upon."""
        if not self._state(url):
            return 0
        try:
            return self.part.stat().st_size
        except OSError:
            return 0

    def _write_state(self, url: str, response: requests.Response, total: int | None) -> None:
        state = {"url": url, "validator": _validator(response), "total": total}
        self.state_file.write_text(json.dumps(state), encoding="utf-8")

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state_file.unlink(missing_ok=True)


def _validator(response: requests.Response) -> str | None:
    """Give what tells whether the file is still the same one: a strong ETag, else its date."""
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


@contextlib.contextmanager
def _exclusive(part: Path) -> Iterator[None]:
    """Keep two processes from writing one part file."""
    if sys.platform == "win32":  # there an open file cannot be replaced anyway
        yield
        return
    import fcntl

    lock = part.with_name(f".{part.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"Another process is downloading {part.stem}. Wait until it has finished."
            raise DownloadError(msg) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
