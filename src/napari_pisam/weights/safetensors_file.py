"""The safetensors format: read with every size checked first, written whole or not at all.

Read and written here rather than by its library, which maps files (one that is shortened meanwhile
takes the process with it) and puts other files under the name that it is given.
"""

from __future__ import annotations

import json
import math
from typing import IO, TYPE_CHECKING, Any

import torch

from napari_pisam.images.files import replacing
from napari_pisam.weights.files import CheckpointError, short_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

MAX_HEADER_BYTES = 32 * 1024**2

_METADATA = "__metadata__"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata.

    Raises
    ------
    CheckpointError
        If the file is malformed.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
            metadata = _metadata(header.pop(_METADATA, None))
            start = file.tell()
            _check_extents(header, path.stat().st_size - start)
            tensors = {key: _read_tensor(file, start, entry) for key, entry in header.items()}
    except Exception as error:  # whatever a damaged file makes the parser stumble over
        msg = (
            f"{path} is not a valid safetensors file ({short_reason(error)}). Download or export "
            "it again."
        )
        raise CheckpointError(msg) from error
    return tensors, metadata


def _metadata(values: object) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        msg = "its metadata is not a table of texts"
        raise ValueError(msg)
    return values


def _check_extents(header: dict[str, Any], room: int) -> None:
    """Check that each tensor has as many bytes as its shape says, and all lie side by side."""
    place = 0
    for entry in sorted(header.values(), key=lambda entry: list(entry["data_offsets"])):
        begin, end = entry["data_offsets"]
        shape, dtype = entry["shape"], _DTYPES.get(entry["dtype"])
        if dtype is None:
            msg = f"the unknown type {str(entry['dtype'])[:20]!r}"
            raise ValueError(msg)
        if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
            msg = "a shape or a place that is not made of whole numbers"
            raise ValueError(msg)
        if begin != place or end - begin != math.prod(shape) * dtype.itemsize:
            msg = "sizes that contradict each other"
            raise ValueError(msg)
        place = end
    if place != room:
        msg = f"{room} bytes of numbers, expected {place}"
        raise ValueError(msg)


def _read_tensor(file: IO[bytes], start: int, entry: dict[str, Any]) -> Tensor:
    tensor = torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    if end > begin:
        file.seek(start + begin)
        if file.readinto(_bytes_of(tensor)) != end - begin:  # type: ignore[attr-defined]
            msg = "it ends early"
            raise ValueError(msg)
    return tensor


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors beside the final name first, then give the file its name.

    Parameters
    ----------
    path
        An existing file is replaced.
    tensors
        On the CPU, in plain memory order.
    metadata
        Texts that describe them.

    Raises
    ------
    OSError
        If the file cannot be written; nothing is left under either name.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    place = 0
    # The largest numbers first, so that each tensor lies where its type may lie.
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    for key in order:
        tensor = tensors[key]
        end = place + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for key in order:
            if tensors[key].numel():
                file.write(_bytes_of(tensors[key]))


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()
