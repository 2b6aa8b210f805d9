"""Users' folders of images and masks: matched by name, read by window where they are large."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_pisam.images.files import files_by_name
from napari_pisam.learn.image_files import LazyFile, open_plane
from napari_pisam.learn.store import NameMismatchError, StoredImage, index_objects
from napari_pisam.predict.preprocessing import Window, to_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.learn.config import MaskKind
    from napari_pisam.learn.splits import Kind

    Region = tuple[int, int, int, int]

LARGE = 4096 * 4096
"""Pixels above which an image is read by window."""
TILE, STEP = 2048, 1536
"""Side of these windows, and the distance between two of them, px."""
TILE_CACHE_BYTES = 1 << 30
"""What windows may hold in memory, in each process."""

_LOSSY = {".jpg", ".jpeg"}
# From here on a pixel of a mask with soft edges is surely the object's.
_WHITE = 230
# Names that say what a folder holds, not where it is from.
_PLAIN_NAMES = {"images", "image", "imgs", "raw"}


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
class Found:
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


# -- names ------------------------------------------------------------------------------------


def match_folders(images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    """Match images with masks by their names inside the folders, suffixes left out.

    Returns
    -------
    list of (str, Path, Path)
        Name, image and mask, sorted by name.

    Raises
    ------
    NameMismatchError
        Lists every image without a mask, every mask without an image, and all double names.
    ValueError
        If a folder is missing or empty.
    """
    problems: list[str] = []
    pictures, labels = (_by_name(folder, problems) for folder in (images, masks))
    problems += [f"{name}: no mask" for name in pictures if name not in labels]
    problems += [f"{name}: no image" for name in labels if name not in pictures]
    if problems:
        raise NameMismatchError(
            f"{len(problems)} name(s) do not match in {images} and {masks}: {'; '.join(problems)}."
            " Every image needs one mask of the same name, whatever its suffix."
        )
    return [(name, pictures[name], labels[name]) for name in sorted(pictures)]


def _by_name(folder: Path, problems: list[str]) -> dict[str, Path]:
    files = files_by_name(folder)
    problems += [
        f"{name}: both {one.name} and {other.name} in {folder}"
        for name, paths in files.items()
        for one, other in pairwise(paths)
    ]
    return {name: paths[-1] for name, paths in files.items()}


# -- pixels -----------------------------------------------------------------------------------


def to_labels(
    mask: NDArray[Any], kind: MaskKind, *, lossy: bool = False
) -> tuple[NDArray[np.int32], Kind]:
    """Turn the numbers of a mask into small ones, and say how to read them.

    Parameters
    ----------
    mask : (H, W) array of bool, integers or floats
        0, or less, is background.
    kind : {"auto", "binary", "instances", "classes"}
        With "auto", one number or soft edges are binary; up to 8 numbers of at most 16 classes;
        others instances.
    lossy : bool
        The file's format blurs numbers.

    Returns
    -------
    (H, W) array of int32
    {"B", "I", "S"}
    """
    if mask.dtype.kind == "f":
        mask = np.nan_to_num(mask)
        if (mask != np.floor(mask)).any():
            mask = mask > 0.5 * min(1.0, float(mask.max()))
    values, counts = np.unique(mask[mask > 0], return_counts=True)
    # Anti-aliased or compressed: most of the object is white, its edge is anything.
    soft = mask.dtype == np.uint8 and values.size > 1 and values[-1] > 250
    soft = soft and (lossy or 2 * counts[values >= _WHITE].sum() >= counts.sum())
    if kind == "binary" or (kind == "auto" and (values.size <= 1 or soft)):
        return (mask > (127 if soft else 0)).astype(np.int32), "B"
    if kind == "auto":
        kind = "classes" if values.size <= 8 and values[-1] <= 16 else "instances"
    if kind == "classes":
        if values.size and values[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"the mask has a class {values[-1]}, expected at most 2147483647")
        return np.maximum(mask, 0).astype(np.int32), "S"
    small = np.searchsorted(values, mask) + 1
    return np.where(mask > 0, small, 0).astype(np.int32), "I"


def _pixels(plane: LazyFile, region: Region) -> NDArray[np.uint8]:
    """Read a window as the predictor would show it: grey as (h, w), else (h, w, 3)."""
    window = Window(0, *region)
    rgb = to_frame(plane.source, window, max(window.reduced_shape))
    shown = np.rint(rgb).astype(np.uint8)
    if plane.source.n_channels == 1:
        return np.ascontiguousarray(shown[0])
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def _objects(
    source: str, name: str, image: LazyFile, mask: LazyFile, region: Region, kind: MaskKind
) -> StoredImage:
    rows, cols = slice(region[0], region[2]), slice(region[1], region[3])
    numbers = mask.source.read((rows, cols))
    if numbers.shape[2] > 1 and (numbers != numbers[..., :1]).any():
        raise ValueError("the mask is a colour picture, expected one number a pixel")
    labels, letter = to_labels(numbers[..., 0], kind, lossy=mask.path.suffix.lower() in _LOSSY)
    return index_objects(source, name, letter, _pixels(image, region), labels)


def _read(job: tuple[str, Path, Path], source: str, kind: MaskKind) -> list[Piece] | str:
    name, image_path, mask_path = job
    try:
        with open_plane(image_path) as image, open_plane(mask_path) as mask:
            if image.source.shape != mask.source.shape:
                raise ValueError(
                    f"the mask {mask_path.name} has {mask.source.shape} px, the image "
                    f"{image.source.shape}"
                )
            height, width = image.source.shape
            if height * width <= LARGE:
                region = (0, 0, height, width)
                return [Piece(_objects(source, name, image, mask, region, kind), name, region)]
            # One answer for all windows: one of them may hold a single instance.
            if kind == "auto":
                stride = max(1, round((height * width / LARGE) ** 0.5))
                view = mask.source.read((slice(0, height, stride), slice(0, width, stride)))
                letter = to_labels(view[..., 0], kind, lossy=mask_path.suffix.lower() in _LOSSY)[1]
                kind = {"B": "binary", "I": "instances", "S": "classes"}[letter]  # type: ignore[assignment]
            pieces = []
            for region in tiles((height, width)):
                item = _objects(source, name, image, mask, region, kind)
                read = partial(_read_tile, source, job, region, kind)
                pieces.append(Piece(_without_pixels(item, read), name, region))
            return pieces
    except (OSError, ValueError, SyntaxError, RuntimeError, KeyError, IndexError) as error:
        return f"{image_path}: {' '.join(str(error).split())}"


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


class _Remembered:
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


_tiles = _Remembered()


def _read_tile(
    source: str, job: tuple[str, Path, Path], region: Region, kind: MaskKind
) -> StoredImage:
    def read() -> StoredImage:
        # Opened anew: loader processes must not share a place in a file.
        with open_plane(job[1]) as image, open_plane(job[2]) as mask:
            return _objects(source, job[0], image, mask, region, kind)

    return _tiles.get((job, region, kind), read)


class Later:
    """An array that is read when a part of it is asked for."""

    def __init__(self, like: NDArray[Any], read: Callable[[], NDArray[Any]]) -> None:
        self.shape, self.dtype, self.ndim = like.shape, like.dtype, like.ndim
        self._read = read

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return cast("NDArray[Any]", self._read()[key])


def _without_pixels(item: StoredImage, read: Callable[[], StoredImage]) -> StoredImage:
    pixels: Any = Later(item.pixels, lambda: read().pixels)
    labels: Any = Later(item.labels, lambda: read().labels)
    return replace(item, pixels=pixels, labels=labels)


def load_folders(images: Path, masks: Path, *, kind: MaskKind = "auto", threads: int = 2) -> Found:
    """Read folders of images and masks.

    Parameters
    ----------
    images, masks : Path
        TIFF, PNG or JPEG of 8 or 16 bits; matched by `match_folders`.
    kind : {"auto", "binary", "instances", "classes"}
        What the numbers in masks mean, see `to_labels`.
    threads : int
        Files read at once.

    Returns
    -------
    Found

    Raises
    ------
    ValueError
        If names do not match, no file can be read, or no mask has an object.
    """
    jobs = match_folders(images, masks)
    folder = images.absolute()
    source = folder.parent.name if folder.name.lower() in _PLAIN_NAMES else folder.name
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
    return Found(pieces, skipped)
