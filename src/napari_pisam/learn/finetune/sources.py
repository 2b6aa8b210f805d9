"""What there is to learn from: images with labels, their objects, and which of them validate."""

from __future__ import annotations

import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from napari_pisam.images.folders import match_images
from napari_pisam.images.image_files import open_plane
from napari_pisam.images.mask_files import connected_parts, infer_kind, open_mask, to_labels
from napari_pisam.learn.crops import shown_pixels
from napari_pisam.learn.finetune.parts import ObjectRow, Origin, Part, check_split, split
from napari_pisam.learn.store import SMALLEST_OBJECT
from napari_pisam.predict.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from napari_pisam.images.mask_files import MaskFile, MaskKind

    Region = tuple[int, int, int, int]

__all__ = [
    "ObjectRow",
    "Origin",
    "Part",
    "SourceImage",
    "UserClicks",
    "check_images",
    "check_split",
    "from_folders",
    "list_objects",
    "split",
]

LARGE = 4096 * 4096
"""Pixels above which an image of a folder is read by window."""
TILE, STEP = 2048, 1536
"""Side of these windows, and the distance between two of them, px."""

# How many masks of a folder are looked at to tell what they are.
_LOOKED_AT = 24

_BLOCK = 2048
# Beyond this, a table of all numbers up to the largest would not be small.
_DENSE = 1 << 22


@dataclass(frozen=True, eq=False)
class UserClicks:
    """The clicks that a user corrected one object with.

    Attributes
    ----------
    points : (n, 2) float
        (row, col) px in the image's data space, pixel centres at integers.
    labels : (n,) bool
        True FG, False BG.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image with labels.

    Attributes
    ----------
    name : str
        Shown; unique among the images of a run.
    image : (H, W) or (H, W, 3 or 4) array-like
        Anything with ``shape``, ``dtype`` and slicing, of any dtype; read by window only.
    labels : (H, W) array-like of int or bool
        0 is background; read by window only.
    clicks : mapping of int to UserClicks
        By label, where they are known.
    origin : {"session", "layers", "folder"}
    contrast_limits : (2,) or (C, 2) float, optional
        The values that become black and white; what the predictor would choose unless given.
    only : frozenset of int, optional
        The labels to use; all unless given.
    """

    name: str
    image: Any
    labels: Any
    clicks: Mapping[int, UserClicks] = field(default_factory=dict)
    origin: Origin = "layers"
    contrast_limits: ArrayLike | None = None
    only: frozenset[int] | None = None


# -- which objects there are --------------------------------------------------------------------


def list_objects(
    images: Sequence[SourceImage], *, cancel: Callable[[], bool] | None = None
) -> list[ObjectRow]:
    """List the objects of images; the labels are read block by block, the images not at all.

    Parameters
    ----------
    images : sequence of SourceImage
    cancel : callable, optional
        Asked between two blocks; true ends with what was found so far.

    Returns
    -------
    list of ObjectRow
        In the order of the images and of the labels; what is too small is ``"unused"``, all else
        ``"training"`` until `split`.

    Raises
    ------
    ValueError
        If there are no images, names are double, labels do not fit their image or are not
        integers, or labels hold no object.
    """
    if not images:
        raise ValueError(
            "There is nothing to learn from. Correct some objects in Segment, choose an image and "
            "its labels, or choose folders of images and masks."
        )
    check_images(images)
    rows: list[ObjectRow] = []
    for source in images:
        found = _objects(source, cancel)
        if cancel is not None and cancel():
            return rows
        # An empty mask file among many is usual; an empty layer that was chosen is a mistake.
        if not found and (source.origin != "folder" or len(images) == 1):
            chosen = " that were chosen" if source.only is not None else ""
            raise ValueError(
                f"The labels of {source.name!r} hold no object{chosen}: every pixel is background."
                " Choose labels with objects in them, or leave this image out."
            )
        rows += found
    if not rows:
        raise ValueError(f"None of the {len(images)} masks holds an object. Check the folders.")
    return rows


def check_images(images: Sequence[SourceImage]) -> None:
    """Refuse, with a sentence each, what cannot be used; nothing is read.

    Raises
    ------
    ValueError
        If names are double, or labels do not fit their image or are not integers.
    """
    problems = [
        f"{count} images have the name {name!r}; give them different names"
        for name, count in Counter(source.name for source in images).items()
        if count > 1
    ]
    for source in images:
        shape, labels = _shape(source.image), _shape(source.labels)
        is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
        kind = np.dtype(source.labels.dtype).kind
        if not is_picture:
            problems.append(
                f"the image {source.name!r} has shape {shape}, expected (H, W), or (H, W, 3) in "
                "colour; choose one plane"
            )
        elif labels != shape[:2]:
            problems.append(
                f"the labels of {source.name!r} have shape {labels}, its image {shape[:2]}; both "
                "must be of the same pixels"
            )
        if kind not in "iub":
            problems.append(
                f"the labels of {source.name!r} are of type {source.labels.dtype}, expected "
                "integers: one number for each object, 0 for the background"
            )
    if problems:
        text = "; ".join(problems)
        raise ValueError(f"{text[0].upper()}{text[1:]}.")


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in array.shape)


def _objects(source: SourceImage, cancel: Callable[[], bool] | None) -> list[ObjectRow]:
    height, width = _shape(source.labels)
    low: dict[int, NDArray[np.int64]] = {}
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            if cancel is not None and cancel():
                return []
            part = (slice(top, top + _BLOCK), slice(left, left + _BLOCK))
            _add_block(low, np.asarray(source.labels[part]), (top, left))
    wanted = sorted(low) if source.only is None else sorted(source.only & low.keys())
    rows = []
    for label in wanted:
        r0, c0, r1, c1, area = (int(v) for v in low[label])
        clicks = source.clicks.get(label)
        count = 0 if clicks is None else len(clicks.points)
        part_: Part = "training"
        note = ""
        if area < SMALLEST_OBJECT:
            part_ = "unused"
            note = f"{area} px: too small to learn from ({SMALLEST_OBJECT} px at least)"
        rows.append(
            ObjectRow(source.name, label, (r0, c0, r1, c1), area, count, source.origin, part_, note)
        )
    return rows


def _add_block(
    found: dict[int, NDArray[np.int64]], block: NDArray[Any], corner: tuple[int, int]
) -> None:
    """Add a block's objects: (row_min, col_min, row_max, col_max, area) by label."""
    if block.dtype.kind == "b":
        block = block.astype(np.uint8)
    if not block.any():
        return
    if block.min() >= 0 and block.max() < _DENSE:
        dense = block.astype(np.int32, copy=False)
        numbers: NDArray[Any] | None = None
    else:  # large or negative numbers; negative ones are no objects
        values = np.unique(block[block > 0])
        places = np.searchsorted(values, block).clip(max=max(0, len(values) - 1))
        dense = np.where(block > 0, places + 1, 0).astype(np.int32)
        numbers = np.concatenate([[0], values])
    areas = np.bincount(dense.ravel())
    for label, place in enumerate(ndimage.find_objects(dense), start=1):
        if place is None:
            continue
        rows, cols = place
        new = np.array(
            [
                rows.start + corner[0],
                cols.start + corner[1],
                rows.stop + corner[0],
                cols.stop + corner[1],
                areas[label],
            ]
        )
        key = label if numbers is None else int(numbers[label])
        old = found.get(key)
        if old is not None:
            new[:2] = np.minimum(old[:2], new[:2])
            new[2:4] = np.maximum(old[2:4], new[2:4])
            new[4] += old[4]
        found[key] = new


# -- folders ------------------------------------------------------------------------------------


def from_folders(
    images_dir: Path, masks_dir: Path, *, kind: MaskKind | Literal["auto"] = "auto"
) -> tuple[list[SourceImage], list[str]]:
    """Read folders of images and masks of the same names; large ones are read by window later.

    Parameters
    ----------
    images_dir, masks_dir : Path
        TIFF, PNG or JPEG of 8 or 16 bits; matched by `match_images`.
    kind : {"auto", "binary", "instances", "classes"}
        What the numbers in the masks mean, the same for all; each connected part of a binary mask
        or of a class is an object. "auto": see `infer_kind`.

    Returns
    -------
    list of SourceImage
        Those with objects; a large image gives several, one for each window of it.
    list of str
        Files that were left out, each with the reason.

    Raises
    ------
    ValueError
        If a folder is missing, names do not match (all are listed), or there is no object.
    """
    jobs = match_images(images_dir, masks_dir)
    known = _kind_of([mask for _, _, mask in jobs]) if kind == "auto" else kind
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(partial(_of_files, kind=known), jobs))
    skipped = [result for result in results if isinstance(result, str)]
    sources = [one for result in results if not isinstance(result, str) for one in result]
    if not sources:
        reasons = f" {len(skipped)} cannot be read: {'; '.join(skipped)}." if skipped else ""
        raise ValueError(
            f"None of {len(jobs)} pair(s) of files in {images_dir} and {masks_dir} has an object "
            f"of at least {SMALLEST_OBJECT} px.{reasons}"
        )
    return sources, skipped


def _kind_of(masks: Sequence[Path]) -> MaskKind:
    """Tell what the masks of a folder are from some of them: all of one folder are alike."""
    places = np.linspace(0, len(masks) - 1, min(_LOOKED_AT, len(masks))).round().astype(int)
    return infer_kind(_looked_at([masks[place] for place in places]))


def _looked_at(paths: Sequence[Path]) -> Iterator[tuple[NDArray[Any], bool]]:
    for path in paths:
        # What cannot be read is named when it is its turn.
        with contextlib.suppress(OSError, ValueError), open_mask(path) as mask:
            stride = max(1, round((mask.shape[0] * mask.shape[1] / LARGE) ** 0.5))
            rows, cols = (slice(0, size, stride) for size in mask.shape)
            yield mask.read((rows, cols)), mask.is_lossy


def _of_files(job: tuple[str, Path, Path], kind: MaskKind) -> list[SourceImage] | str:
    """Read an image and its mask, or say why that cannot be done."""
    name, image_path, mask_path = job
    try:
        with open_plane(image_path) as image, open_mask(mask_path) as mask:
            if image.shape != mask.shape:
                raise ValueError(
                    f"the mask {mask_path.name} has {mask.shape} px, the image {image.shape}"
                )
            is_large = image.shape[0] * image.shape[1] > LARGE
            regions = tiles(image.shape) if is_large else [(0, 0, *image.shape)]
            found = []
            for region in regions:
                labels: Any = _labels(mask, region, kind)
                only = _beginning_in(labels, region, image.shape) if is_large else None
                areas = np.bincount(labels.ravel())
                if areas[1:].max(initial=0) < SMALLEST_OBJECT or only == frozenset():
                    continue
                pixels: Any
                if is_large:
                    shape = labels.shape if image.n_channels == 1 else (*labels.shape, 3)
                    pixels = _Unread(shape, np.uint8, partial(_read_pixels, image_path, region))
                    read = partial(_read_labels, mask_path, region, kind)
                    labels = _Unread(labels.shape, labels.dtype, read)
                else:
                    pixels = shown_pixels(image, Window(0, *region))
                title = f"{name} at {region[0]}, {region[1]}" if len(regions) > 1 else name
                found.append(
                    SourceImage(
                        title,
                        pixels,
                        labels,
                        origin="folder",
                        contrast_limits=(0.0, 255.0),
                        only=only,
                    )
                )
            return found
    except (OSError, ValueError, MemoryError) as error:
        return f"{image_path}: {' '.join(str(error).split())}"


def _beginning_in(
    labels: NDArray[np.unsignedinteger], region: Region, shape: tuple[int, int]
) -> frozenset[int]:
    """Labels of a window that are used in it: of an object in two windows one alone trains.

    Otherwise it could train in one and validate in the other. It is the window in which the object
    begins, which has it whole where it is no larger than the overlap.
    """
    following = [
        next((start for start in _starts(length) if start > first), length)
        for first, length in zip(region[:2], shape, strict=True)
    ]
    found = set()
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        begins = [first + part.start for first, part in zip(region[:2], place, strict=True)]
        # What begins on a window's first line may be cut by it; the window before has all of it.
        if all(
            (low < begin or low == 0) and begin <= high
            for low, begin, high in zip(region[:2], begins, following, strict=True)
        ):
            found.add(label)
    return frozenset(found)


def _labels(mask: MaskFile, region: Region, kind: MaskKind) -> NDArray[np.unsignedinteger]:
    rows, cols = slice(region[0], region[2]), slice(region[1], region[3])
    labels = to_labels(mask.read((rows, cols)), kind, is_lossy=mask.is_lossy)
    labels = labels if kind == "instances" else connected_parts(labels)
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))


def _read_labels(path: Path, region: Region, kind: MaskKind) -> NDArray[np.unsignedinteger]:
    with open_mask(path) as mask:
        return _labels(mask, region, kind)


def _read_pixels(path: Path, region: Region) -> NDArray[np.uint8]:
    with open_plane(path) as image:
        return shown_pixels(image, Window(0, *region))


@dataclass(frozen=True, eq=False)
class _Unread:
    """An array that is read when a part of it is asked for."""

    shape: tuple[int, ...]
    dtype: DTypeLike
    read: Callable[[], NDArray[Any]]

    def __getitem__(self, key: Any) -> Any:
        return self.read()[key]


def tiles(shape: tuple[int, int]) -> list[Region]:
    """Cut an image into overlapping windows, (row_min, col_min, row_max, col_max) each, px."""
    return [
        (row, col, min(row + TILE, shape[0]), min(col + TILE, shape[1]))
        for row in _starts(shape[0])
        for col in _starts(shape[1])
    ]


def _starts(length: int) -> list[int]:
    """Where windows begin along an axis, px."""
    return sorted({*range(0, max(1, length - TILE), STEP), max(0, length - TILE)})
