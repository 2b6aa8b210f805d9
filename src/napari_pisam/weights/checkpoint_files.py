"""Files with weights, read as untrusted data: nothing in them is ever run."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import safe_open

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

MAX_BYTES = 8 * 1024**3
_MAX_HEADER_BYTES = 32 * 1024**2
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


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


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sniff(path: Path) -> Literal["safetensors", "zip", "pickle"]:
    """Tell by its first bytes how a file stores weights.

    Raises
    ------
    CheckpointError
        If in no known way.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80") and head[8:9] != b"{":
        return "pickle"
    if head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        room = path.stat().st_size - 8
        if length > min(room, _MAX_HEADER_BYTES):
            # A text may have a brace in ninth place, too; both are not weights.
            msg = (
                f"{path} is not usable: as safetensors its header would have {length} bytes, and "
                f"at most {min(room, _MAX_HEADER_BYTES)} fit. It is incomplete or something "
                "else; download it again."
            )
            raise CheckpointError(msg)
        return "safetensors"
    what = "a text or a web page" if _is_text(head) else "of an unknown kind"
    msg = (
        f"{path} is not a file with weights but {what}; expected safetensors or a PyTorch "
        "checkpoint. Download it again, with the button that fetches the file itself."
    )
    raise CheckpointError(msg)


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\r\n\x0b\x0c" or 32 <= byte < 127 for byte in head)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors file.

    Raises
    ------
    CheckpointError
        If the file is malformed.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            # Copies: a view of the mapped file would fail when the file is replaced.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
    except Exception as error:
        msg = f"{path} is not a valid safetensors file ({error}). Download or export it again."
        raise CheckpointError(msg) from error
    return tensors, metadata


def read_pickle(path: Path, *, zipped: bool) -> object:
    """Read a PyTorch checkpoint as data: tensors and plain containers, no code.

    Raises
    ------
    CheckpointError
        If the file is malformed or holds anything else.
    """
    if zipped:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of archives that are then refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} was refused: it holds code or Python objects, not only weights, and opening "
            "such a file could run anything. Nothing of it was run. Export the weights alone "
            "(a state dict; for a training checkpoint of micro-sam: export_custom_sam_model), "
            "or ask its author for safetensors."
        )
        raise CheckpointError(msg) from error
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        msg = (
            f"{path} cannot be read as a PyTorch checkpoint ({reason}). It is incomplete or "
            "damaged; download it again."
        )
        raise CheckpointError(msg) from error


def _check_archive(path: Path) -> None:
    """Refuse archives that would unpack to something larger than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        msg = (
            f"{path} cannot be read as a PyTorch checkpoint ({error}). It is incomplete or "
            "damaged; download it again."
        )
        raise CheckpointError(msg) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        msg = f"{path} is a compressed archive, not a PyTorch checkpoint. Unpack it first."
        raise CheckpointError(msg)


def checked_tensors(path: Path, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check that all values are tensors of finite floating-point numbers.

    Raises
    ------
    CheckpointError
        If one is not; counts of batches (integers) are the exception.
    """
    total = 0
    tensors: dict[str, Tensor] = {}
    for key, value in values.items():
        problem = _problem(str(key), value)
        if problem is None:
            total += value.numel() * value.element_size()
            if total > MAX_BYTES:
                problem = "makes the weights larger than a file may be"
            elif not bool(torch.stack(torch.aminmax(value.detach())).isfinite().all()):
                problem = "holds NaN or infinity"
        if problem is not None:
            msg = (
                f"{path} cannot be used: {str(key)[:200]!r} {problem}; expected finite "
                "floating-point weights only."
            )
            raise CheckpointError(msg)
        tensors[str(key)] = value.detach()
    if not tensors:
        msg = f"{path} holds no tensors; expected the weights of a SAM, HQ-SAM or Pi-SAM."
        raise CheckpointError(msg)
    return tensors


def _problem(key: str, value: Any) -> str | None:
    if not isinstance(value, torch.Tensor):
        return f"is a {type(value).__name__}"
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        return "is not a plain dense tensor"
    is_count = key.endswith("num_batches_tracked") and value.dtype == torch.int64
    if value.dtype not in _DTYPES and not is_count:
        return f"has the type {value.dtype}"
    return "has no elements" if value.numel() == 0 else None
