"""Users' folders of images and masks: matched by name, read by window where they are large."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from napari_pisam.images.folders import match_images, source_name
from napari_pisam.images.image_files import open_plane
from napari_pisam.images.mask_files import infer_kind, open_mask, to_labels
from napari_pisam.learn.store import LETTERS, StoredImage, index_objects
from napari_pisam.predict.preprocessing import to_frame
from napari_pisam.predict.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.images.mask_files import MaskFile, MaskKind

    Region = tuple[int, int, int, int]
    Job = tuple[str, Path, Path]

LARGE = 4096 * 4096
"""Pixels above which an image is read by window."""
TILE, STEP = 2048, 1536
"""Side of these windows, and the distance between two of them, px."""
TILE_CACHE_BYTES = 1 << 30
"""What windows may hold in memory, in each process."""

LOOKED_AT = 24
"""How many masks of a folder are looked at to tell what they are."""


@dataclass(frozen=True)
class Piece:
    """An image, or a window of a large one, with its objects.

    Attributes
    ----------
    image : StoredImage
    name : str
        Of the file: pieces of one file stay together.
    region : (int, int, int, int)
        (row_min, col_min, row_max, col_max) in the file, half open, px.
    """

    image: StoredImage
    name: str
    region: Region


@dataclass(frozen=True)
class FolderContents:
    """What two folders hold.

    Attributes
    ----------
    pieces : list of Piece
        All with objects.
    skipped : tuple of str
        Files that cannot be used, each with the reason.
    """

    pieces: list[Piece]
    skipped: tuple[str, ...]


# -- pixels -----------------------------------------------------------------------------------


def _pixels(image: ImageSource, region: Region) -> NDArray[np.uint8]:
    """Read a window as the predictor would show it: grey as (h, w), else (h, w, 3)."""
    window = Window(0, *region)
    rgb = to_frame(image, window, max(window.reduced_shape))
    shown = np.rint(rgb).astype(np.uint8)
    if image.n_channels == 1:
        return np.ascontiguousarray(shown[0])
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def _objects(
    source: str, name: str, image: ImageSource, mask: MaskFile, region: Region, kind: MaskKind
) -> StoredImage:
    rows, cols = slice(region[0], region[2]), slice(region[1], region[3])
    labels = to_labels(mask.read((rows, cols)), kind, is_lossy=mask.is_lossy)
    return index_objects(source, name, LETTERS[kind], _pixels(image, region), labels)


def _read(job: Job, source: str, kind: MaskKind) -> list[Piece] | str:
    name, image_path, mask_path = job
    try:
        with open_plane(image_path) as image, open_mask(mask_path) as mask:
            if image.shape != mask.shape:
                raise ValueError(
                    f"the mask {mask_path.name} has {mask.shape} px, the image {image.shape}"
                )
            height, width = image.shape
            if height * width <= LARGE:
                region = (0, 0, height, width)
                return [Piece(_objects(source, name, image, mask, region, kind), name, region)]
            pieces = []
            for region in tiles((height, width)):
                item = _objects(source, name, image, mask, region, kind)
                read = partial(_read_tile, source, job, region, kind)
                pieces.append(Piece(_without_pixels(item, read), name, region))
            return pieces
    except (OSError, ValueError, MemoryError) as error:
        return f"{image_path}: {' '.join(str(error).split())}"


def _kind_of(jobs: Sequence[Job]) -> MaskKind:
    """Tell what the masks of a folder are from some of them: all of one folder are alike."""
    places = np.linspace(0, len(jobs) - 1, min(LOOKED_AT, len(jobs))).round().astype(int)
    return infer_kind(_looked_at([jobs[place][2] for place in places]))


def _looked_at(paths: Sequence[Path]) -> Iterator[tuple[NDArray[Any], bool]]:
    for path in paths:
        # What cannot be read is named when it is its turn.
        with contextlib.suppress(OSError, ValueError), open_mask(path) as mask:
            stride = max(1, round((mask.shape[0] * mask.shape[1] / LARGE) ** 0.5))
            rows, cols = (slice(0, size, stride) for size in mask.shape)
            yield mask.read((rows, cols)), mask.is_lossy


def tiles(shape: tuple[int, int]) -> list[Region]:
    """Cut an image into overlapping windows, (row_min, col_min, row_max, col_max) each, px."""
    starts = [
        [*range(0, max(1, length - TILE), STEP), max(0, length - TILE)] if length > TILE else [0]
        for length in shape
    ]
    return [
        (row, col, min(row + TILE, shape[0]), min(col + TILE, shape[1]))
        for row in sorted(set(starts[0]))
        for col in sorted(set(starts[1]))
    ]


class _TileCache:
    """The windows that were read last; safe to use from several threads."""

    def __init__(self) -> None:
        self._items: OrderedDict[Any, StoredImage] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, read: Callable[[], StoredImage]) -> StoredImage:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        item = read()
        with self._lock:
            self._items[key] = item
            while len(self._items) > 1 and self._nbytes() > TILE_CACHE_BYTES:
                self._items.popitem(last=False)
        return item

    def _nbytes(self) -> int:
        return sum(item.pixels.nbytes + item.labels.nbytes for item in self._items.values())


_tiles = _TileCache()


def _read_tile(source: str, job: Job, region: Region, kind: MaskKind) -> StoredImage:
    def read() -> StoredImage:
        # Opened anew: loader processes must not share a place in a file.
        with open_plane(job[1]) as image, open_mask(job[2]) as mask:
            return _objects(source, job[0], image, mask, region, kind)

    return _tiles.get((job, region, kind), read)


class DeferredArray:
    """An array that is read when a part of it is asked for."""

    def __init__(self, like: NDArray[Any], read: Callable[[], NDArray[Any]]) -> None:
        self.shape, self.dtype, self.ndim = like.shape, like.dtype, like.ndim
        self._read = read

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return cast("NDArray[Any]", self._read()[key])


def _without_pixels(item: StoredImage, read: Callable[[], StoredImage]) -> StoredImage:
    pixels: Any = DeferredArray(item.pixels, lambda: read().pixels)
    labels: Any = DeferredArray(item.labels, lambda: read().labels)
    return replace(item, pixels=pixels, labels=labels)


def load_folders(
    images: Path, masks: Path, *, kind: MaskKind | Literal["auto"] = "auto", threads: int = 2
) -> FolderContents:
    """Read folders of images and masks.

    Parameters
    ----------
    images, masks : Path
        TIFF, PNG or JPEG of 8 or 16 bits; matched by `match_images`.
    kind : {"auto", "binary", "instances", "classes"}
        What the numbers in masks mean; "auto": see `infer_kind`.
    threads : int
        Files read at once.

    Returns
    -------
    FolderContents

    Raises
    ------
    ValueError
        If names do not match, no file can be read, or no mask has an object.
    """
    jobs = match_images(images, masks)
    source = source_name(images)
    kind = _kind_of(jobs) if kind == "auto" else kind
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(partial(_read, source=source, kind=kind), jobs))
    skipped = tuple(result for result in results if isinstance(result, str))
    pieces = [piece for result in results if not isinstance(result, str) for piece in result]
    pieces = [piece for piece in pieces if len(piece.image.ids)]
    if not pieces:
        reasons = f" {len(skipped)} cannot be read: {'; '.join(skipped)}." if skipped else ""
        raise ValueError(
            f"None of {len(jobs)} pair(s) of files in {images} and {masks} has an object of at "
            f"least 30 px.{reasons}"
        )
    return FolderContents(pieces, skipped)
