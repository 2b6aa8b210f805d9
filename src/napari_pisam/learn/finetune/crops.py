"""The windows around objects, written into a run's folder and read back by the child.

Pictures are kept as the network is shown them (8 bits), labels with small numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_pisam.images.image_source import ImageSource
from napari_pisam.learn.crops import place_window, shown_pixels
from napari_pisam.learn.finetune.layout import (
    FORMAT,
    IMAGES,
    MASKS,
    OBJECTS,
    read_json,
    write_json,
)
from napari_pisam.learn.finetune.parts import dividing_cut
from napari_pisam.learn.store import StoredImage
from napari_pisam.predict.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.learn.finetune.parts import Part
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from napari_pisam.learn.finetune.sources import ObjectRow, SourceImage

    Region = tuple[int, int, int, int]

WHOLE = 2048 * 2048
"""Pixels up to which an image is kept as a whole."""
LONGEST = 2048
"""Longest side that is kept, px; what is larger is reduced."""
_SURROUNDINGS, _LEAST = 4.0, 768
_SOURCE = "objects"


@dataclass(frozen=True)
class PlannedCrop:
    """A window of an image, and the objects in it that count.

    Attributes
    ----------
    image : SourceImage
    region : (int, int, int, int)
        (row_min, col_min, row_max, col_max), half open, px of the image.
    rows : tuple of ObjectRow
    """

    image: SourceImage
    region: Region
    rows: tuple[ObjectRow, ...]

    @property
    def step(self) -> int:
        """By how much it is reduced."""
        side = max(self.region[2] - self.region[0], self.region[3] - self.region[1])
        return -(-side // LONGEST)

    @property
    def pixels(self) -> int:
        """How many are kept."""
        height, width = self.region[2] - self.region[0], self.region[3] - self.region[1]
        return (height // self.step) * (width // self.step)


def used_rows(settings: FineTuneSettings, rows: Sequence[ObjectRow]) -> list[ObjectRow]:
    """Draw as many objects of each part as the settings allow, in their order."""
    used: set[int] = set()
    limits = {"training": settings.training_objects, "validation": settings.validation_objects}
    for turn, (part, limit) in enumerate(limits.items()):
        places = np.flatnonzero([row.part == part for row in rows])
        if len(places) > limit:
            rng = np.random.default_rng((settings.seed, 7, turn))
            places = rng.choice(places, limit, replace=False)
        used.update(int(place) for place in places)
    return [row for i, row in enumerate(rows) if i in used]


def plan_crops(images: Sequence[SourceImage], rows: Sequence[ObjectRow]) -> list[PlannedCrop]:
    """Choose the windows to keep: small images as a whole, else one around each group of objects.

    Parameters
    ----------
    images : sequence of SourceImage
    rows : sequence of ObjectRow
        From `used_rows`.

    Raises
    ------
    ValueError
        If an object's image is not there.
    """
    by_image: dict[str, list[ObjectRow]] = defaultdict(list)
    for row in rows:
        by_image[row.image].append(row)
    absent = sorted(by_image.keys() - {image.name for image in images})
    if absent:
        raise ValueError(f"There is no image {absent[0]!r} any more. List the objects again.")
    crops = []
    for image in images:
        own = by_image.get(image.name, [])
        height, width = (int(n) for n in image.labels.shape)
        if not own:
            continue
        if height * width <= WHOLE:
            crops.append(PlannedCrop(image, (0, 0, height, width), tuple(own)))
        else:
            crops += _around(image, own, (height, width))
    return crops


def _around(
    image: SourceImage, rows: Sequence[ObjectRow], shape: tuple[int, int]
) -> list[PlannedCrop]:
    """Place a window around each object; an object inside an earlier window shares that."""
    placed: list[tuple[Region, list[ObjectRow]]] = []
    for row in sorted(rows, key=lambda row: row.box):
        r0, c0, r1, c1 = row.box
        long = max(r1 - r0, c1 - c0)
        near = long  # what the network looks at, on every side
        for region, inside in reversed(placed[-32:]):
            seen = (max(0, r0 - near), max(0, c0 - near)), (r1 + near, c1 + near)
            low = region[0] <= seen[0][0] and region[1] <= seen[0][1]
            high = all(
                min(end, limit) <= edge
                for end, limit, edge in zip(seen[1], shape, region[2:], strict=True)
            )
            # Not into a window that is shown so reduced that a small object would vanish.
            if low and high and max(region[2] - region[0], region[3] - region[1]) <= LONGEST:
                inside.append(row)
                break
        else:
            side = max(_SURROUNDINGS * long, _LEAST)
            centre = ((r0 + r1) / 2, (c0 + c1) / 2)
            placed.append((place_window((side, side), centre, shape), [row]))
    return [PlannedCrop(image, region, tuple(inside)) for region, inside in placed]


def write_crops(
    folder: Path, crops: Sequence[PlannedCrop], progress: Callable[[int, int], None] | None = None
) -> None:
    """Read the windows and write them, with the list of objects last.

    Parameters
    ----------
    folder : Path
        Of the run.
    crops : sequence of PlannedCrop
    progress : callable, optional
        Called with (windows done, windows in all).

    Raises
    ------
    ValueError
        If an object is not where the list says.
    OSError
        If a file cannot be written.
    """
    for name in (IMAGES, MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pieces: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, crop in enumerate(crops):
        file = f"{number:05d}"
        pixels, labels = read_crop(crop)
        values, small = np.unique(labels, return_inverse=True)
        small = small.reshape(labels.shape)
        if values[0] != 0:  # no background anywhere
            values, small = np.concatenate([[0], values]), small + 1
        Image.fromarray(pixels).save(folder / IMAGES / f"{file}.png", compress_level=1)
        _write_labels(folder / MASKS / f"{file}.tif", small)
        pieces.append(
            {
                "file": file,
                "image": crop.image.name,
                "region": list(crop.region),
                "step": crop.step,
                "shape": [int(n) for n in crop.image.labels.shape],
            }
        )
        for row in crop.rows:
            place = int(np.searchsorted(values, row.label))
            if place == len(values) or values[place] != row.label:
                raise ValueError(
                    f"Object {row.label} of {row.image!r} is not in its labels any more, or too "
                    "thin to be seen. List the objects again."
                )
            objects.append(
                {
                    "piece": number,
                    "label": row.label,
                    "value": place,
                    "part": row.part,
                    "origin": row.origin,
                    "box": [int(v) for v in row.box],
                    "clicks": _clicks(crop.image, row.label),
                }
            )
        if progress is not None:
            progress(number + 1, len(crops))
    content = {"format": FORMAT, "pieces": pieces, "objects": objects}
    write_json(folder / OBJECTS, content)


def read_crop(crop: PlannedCrop) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a window: the picture as it is shown, (h, w) or (h, w, 3), and its labels, (h, w)."""
    source = crop.image
    in_colour = len(source.image.shape) == 3
    view = ImageSource(source.image, rgb=in_colour, contrast_limits=source.contrast_limits)
    window = Window(0, *crop.region, step=crop.step)
    pixels = shown_pixels(view, window)
    r0, c0, r1, c1 = crop.region
    if crop.step == 1:
        part = source.labels[slice(r0, r1), slice(c0, c1)]
    else:
        middle = crop.step // 2
        part = source.labels[
            slice(min(r0 + middle, r1 - 1), r1, crop.step),
            slice(min(c0 + middle, c1 - 1), c1, crop.step),
        ]
    labels = np.asarray(part).astype(np.int64)
    missing = [(0, full - own) for full, own in zip(pixels.shape[:2], labels.shape, strict=True)]
    labels = np.pad(labels, missing, mode="edge")
    return pixels, np.maximum(labels, 0)


def _write_labels(path: Path, labels: NDArray[Any]) -> None:
    import tifffile

    dtype = np.uint16 if labels.max() < 2**16 else np.uint32
    tifffile.imwrite(path, labels.astype(dtype), compression="zlib", metadata=None)


def _clicks(image: SourceImage, label: int) -> list[list[float]]:
    known = image.clicks.get(label)
    if known is None:
        return []
    points = np.asarray(known.points, dtype=np.float64).reshape(-1, 2)
    labels = np.asarray(known.labels, dtype=bool).reshape(-1)
    if len(points) != len(labels):
        raise ValueError(
            f"Object {label} of {image.name!r} has {len(points)} clicks and {len(labels)} signs of "
            "clicks; expected one for each."
        )
    return [[float(r), float(c), float(sign)] for (r, c), sign in zip(points, labels, strict=True)]


# -- read back by the child ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RunObject:
    """One object of a run.

    Attributes
    ----------
    image : str
        Name of its image.
    label : int
        Its number there.
    part : {"training", "validation"}
    clicks : int
        How often its user clicked.
    item : StoredImage
        The picture around it, with this object as the only one that counts.
    """

    image: str
    label: int
    part: Part
    clicks: int
    item: StoredImage


def read_objects(folder: Path) -> list[RunObject]:
    """Read a run's objects.

    Objects of one picture share its pixels. Where some of them train and others validate, and a
    straight cut divides them, those that train see their side only.

    Raises
    ------
    ValueError
        If the files are missing, damaged or of a newer version.
    """
    content = read_json(folder / OBJECTS)
    if content is None or content.get("format") != FORMAT:
        raise ValueError(
            f"{folder / OBJECTS} is missing, damaged, or of another version. Start a new run."
        )
    try:
        return _read_pieces(folder, content["pieces"], content["objects"])
    except Exception as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"A picture of the run in {folder} cannot be read, or does not fit its list of "
            f"objects ({first}). Start a new run."
        ) from error


def _read_pieces(
    folder: Path, pieces: Sequence[dict[str, Any]], entries: Sequence[dict[str, Any]]
) -> list[RunObject]:
    by_piece: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        by_piece.setdefault(int(entry["piece"]), []).append(entry)
    import tifffile

    objects = []
    for number, own in sorted(by_piece.items()):
        name = str(pieces[number]["file"])
        if not name.isdecimal():
            raise ValueError(f"its list names the picture {name!r}")
        with Image.open(folder / IMAGES / f"{name}.png", formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
        labels = np.asarray(tifffile.imread(folder / MASKS / f"{name}.tif"))
        if labels.shape != pixels.shape[:2]:
            raise ValueError(f"picture {name} has {pixels.shape[:2]} px, its mask {labels.shape}")
        objects += _of_piece(str(pieces[number]["image"]), pixels, labels, own)
    return objects


def _of_piece(
    image: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.unsignedinteger],
    entries: Sequence[dict[str, Any]],
) -> list[RunObject]:
    places = ndimage.find_objects(labels.astype(np.int32))
    boxes = {}
    for entry in entries:
        rows, cols = places[int(entry["value"]) - 1]
        boxes[int(entry["value"])] = (rows.start, cols.start, rows.stop, cols.stop)
    sides = {
        part: [boxes[int(e["value"])] for e in entries if e["part"] == part]
        for part in ("training", "validation")
    }
    cut = None
    if sides["training"] and sides["validation"]:
        cut = dividing_cut(sides["training"], sides["validation"])
    areas = np.bincount(labels.ravel())
    objects = []
    for entry in entries:
        value = int(entry["value"])
        box = np.array(boxes[value], np.int64)
        own_pixels, own_labels = pixels, labels
        if cut is not None and entry["part"] == "training":
            axis, place, is_near = cut
            side = slice(None, place) if is_near else slice(place, None)
            part = (side, slice(None)) if axis == 0 else (slice(None), side)
            own_pixels, own_labels = pixels[part], labels[part]
            if not is_near:
                box[[axis, axis + 2]] -= place
        item = StoredImage(
            _SOURCE,
            f"{image}:{entry['label']}",
            own_pixels,
            own_labels,
            np.array([value], np.int64),
            box[None],
            np.array([areas[value]], np.int64),
        )
        objects.append(
            RunObject(image, int(entry["label"]), entry["part"], len(entry["clicks"]), item)
        )
    return objects


def training_items(objects: Sequence[RunObject]) -> list[StoredImage]:
    """List the items to draw from: each object alike, those that were corrected twice as often.

    A correction tells where the base was wrong, which is what there is to learn.
    """
    corrected = [o.item for o in objects if o.part == "training" and o.clicks]
    items = [o.item for o in objects if o.part == "training"]
    # If all of them were corrected, this changes nothing.
    return items + (corrected if len(corrected) < len(items) else [])
