"""Weights of the catalogue on this machine: where they are, fetching and removing them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pisam.weights.catalogue import CATALOGUE, CatalogueEntry, is_public, public_entry
from napari_pisam.weights.download import (
    CACHE_VARIABLE,
    DownloadCancelled,
    DownloadError,
    ResumableDownload,
)
from napari_pisam.weights.files import mismatch

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder of downloaded weights: ``NAPARI_PISAM_CACHE``, else the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("napari-pisam"))


def cached_path(name: str) -> Path:
    """Where the weights of a public model are, or would be.

    Raises
    ------
    ValueError
        If it is not a model that can be downloaded.
    """
    return cache_folder() / public_entry(name).file_name


def missing_entry(name: str) -> CatalogueEntry | None:
    """Look up what would have to be downloaded before a model can be used.

    Returns
    -------
    CatalogueEntry or None
        None for what is here, and for every name or path that is not public.
    """
    if not is_public(name) or cached_path(name).is_file():
        return None
    return CATALOGUE[name]


def download(
    name: str,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Path:
    """Download public weights into the cache, unless they are there and right already.

    Parameters
    ----------
    name
        Of a model of the catalogue.
    progress
        Called with (bytes so far, bytes in all or None).
    cancel
        Asked between pieces; true stops the download. What has arrived is kept.

    Raises
    ------
    ValueError
        If there is nothing to download for this name.
    DownloadError
        If the file does not arrive, with the reason and what to do.
    """
    entry, path = public_entry(name), cached_path(name)
    try:
        problem = mismatch(path, entry.hash) if path.is_file() else "is not there"
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror or error}). Move it away, or mend the disk."
        raise DownloadError(msg) from error
    if problem is None:
        return path
    if path.is_file():
        _logger.warning("%s %s; it is downloaded again.", path, problem)
    failures: list[str] = []
    addresses = (entry.address, *entry.mirrors)
    for address in addresses:
        fetching = ResumableDownload(
            address,
            path,
            expected=entry.hash,
            size=entry.size if entry.is_exact_size else None,
            progress=progress,
            cancel=cancel,
        )
        try:
            fetching.run()
        except DownloadCancelled:
            raise
        except DownloadError as error:
            failures.append(str(error))
            # What has arrived can only be gone on with at the address that it came from.
            if fetching.kept or address == addresses[-1]:
                msg = " Its mirror: ".join(dict.fromkeys(failures))
                raise DownloadError(msg) from error
            _logger.warning("%s A mirror is tried.", error)
        else:
            break
    return path
