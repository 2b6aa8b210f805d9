"""The session file: JSON and numpy arrays in one zip, written whole or not at all.

One file holds all planes of an image that were worked on, each with its axes. Whoever opens a file
may have got it from anybody: member names and sizes are checked before anything is read, arrays
are read without pickle, and every value is checked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from napari_pisam.images.files import replacing
from napari_pisam.images.json_reader import parse
from napari_pisam.session.classes import ObjectClass
from napari_pisam.session.file_format import (
    ARRAYS,
    VERSION,
    PackedMasks,
    Parts,
    Supplies,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.images.json_reader import Node
    from napari_pisam.session.file_format import Arrays
    from napari_pisam.session.records import SessionState

_JSON = "session.json"
_SHADES = 256 * 3 * 4
_FORMAT = "napari-pisam session"
_MOST_JSON = 64 << 20
# What an array may take that is compressed in the file once more. One that is not takes no more
# memory than the file takes of the disk.
_MOST_UNPACKED = 128 << 20
_HEADER = 4096
# A mask's pixel takes a byte. Where nobody knows how much memory there is, 4 GiB of masks.
_MEMORY_SHARE, _UNKNOWN_MEMORY = 2, 8 << 30
# What the zip and the npy reader raise for files that they cannot make sense of.
_DAMAGE = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
)
# The same session gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class SeenChannel:
    """One of several channels, or layers, that were seen as one picture; see `Channel`.

    Attributes
    ----------
    name : str
        The layer's.
    index : int or None
        Along `ImageView.channel_axis`; None: an image of its own.
    contrast_limits : (float, float) or None
        None: found in the values.
    shades : bytes
        Of (256, 3) float32; empty for RGB.
    gamma, opacity : float
    blending : str
    """

    name: str
    index: int | None
    contrast_limits: tuple[float, float] | None
    shades: bytes
    gamma: float
    opacity: float
    blending: str


@dataclass(frozen=True)
class ImageView:
    """Which part of which image; the arguments of `ImageSource`, None where it chose itself.

    Attributes
    ----------
    axes : (int, int) or None
        The image's axes that were rows and columns; None: the last two.
    plane : tuple of int or None
        The index along each other axis, in the order of the image's axes.
    seen : tuple of SeenChannel
        What was seen together when it was saved, the lowest first; empty: the image alone.
    """

    name: str = ""
    plane: tuple[int, ...] | None = None
    channel_axis: int | None = None
    channels: tuple[int, ...] | None = None
    rgb: bool | None = None
    contrast_limits: tuple[tuple[float, float], ...] | None = None
    axes: tuple[int, int] | None = None
    seen: tuple[SeenChannel, ...] = ()


@dataclass(frozen=True)
class SavedPlane:
    """A plane of an image with its objects.

    Attributes
    ----------
    state : SessionState
    view : ImageView
        Which plane it is.
    windows : mapping of (row0, col0, row1, col1) to str
        See `PlaneIdentity.windows`.
    """

    state: SessionState
    view: ImageView = field(default_factory=ImageView)
    windows: Mapping[Bbox, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionFile:
    """What was read from a session file.

    Attributes
    ----------
    planes : tuple of SavedPlane
        At least one.
    shown : int
        The one that was displayed, counted from 0.
    transforms : Any
        JSON values of the caller's own, handed back as they are; for layers' transforms.
    classes : tuple of ObjectClass
        What kinds of objects there are.
    """

    planes: tuple[SavedPlane, ...]
    shown: int = 0
    transforms: Any = None
    classes: tuple[ObjectClass, ...] = ()

    @property
    def state(self) -> SessionState:
        """The displayed plane's objects."""
        return self.planes[self.shown].state


def save_planes(path: Path, content: SessionFile, packed: PackedMasks | None = None) -> None:
    """Write all planes of an image; the file is there whole or not at all.

    Parameters
    ----------
    path : Path
        The file; what is there is replaced.
    content : SessionFile
    packed : PackedMasks, optional
        Masks that were packed before; kept by who writes the same session again and again.

    Raises
    ------
    ValueError
        If the transforms are not JSON, or there are too many objects for such a file.
    OSError
        If it cannot be written; what was there before stays.
    """
    parts = Parts(packed)
    planes = [
        {
            "image": _image(plane.view),
            "windows": [[list(box), digest] for box, digest in plane.windows.items()],
            **encode(plane.state, parts),
        }
        for plane in content.planes
    ]
    fields = {"format": _FORMAT, "version": VERSION, "shown": content.shown, "planes": planes}
    fields["transforms"] = content.transforms
    fields["classes"] = [[one.name, one.color] for one in content.classes]
    try:
        text = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The session's transforms cannot be written as JSON ({error}). Give lists, numbers, "
            "texts and dicts of them."
        ) from error
    if len(text) > _MOST_JSON:
        raise ValueError(
            f"The session is too large for a session file (its objects need {len(text) >> 20} MiB "
            f"and {_MOST_JSON >> 20} are allowed). Export the labels, and begin a new session."
        )
    _write_zip(path, text, parts.arrays())


def _write_zip(path: Path, text: bytes, arrays: Arrays) -> None:
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        _write_member(archive, _JSON, text, zipfile.ZIP_DEFLATED)
        for name, array in arrays.items():
            # Masks, patches and tiles are compressed already.
            is_packed = array.dtype == np.uint8
            how = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            _write_member(archive, _member(name), _npy(array), how)


def _write_member(archive: zipfile.ZipFile, name: str, data: bytes, how: int) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = how
    archive.writestr(info, data)


def load_session(path: Path) -> SessionFile:
    """Read a session file; may be called in any thread.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a session file, damaged, or of a later version.
    """
    with _complaints(path), zipfile.ZipFile(path) as archive:
        root, version = _read_root(archive)
        names = {_JSON} | {_member(name) for name in ARRAYS[version]}
        found = sorted(info.filename for info in archive.infolist())
        if found != sorted(names):
            raise ValueError(f"it holds {found[:8]}, expected {sorted(names)}")
        arrays = {name: _array(archive, name, version) for name in ARRAYS[version]}
        supplies = Supplies(arrays, version, _most_pixels())
        transforms = root.at("transforms").value
        if version == 1:
            plane = SavedPlane(decode(root, supplies), _view(root.at("image")))
            return SessionFile((plane,), transforms=transforms)
        planes = tuple(_plane(node, supplies) for node in root.at("planes").items())
        if not planes:
            raise root.at("planes").wrong("at least one plane")
        shown = root.at("shown").integer(0, len(planes) - 1)
        return SessionFile(planes, shown, transforms, _classes(root.get("classes")))


def count_objects(path: Path) -> int:
    """Count the objects of a session file, without reading their masks.

    Raises
    ------
    ValueError
        See `load_session`.
    """
    with _complaints(path), zipfile.ZipFile(path) as archive:
        root, version = _read_root(archive)
        planes = [root] if version == 1 else root.at("planes").items()
        return sum(len(plane.at("objects").items()) for plane in planes)


@contextlib.contextmanager
def _complaints(path: Path) -> Iterator[None]:
    advice = "Restore it from a copy, save the session again, or update napari-pisam."
    try:
        if not path.is_file():
            raise FileNotFoundError
        yield
    except FileNotFoundError as error:
        raise ValueError(f"There is no session file {path}. Check the path.") from error
    except _DAMAGE as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{path} cannot be read as a session file: {reason}. {advice}") from error
    except MemoryError as error:
        raise ValueError(
            f"{path} cannot be read as a session file: there is not enough memory. Close other "
            "programs and try again."
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror or error}. Check the disk and the file's "
            "permissions."
        ) from error


def _member(name: str) -> str:
    return f"{name}.npy"


def _read_root(archive: zipfile.ZipFile) -> tuple[Node, int]:
    try:
        text = _read_member(archive, _JSON, _MOST_JSON)
    except KeyError:
        names = [info.filename for info in archive.infolist()]
        raise ValueError(f"it holds {names[:8]}, expected {_JSON}") from None
    root = parse(text, _JSON)
    if root.at("format").text() != _FORMAT:
        raise root.at("format").wrong(repr(_FORMAT))
    version = root.at("version").integer(1)
    if version > VERSION:
        raise ValueError(f"it is of version {version}, this software reads up to {VERSION}")
    return root, version


def _read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    info = archive.getinfo(name)
    limit = _MOST_UNPACKED + _HEADER if most is None else most
    is_stored = info.compress_type == zipfile.ZIP_STORED
    if info.file_size > (max(limit, info.compress_size) if is_stored else limit):
        raise ValueError(f"{name} has {info.file_size} bytes, at most {limit}")
    if info.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    with archive.open(info) as file:
        # What the directory says may be a lie.
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{name} is not as long as it says")
    return data


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(archive: zipfile.ZipFile, name: str, version: int) -> NDArray[Any]:
    """Read an array whose header says what it has to say: a larger one would be allocated."""
    dtype, columns = ARRAYS[version][name]
    data = _read_member(archive, _member(name))
    buffer = io.BytesIO(data)
    if npy.read_magic(buffer) != (1, 0):
        raise ValueError(f"{_member(name)} is of another version than 1.0")
    shape, fortran, found = npy.read_array_header_1_0(buffer)
    ndim = 1 if columns is None else 2
    if found != np.dtype(dtype) or len(shape) != ndim or shape[1:] != (columns,)[: ndim - 1]:
        raise ValueError(f"{_member(name)} has dtype {found} and shape {shape}, which is wrong")
    body = memoryview(data)[buffer.tell() :]
    if fortran or len(body) != math.prod(shape) * found.itemsize:
        raise ValueError(f"{_member(name)} is not as long as it says")
    if dtype == "|b1" and np.frombuffer(body, np.uint8).max(initial=0) > 1:
        raise ValueError(f"{_member(name)} holds other values than 0 and 1")
    return np.frombuffer(body, found).reshape(shape)


def _most_pixels() -> int:
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        memory = _UNKNOWN_MEMORY
    return (memory if memory > 0 else _UNKNOWN_MEMORY) // _MEMORY_SHARE


def _image(view: ImageView) -> dict[str, Any]:
    limits = view.contrast_limits
    return {
        "name": view.name,
        "plane": None if view.plane is None else [int(n) for n in view.plane],
        "channel_axis": view.channel_axis,
        "channels": None if view.channels is None else [int(n) for n in view.channels],
        "rgb": view.rgb,
        "contrast_limits": None if limits is None else [[float(v) for v in one] for one in limits],
        "axes": None if view.axes is None else [int(n) for n in view.axes],
        **({"seen": [_seen(one) for one in view.seen]} if view.seen else {}),
    }


def _view(node: Node) -> ImageView:
    axes = node.get("axes")
    rows_cols = None if axes is None else axes.optional(lambda n: n.integers(0, 63))
    if rows_cols is not None and (len(rows_cols) != 2 or rows_cols[0] == rows_cols[1]):
        raise ValueError(f"{node.where}.axes is {list(rows_cols)}, expected two different axes")
    return ImageView(
        node.at("name").text(),
        node.at("plane").optional(lambda n: n.integers()),
        node.at("channel_axis").optional(lambda n: n.integer(-64, 64)),
        node.at("channels").optional(lambda n: n.integers()),
        node.at("rgb").optional(lambda n: n.boolean()),
        node.at("contrast_limits").optional(lambda n: n.pairs()),
        None if rows_cols is None else (rows_cols[0], rows_cols[1]),
        () if (seen := node.get("seen")) is None else tuple(map(_channel, seen.items())),
    )


def _seen(channel: SeenChannel) -> dict[str, Any]:
    return asdict(channel) | {"shades": base64.b64encode(channel.shades).decode()}


def _channel(node: Node) -> SeenChannel:
    shades = node.at("shades")
    try:
        table = base64.b64decode(shades.text(2 * _SHADES), validate=True)
    except binascii.Error:
        raise shades.wrong("base64") from None
    if len(table) not in (0, _SHADES):
        raise shades.wrong(f"a table of {_SHADES} bytes")
    limits = node.at("contrast_limits").optional(lambda n: [one.number() for one in n.items(2)])
    if limits is not None and not limits[0] < limits[1]:
        raise node.at("contrast_limits").wrong("a smaller and a larger number")
    return SeenChannel(
        node.at("name").text(),
        node.at("index").optional(lambda n: n.integer(0, 1 << 16)),
        None if limits is None else (limits[0], limits[1]),
        table,
        node.at("gamma").number(),
        node.at("opacity").number(),
        node.at("blending").text(),
    )


def _classes(node: Node | None) -> tuple[ObjectClass, ...]:
    """Read the list of classes, which older files do not have."""
    if node is None:
        return ()
    pairs = (item.items(2) for item in node.items())
    classes = [ObjectClass(name.text(), color.text()) for name, color in pairs]
    if len({one.name for one in classes}) != len(classes):
        raise ValueError(f"{node.where} has two classes of the same name")
    return tuple(classes)


def _plane(node: Node, supplies: Supplies) -> SavedPlane:
    state = decode(node, supplies)
    windows = {}
    for item in node.at("windows").items():
        box, digest = item.items(2)
        windows[box.bbox(state.shape)] = digest.text(64)
    return SavedPlane(state, _view(node.at("image")), windows)
