"""A run's pictures and objects, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from napari_pisam.learn.finetune.layout import FORMAT, IMAGES, MASKS, OBJECTS, read_json
from napari_pisam.learn.finetune.parts import dividing_cut
from napari_pisam.learn.store import StoredImage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.learn.finetune.parts import Part

_SOURCE = "objects"


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
