"""Weights at public addresses: what they are, downloading, and checking them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pooch
import requests

from napari_pisam.model.variants import VARIANTS
from napari_pisam.weights.checkpoint_files import CheckpointError, file_sha256
from napari_pisam.weights.download import DownloadError, ResumableDownloader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Trust = Literal["registry", "hub", "first-use"]

CACHE_VARIABLE = "NAPARI_PISAM_CACHE"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicFile:
    """Public weights.

    Attributes
    ----------
    name
        The variant they are of.
    url
        Address.
    sha256
        ``None`` where it is not known beforehand: then the server's own word is checked and kept.
    size
        Bytes, where known.
    licence, source
        As their authors state them.
    """

    name: str
    url: str
    sha256: str | None
    size: int | None
    source: str
    licence: str = "Apache-2.0"

    @property
    def file_name(self) -> str:
        """Name in the cache folder."""
        return self.url.rsplit("/", 1)[-1]


def _registry() -> dict[str, PublicFile]:
    meta = "https://dl.fbaipublicfiles.com/segment_anything/"
    hub = "https://huggingface.co/lkeab/hq-sam/resolve/main/"
    sam = (
        (
            "vit_b_01ec64",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
        ("vit_l_0b3195", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", None),
        (
            "vit_h_4b8939",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
        ),
    )
    files = [
        PublicFile(f"sam_{stem[:5]}", f"{meta}sam_{stem}.pth", sha256, size, "segment-anything")
        for stem, sha256, size in sam
    ]
    files += [
        PublicFile(f"hqsam_vit_{size}", f"{hub}sam_hq_vit_{size}.pth", None, None, "sam-hq")
        for size in "blh"
    ]
    return {file.name: file for file in files}


REGISTRY: dict[str, PublicFile] = _registry()


@dataclass(frozen=True)
class Verification:
    """A cached file whose hash was just computed and found right.

    ``trust`` says whose word the hash is: this package's registry, the hub's when the file was
    downloaded, or none but the file's own when it was first used.
    """

    name: str
    path: Path
    sha256: str
    trust: Trust


def cache_folder() -> Path:
    """Folder of downloaded weights: ``NAPARI_PISAM_CACHE``, else the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser() if given else Path(pooch.os_cache("napari-pisam"))


def cached_path(name: str) -> Path:
    """Where the weights of a public model are, or would be.

    Raises
    ------
    ValueError
        If it is not a model that can be downloaded.
    """
    return cache_folder() / _public(name).file_name


def _public(name: str) -> PublicFile:
    if name in REGISTRY:
        return REGISTRY[name]
    reason = {"tiny": "is inside the package: nothing is to be downloaded"}.get(
        name,
        "is not public: give the path of a checkpoint file instead"
        if name in VARIANTS
        else "is not a model",
    )
    msg = f"{name!r} {reason}. Models that can be downloaded: {', '.join(REGISTRY)}."
    raise ValueError(msg)


def download(
    name: str,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    allow_local_http: bool = False,
) -> Path:
    """Download public weights into the cache, unless they are there and right already.

    Parameters
    ----------
    name
        A key of `REGISTRY`.
    progress
        Called with (bytes so far, bytes in all or None).
    cancel
        Asked between pieces; true stops the download. What has arrived is kept.
    allow_local_http
        Permit plain ``http`` from this very machine (for tests).

    Raises
    ------
    ValueError
        If there is nothing to download for this name.
    DownloadError
        If the file does not arrive, with the reason and what to do.

    Warns
    -----
    UserWarning
        If nobody vouches for the file's hash.
    """
    public, path = _public(name), cached_path(name)
    expected, _ = expected_sha256(public)
    downloader = ResumableDownloader(
        path.with_name(f"{path.name}.part"),
        sha256=expected,
        size=public.size,
        progress=progress,
        cancel=cancel,
        allow_local_http=allow_local_http,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and expected is None:
            expected = downloader.sha256 = downloader.ask_linked_sha256(public.url)
        if path.is_file() and expected is not None and file_sha256(path) != expected:
            _logger.warning("%s is damaged; it is downloaded again.", path)
        with _quiet_pooch():
            pooch.retrieve(
                public.url,
                known_hash=None if expected is None else f"sha256:{expected}",
                fname=path.name,
                path=path.parent,
                downloader=downloader,
            )
    except requests.RequestException as error:
        raise DownloadError(_offline_message(public, path, error)) from error
    except OSError as error:
        msg = (
            f"The folder {path.parent} cannot be used ({error.strerror or error}). Set "
            f"{CACHE_VARIABLE} to a folder that you may write to."
        )
        raise DownloadError(msg) from error
    if public.sha256 is None and not _record_path(path).exists():
        record_sha256(public, path, file_sha256(path), downloader.linked_sha256)
    return path


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _offline_message(public: PublicFile, path: Path, error: Exception) -> str:
    return (
        f"{public.url} cannot be reached ({type(error).__name__}). Check the network connection; "
        "behind a proxy, set HTTPS_PROXY (e.g. HTTPS_PROXY=http://proxy.example:3128). Or "
        f"download the file by other means and put it at {path}"
    )


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def expected_sha256(public: PublicFile) -> tuple[str | None, Trust]:
    """Give the hash that the cached file must have, and whose word that is."""
    if public.sha256 is not None:
        return public.sha256, "registry"
    record = _record_path(cache_folder() / public.file_name)
    if not record.exists():
        return None, "first-use"
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        sha256, trust = values["sha256"], values["trust"]
        if trust in ("hub", "first-use") and re.fullmatch(r"[0-9a-f]{64}", sha256):
            return sha256, trust
    except (OSError, ValueError, KeyError, TypeError) as error:
        _logger.debug("%s cannot be read: %s", record, error)
    msg = f"{record} is damaged. Delete it together with the weights beside it, and download again."
    raise CheckpointError(msg)


def record_sha256(public: PublicFile, path: Path, sha256: str, linked: str | None) -> None:
    """Keep the hash of a file that the registry has none of, for all later checks.

    Warns
    -----
    UserWarning
        If the hash is not the one that the server named (``linked``).
    """
    trust = "hub" if linked == sha256 else "first-use"
    if trust == "first-use":
        warnings.warn(
            f"Nobody vouches for {path.name}: its server sent no SHA-256. What was found "
            f"({sha256}) is recorded, and the file is checked against that from now on.",
            UserWarning,
            stacklevel=3,
        )
    values = {"file": path.name, "url": public.url, "sha256": sha256, "trust": trust}
    record = _record_path(path)
    temporary = record.with_name(f"{record.name}.part")
    temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    os.replace(temporary, record)


def verify(name: str) -> Verification:
    """Compute the hash of cached weights and compare it.

    Raises
    ------
    ValueError
        If it is not a model that can be downloaded.
    CheckpointError
        If the file is not there, or is not what it was.
    """
    public, path = _public(name), cached_path(name)
    expected, trust = expected_sha256(public)
    if not path.is_file():
        msg = f"{path} is not there. Run: napari-pisam models download {name}"
        raise CheckpointError(msg)
    digest = file_sha256(path)
    if expected is None:
        record_sha256(public, path, digest, None)
    elif digest != expected:
        raise CheckpointError(_damaged_message(name, path, digest, expected))
    return Verification(name, path, digest, trust)


def _damaged_message(name: str, path: Path, digest: str, expected: str) -> str:
    return (
        f"{path} has the SHA-256 {digest}, expected {expected}: it is damaged or was changed. "
        f"Run: napari-pisam models download {name}"
    )
