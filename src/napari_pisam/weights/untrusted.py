"""PyTorch checkpoints read as untrusted data: nothing in them is ever run.

Sizes are checked before memory is taken, and everything is copied: a mapped file that is shortened
meanwhile would take the process with it.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from typing import IO, TYPE_CHECKING, Any, Literal

import torch

from napari_pisam.weights.files import CheckpointError, short_reason
from napari_pisam.weights.safetensors_file import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# torch permits some more, of which `bytearray` and tensor classes take memory at a number's word.
_PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_\w+|torch\.nn\.parameter Parameter"
    r"|torch(\.storage)? \w*Storage|torch (b?float|double|half|u?int|long|bool)\w*"
    r"|torch (Size|device|complex\d+)|torch\.serialization _get_layout|_codecs encode"
)
# A PyTorch file from before 2020: magic number, protocol, system, content, keys of what follows.
_LEGACY_PICKLES = 5


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
        if length > min(room, MAX_HEADER_BYTES):
            # A text may have a brace in ninth place, too; both are not weights.
            msg = (
                f"{path} is not usable: as safetensors its header would have {length} bytes, and "
                f"at most {min(room, MAX_HEADER_BYTES)} fit. It is incomplete or something "
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


def read_pickle(path: Path, *, zipped: bool) -> object:
    """Read a PyTorch checkpoint as data: tensors and plain containers, no code.

    Raises
    ------
    CheckpointError
        If the file is malformed or holds anything else.
    """
    try:
        foreign = _foreign_names(path, zipped=zipped)
        if foreign is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about kinds of archives that are then refused
                return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
        reason = foreign
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        reason = short_reason(error)
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        msg = (
            f"{path} cannot be read as a PyTorch checkpoint ({short_reason(error)}). It is "
            "incomplete or damaged; download it again."
        )
        raise CheckpointError(msg) from error
    msg = (
        f"{path} was refused: it holds code or Python objects ({reason}), not only weights, and "
        "opening such a file could run anything. Nothing of it was run. Export the weights alone "
        "(a state dict; for a training checkpoint of micro-sam: export_custom_sam_model), or ask "
        "its author for safetensors."
    )
    raise CheckpointError(msg)


def _foreign_names(path: Path, *, zipped: bool) -> str | None:
    """Name of the first thing that a pickle wants to call and weights do not need."""
    if not zipped:
        with path.open("rb") as file:
            return _first_foreign(file, _LEGACY_PICKLES)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            msg = f"{path} is a compressed archive, not a PyTorch checkpoint. Unpack it first."
            raise CheckpointError(msg)
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            msg = f"{path} cannot be used: it would unpack to something larger than the file."
            raise CheckpointError(msg)
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as member:
                    foreign = _first_foreign(member, 1)
                if foreign is not None:
                    return foreign
    return None


def _first_foreign(file: IO[bytes], count: int) -> str | None:
    for _ in range(count):
        if not file.read(1):
            break
        file.seek(-1, 1)
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL" and not _PLAIN.fullmatch(str(argument)):
                return str(argument).replace(" ", ".")[:80]
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
                return opcode.name
    return None


def checked_tensors(path: Path, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check that all values are tensors of finite floating-point numbers, as large as the file.

    Raises
    ------
    CheckpointError
        If one is not; counts of batches (integers) are the exception.
    """
    # What a file claims to hold is compared before it is looked at: untouched memory costs nothing.
    room = path.stat().st_size
    tensors: dict[str, Tensor] = {}
    for key, value in values.items():
        problem = _problem(str(key), value)
        if problem is None:
            room -= value.numel() * value.element_size()
            if room < 0:
                problem = "makes the weights larger than their file"
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
