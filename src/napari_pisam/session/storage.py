"""The session file: JSON and numpy arrays in one zip, written whole or not at all.

Whoever opens a file may have got it from anybody: member names and sizes are checked before
anything is read, arrays are read without pickle, and every value is checked.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.lib import format as npy

from napari_pisam.images.files import replacing
from napari_pisam.session.file_format import ARRAYS, decode, encode
from napari_pisam.session.json_reader import parse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.session.file_format import Arrays
    from napari_pisam.session.json_reader import Node
    from napari_pisam.session.records import SessionState

_JSON = "session.json"
_FORMAT = "napari-pisam session"
_VERSION = 1
_MOST_JSON = 64 << 20
_HEADER = 4096
# What the zip and the npy reader raise for files that they cannot make sense of.
_DAMAGE = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
)
# The same session gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


class HasState(Protocol):
    """A `Session`, or anything else that can give its state."""

    def to_state(self) -> SessionState:
        """Give the state."""


@dataclass(frozen=True)
class ImageView:
    """Which part of which image; the arguments of `ImageSource`, None where it chose itself."""

    name: str = ""
    plane: tuple[int, ...] | None = None
    channel_axis: int | None = None
    channels: tuple[int, ...] | None = None
    rgb: bool | None = None
    contrast_limits: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class SessionMeta:
    """What a session itself does not know.

    Attributes
    ----------
    image : ImageView
        The image, for `replay`.
    transforms : Any
        JSON values of the caller's own, given back as they are; for layers' transforms.
    """

    image: ImageView = field(default_factory=ImageView)
    transforms: Any = None


@dataclass(frozen=True)
class SessionFile:
    """What was read from a session file."""

    state: SessionState
    meta: SessionMeta


def save_session(
    path: Path, session: HasState | SessionState, meta: SessionMeta | None = None
) -> None:
    """Write a session; the file is there whole or not at all.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    session : Session or SessionState
        A state may be written in another thread than the session's.
    meta : SessionMeta, optional
        What else to keep.

    Raises
    ------
    ValueError
        If there is no image, the transforms are not JSON, or it is too large for such a file.
    OSError
        If it cannot be written; what was there before stays.
    """
    state = session.to_state() if hasattr(session, "to_state") else session
    meta = SessionMeta() if meta is None else meta
    fields, arrays = encode(state)
    fields = {"format": _FORMAT, "version": _VERSION, "image": _image(meta.image)} | fields
    fields["transforms"] = meta.transforms
    try:
        text = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The session's transforms cannot be written as JSON ({error}). Give lists, numbers, "
            "texts and dicts of them."
        ) from error
    contents = {_JSON: text} | {_member(name): _npy(array) for name, array in arrays.items()}
    for name, data in contents.items():
        if len(data) > _limit(name):
            raise ValueError(
                f"The session is too large for a session file ({name} would have "
                f"{len(data) >> 20} MiB). Commit and export the labels, and begin a new session."
            )
    with replacing(path) as part, part.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents.items():
                info = zipfile.ZipInfo(name, _DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, data)
        file.flush()
        os.fsync(file.fileno())


def load_session(path: Path) -> SessionFile:
    """Read a session file.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a session file, damaged, or of a later version.
    """
    if not path.is_file():
        raise ValueError(f"There is no session file {path}. Check the path.")
    try:
        contents = _read_members(path)
        root = parse(contents.pop(_JSON), _JSON)
        if root.at("format").text() != _FORMAT:
            raise root.at("format").wrong(repr(_FORMAT))
        version = root.at("version").integer(1)
        if version > _VERSION:
            raise ValueError(f"it is of version {version}, this software reads up to {_VERSION}")
        arrays: Arrays = {name: _array(name, contents[_member(name)]) for name in ARRAYS}
        state = decode(root, arrays)
        return SessionFile(state, SessionMeta(_view(root.at("image")), root.at("transforms").value))
    except _DAMAGE as error:
        raise ValueError(
            f"{path} cannot be read as a session file: {str(error).rstrip('.')}. Restore it from a "
            "copy, save the session again, or update napari-pisam."
        ) from error


def _member(name: str) -> str:
    return f"{name}.npy"


def _limit(member: str) -> int:
    return _MOST_JSON if member == _JSON else ARRAYS[member.removesuffix(".npy")][2] + _HEADER


def _read_members(path: Path) -> dict[str, bytes]:
    wanted = {_JSON} | {_member(name) for name in ARRAYS}
    contents = {}
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if sorted(names) != sorted(wanted):
            raise ValueError(f"it holds {names[:8]}, expected {sorted(wanted)}")
        for info in infos:
            limit = _limit(info.filename)
            if info.file_size > limit:
                raise ValueError(f"{info.filename} has {info.file_size} bytes, at most {limit}")
            if info.flag_bits & 1:
                raise ValueError(f"{info.filename} is encrypted")
            with archive.open(info) as file:
                # What the directory says may be a lie.
                contents[info.filename] = file.read(limit + 1)
            if len(contents[info.filename]) != info.file_size:
                raise ValueError(f"{info.filename} is not as long as it says")
    return contents


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(name: str, data: bytes) -> NDArray[Any]:
    """Read an array whose header says what it has to say: a larger one would be allocated."""
    dtype, columns, _ = ARRAYS[name]
    buffer = io.BytesIO(data)
    if npy.read_magic(buffer) != (1, 0):
        raise ValueError(f"{_member(name)} is of another version than 1.0")
    shape, fortran, found = npy.read_array_header_1_0(buffer)
    ndim = 1 if columns is None else 2
    if found != np.dtype(dtype) or len(shape) != ndim or shape[1:] != (columns,)[: ndim - 1]:
        raise ValueError(f"{_member(name)} has dtype {found} and shape {shape}, which is wrong")
    body = data[buffer.tell() :]
    if fortran or len(body) != math.prod(shape) * found.itemsize:
        raise ValueError(f"{_member(name)} is not as long as it says")
    if dtype == "|b1" and np.frombuffer(body, np.uint8).max(initial=0) > 1:
        raise ValueError(f"{_member(name)} holds other values than 0 and 1")
    return np.frombuffer(body, found).reshape(shape)


def _image(view: ImageView) -> dict[str, Any]:
    limits = view.contrast_limits
    return {
        "name": view.name,
        "plane": None if view.plane is None else [int(n) for n in view.plane],
        "channel_axis": view.channel_axis,
        "channels": None if view.channels is None else [int(n) for n in view.channels],
        "rgb": view.rgb,
        "contrast_limits": None if limits is None else [[float(v) for v in one] for one in limits],
    }


def _view(node: Node) -> ImageView:
    def limits(found: Node) -> tuple[tuple[float, float], ...]:
        pairs = [[value.number() for value in item.items(2)] for item in found.items()]
        return tuple((low, high) for low, high in pairs)

    return ImageView(
        node.at("name").text(),
        node.at("plane").optional(lambda n: n.integers()),
        node.at("channel_axis").optional(lambda n: n.integer(-64, 64)),
        node.at("channels").optional(lambda n: n.integers()),
        node.at("rgb").optional(lambda n: n.boolean()),
        node.at("contrast_limits").optional(limits),
    )
