"""Files with weights before anything in them is read: are they there, how large, which hash."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

MAX_BYTES = 8 * 1024**3
"""No file with weights may be larger."""

_HEX_DIGITS = {"sha256": 64, "md5": 32, "xxh128": 32}


class CheckpointError(ValueError):
    """A file does not hold usable weights. The message says what was found and what to do."""


def regular_file(path: str | Path) -> Path:
    """Check that a path names a file of sensible size.

    Raises
    ------
    CheckpointError
        If it is missing, not a regular file, unreadable, empty or larger than `MAX_BYTES`.
    """
    path = Path(path).expanduser()
    try:
        status = path.stat()
        readable = os.access(path, os.R_OK)
    except FileNotFoundError as error:
        msg = f"There is no file {path}. Give the path of a file with weights."
        raise CheckpointError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"The path {str(path)!r} cannot be opened ({error}). Give the path of a file."
        raise CheckpointError(msg) from error
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = "is a folder"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file"
    elif not readable:
        problem = "may not be read by this user"
    elif status.st_size == 0:
        problem = "is empty; the download may have failed"
    elif status.st_size > MAX_BYTES:
        problem = f"has {status.st_size / 1e9:.1f} GB, more than the {MAX_BYTES / 1e9:.1f} allowed"
    if problem is not None:
        msg = f"{path} {problem}. Give the path of a file with weights (.safetensors, .pth, .pt)."
        raise CheckpointError(msg)
    return path


def short_reason(error: Exception) -> str:
    """First line of an error's text, made short; its kind where it has none."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    lines = str(error).splitlines()
    return lines[0][:160] if lines and lines[0] else type(error).__name__


def split_hash(pinned: str) -> tuple[str, str]:
    """Split ``"md5:0123..."`` into algorithm and lower-case digits.

    Raises
    ------
    ValueError
        If it is not a hash of a known algorithm.
    """
    algorithm, _, digits = pinned.strip().lower().partition(":")
    length = _HEX_DIGITS.get(algorithm)
    if length is None or not re.fullmatch(rf"[0-9a-f]{{{length}}}", digits):
        msg = (
            f"{pinned!r} is not a hash; expected sha256:, md5: or xxh128: and "
            "64, 32 or 32 hexadecimal digits."
        )
        raise ValueError(msg)
    return algorithm, digits


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """Hash of a file, read in pieces, as ``"sha256:0123..."``."""
    import pooch

    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    return split_hash(file_hash(path))[1]


def mismatch(path: Path, pinned: str | None) -> str | None:
    """Compare a file with the hash it must have.

    Parameters
    ----------
    path
        The file.
    pinned
        ``"sha256:..."``, ``"md5:..."`` or ``"xxh128:..."``; ``None`` fits every file.

    Returns
    -------
    str or None
        What to say of a file that differs: both hashes.
    """
    if pinned is None:
        return None
    algorithm, digits = split_hash(pinned)
    found = split_hash(file_hash(path, algorithm))[1]
    if found == digits:
        return None
    name = {"sha256": "SHA-256", "md5": "MD5"}.get(algorithm, algorithm)
    return f"has the {name} {found}, expected {digits}"
