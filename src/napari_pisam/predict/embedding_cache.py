"""Encoded images that are kept: in memory by last use, optionally on disk too."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import uuid
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_pisam.model.pisam import EncodedImage
from napari_pisam.predict.preprocessing import to_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.model.pisam import PiSam
    from napari_pisam.predict.device import DeviceRunner
    from napari_pisam.predict.windows import Window

# Encodings of this many windows stay on the device; a ViT's takes about 50 MB.
_RECENT = 4
_PRIVATE_BYTES = 512 << 20
_KEY = re.compile(r"[0-9a-f]{8,128}")


def model_fingerprint(model: PiSam) -> str:
    """SHA-256 of a network's variant and of all its weights, as 64 hex digits."""
    hasher = hashlib.sha256(repr(model.variant).encode())
    for name, value in sorted(model.state_dict().items()):
        hasher.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        hasher.update(flat.view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def embedding_key(fingerprint: str, dtype: torch.dtype, frame: NDArray[np.float32]) -> str:
    """Digest of all that an encoding depends on, as 64 hex digits.

    Parameters
    ----------
    fingerprint : str
        Which weights.
    dtype : torch.dtype
        What the encoder computed in.
    frame : (3, h, w) float32 array
        The pixels that the network sees; image, plane, window, level and contrast limits are
        all in them.
    """
    hasher = hashlib.sha256(f"{fingerprint} {dtype} {frame.shape}".encode())
    hasher.update(frame.tobytes())
    return hasher.hexdigest()


class EmbeddingCache:
    """Least-recently-used store of encoded images; safe to use from several threads.

    A key says what was encoded and by what (see `Predictor`), so an entry is never stale and
    never has to be removed for being wrong.

    Parameters
    ----------
    max_bytes : int
        What may be held in memory; 0 keeps nothing there.
    disk : Path, optional
        A folder to keep entries in as well, one safetensors file each. Made when needed.
    disk_max_bytes : int
        What the folder may hold; the files unused for longest go first.

    Raises
    ------
    ValueError
        If a size is negative.
    """

    def __init__(
        self,
        max_bytes: int = 1 << 30,
        disk: str | Path | None = None,
        disk_max_bytes: int = 10 << 30,
    ) -> None:
        if max_bytes < 0 or disk_max_bytes < 0:
            raise ValueError(
                f"max_bytes is {max_bytes} and disk_max_bytes {disk_max_bytes}, expected 0 or more."
            )
        self.max_bytes = max_bytes
        self.disk = None if disk is None else Path(disk)
        self.disk_max_bytes = disk_max_bytes
        self._entries: OrderedDict[str, EncodedImage] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        with self._lock:
            return sum(entry.nbytes for entry in self._entries.values())

    def get(self, key: str) -> EncodedImage | None:
        """Return the entry of a key, its tensors on the CPU, or None where there is none.

        A file that cannot be read is removed and counts as none.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                return entry
            entry = self._load(key)
            if entry is not None:
                self._remember(key, entry)
            return entry

    def put(self, key: str, entry: EncodedImage) -> None:
        """Keep an entry; one that is larger than the whole memory goes to the disk alone.

        Parameters
        ----------
        key : str
            8 to 128 lower-case hex digits.
        entry : EncodedImage
            Copied to the CPU if it is elsewhere.

        Raises
        ------
        ValueError
            If the key is not such a string.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"The key is {key!r}, expected 8 to 128 lower-case hex digits.")
        entry = entry.to("cpu")
        with self._lock:
            self._remember(key, entry)
            # A full or read-only disk must not stop the work that the entry is for.
            with contextlib.suppress(OSError, SafetensorError):
                self._save(key, entry)

    def clear(self) -> None:
        """Forget everything in memory; the disk is left as it is."""
        with self._lock:
            self._entries.clear()

    def _remember(self, key: str, entry: EncodedImage) -> None:
        self._entries.pop(key, None)
        if entry.nbytes > self.max_bytes:
            return
        self._entries[key] = entry
        while self.nbytes > self.max_bytes:
            self._entries.popitem(last=False)

    def _load(self, key: str) -> EncodedImage | None:
        if self.disk is None:
            return None
        path = self.disk / f"{key}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                height, width = (int(n) for n in (file.metadata() or {})["size"].split(","))
            names = {field.name for field in fields(EncodedImage)} - {"size"}
            entry = EncodedImage(
                **{name: tensors.pop(name, None) for name in names}, size=(height, width)
            )
            if tensors or not isinstance(entry.embedding, torch.Tensor):
                raise ValueError(f"{path} holds other tensors than an encoded image")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, OSError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return entry

    def _save(self, key: str, entry: EncodedImage) -> None:
        if self.disk is None or entry.nbytes > self.disk_max_bytes:
            return
        path = self.disk / f"{key}.safetensors"
        if path.exists():
            return
        self.disk.mkdir(parents=True, exist_ok=True)
        values = {field.name: getattr(entry, field.name) for field in fields(entry)}
        tensors = {
            name: value.contiguous()
            for name, value in values.items()
            if isinstance(value, torch.Tensor)
        }
        # Written beside and renamed: a reader never sees half a file.
        beside = self.disk / f".{key}.{uuid.uuid4().hex}.part"
        try:
            save_file(tensors, beside, {"size": f"{entry.size[0]},{entry.size[1]}"})
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        self._trim()

    def _trim(self) -> None:
        if self.disk is None:
            return
        stats = sorted(
            ((path.stat(), path) for path in self.disk.glob("*.safetensors")),
            key=lambda pair: pair[0].st_mtime_ns,
        )
        held = sum(stat.st_size for stat, _ in stats)
        for stat, path in stats:
            if held <= self.disk_max_bytes:
                return
            path.unlink(missing_ok=True)
            held -= stat.st_size


class WindowEncoder:
    """Encodes windows of one image at a time, each of them once.

    Parameters
    ----------
    model : PiSam
        The network; its weights must not change.
    runner : DeviceRunner
        Where it is.
    cache : EmbeddingCache, optional
        Where the encodings are kept; 512 MB of memory of its own by default.
    """

    def __init__(
        self, model: PiSam, runner: DeviceRunner, cache: EmbeddingCache | None = None
    ) -> None:
        self._model = model
        self._runner = runner
        # What nobody else can look up needs no digest of the weights, only a name of its own.
        self._fingerprint = uuid.uuid4().hex if cache is None else None
        self._cache = EmbeddingCache(_PRIVATE_BYTES) if cache is None else cache
        self._source: ImageSource | None = None
        self._keys: dict[Window, str] = {}
        self._recent: OrderedDict[Window, EncodedImage] = OrderedDict()
        runner.on_move.append(self._move_to)

    def reset(self, source: ImageSource) -> None:
        """Change to another image."""
        self._source = source
        self._keys.clear()
        self._recent.clear()

    def encode(self, window: Window) -> EncodedImage:
        """Return a window's encoding, float32 on the runner's device.

        Raises
        ------
        RuntimeError
            If there is no image.
        """
        encoded = self._recent.get(window)
        if encoded is None:
            encoded = self._find(window).to(self._runner.device)
            self._recent[window] = encoded
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        self._recent.move_to_end(window)
        return encoded

    def encode_many(self, windows: Sequence[Window]) -> EncodedImage:
        """Encode windows of one size together.

        Several are neither looked up nor kept: a batch rounds otherwise than an image alone, and
        what a prompt gives must not depend on what was asked before.

        Raises
        ------
        RuntimeError
            If there is no image.
        """
        if len(windows) == 1:
            return self.encode(windows[0])
        return self.encode_unkept(windows)

    def encode_unkept(self, windows: Sequence[Window]) -> EncodedImage:
        """Encode windows of one size together, without looking them up or keeping them.

        Raises
        ------
        RuntimeError
            If there is no image.
        """
        frames = np.stack([self._read(window) for window in windows])
        return self._runner.run(lambda: self._run(windows[0], frames))

    def encode_ahead(self, source: ImageSource, window: Window) -> None:
        """Encode a window of another image into the cache."""
        self._encoded(window, to_frame(source, window, self._model.frame))

    def _kept(self, window: Window) -> EncodedImage | None:
        if window in self._recent:
            return self._recent[window]
        return self._cache.get(self._keys[window]) if window in self._keys else None

    def _read(self, window: Window) -> NDArray[np.float32]:
        if self._source is None:
            raise RuntimeError("There is no image. Call set_image(image) first.")
        return to_frame(self._source, window, self._model.frame)

    def _find(self, window: Window) -> EncodedImage:
        encoded = self._kept(window)
        if encoded is not None:
            return encoded
        self._keys[window], encoded = self._encoded(window, self._read(window))
        return encoded

    def _encoded(self, window: Window, frame: NDArray[np.float32]) -> tuple[str, EncodedImage]:
        key = self._key(frame)
        encoded = self._cache.get(key)
        if encoded is None:
            encoded = self._runner.run(lambda: self._run(window, frame[None]))
            # After a change to the CPU it was computed in another precision.
            key = self._key(frame)
            self._cache.put(key, encoded)
        return key, encoded

    def _network(self, window: Window) -> PiSam:
        return self._model.at_frame(window.frame or self._model.frame)

    def _run(self, window: Window, frames: NDArray[np.float32]) -> EncodedImage:
        with self._runner.autocast():
            encoded = self._network(window).encode(self._runner.tensor(frames))
        # All that follows is cheap, and a mask's edge is worth the full precision.
        result: EncodedImage = encoded.to(torch.float32)
        return result

    def _key(self, frame: NDArray[np.float32]) -> str:
        if self._fingerprint is None:
            self._fingerprint = model_fingerprint(self._model)
        return embedding_key(self._fingerprint, self._runner.dtype, frame)

    def _move_to(self, device: torch.device) -> None:
        for window, encoded in self._recent.items():
            self._recent[window] = encoded.to(device)
