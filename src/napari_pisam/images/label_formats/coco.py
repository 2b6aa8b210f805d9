"""COCO's JSON: polygons where an object has no holes, run lengths where it has.

Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import importlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import write_text
from napari_pisam.images.label_formats.annotations import (
    UNNAMED_CLASS,
    Crops,
    LabelImage,
    check_size,
    painted,
)
from napari_pisam.images.label_formats.outlines import filled, outlines
from napari_pisam.images.label_formats.text import read_json, rings_from_flat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_coco(path: Path, image: LabelImage) -> None:
    """Write one picture's objects; annotation ids are the labels."""
    names = image.class_names()
    height, width = (int(length) for length in image.labels.shape)
    content = {
        "info": {"description": "Written by napari-pisam"},
        "images": [{"id": 1, "file_name": image.image_name, "width": width, "height": height}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [
            {
                "id": label,
                "image_id": 1,
                "category_id": names.index(image.class_of(label)) + 1,
                "iscrowd": 0,
                "area": int(crop.sum()),
                "bbox": [origin[1], origin[0], crop.shape[1], crop.shape[0]],
                "segmentation": _segmentation(origin, crop, (height, width)),
            }
            for label, origin, crop in image.objects()
        ],
    }
    write_text(path, json.dumps(content))


def _segmentation(
    origin: tuple[int, int], crop: NDArray[np.bool_], shape: tuple[int, int]
) -> list[list[float]] | dict[str, Any]:
    parts = outlines(crop)
    if any(len(part) > 1 for part in parts):
        return {"size": list(shape), "counts": _run_lengths(origin, crop, shape)}
    # A pixel of COCO's begins at its number: the centre of the first one is at 0.5.
    offset = np.array(origin) + 0.5
    return [(part[0] + offset)[:, ::-1].ravel().tolist() for part in parts]


def _run_lengths(
    origin: tuple[int, int], crop: NDArray[np.bool_], shape: tuple[int, int]
) -> list[int]:
    """Lengths of runs outside and inside in turn, column after column."""
    cols, rows = np.nonzero(crop.T)
    places = (cols + origin[1]) * shape[0] + rows + origin[0]
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate([[0], breaks + 1])]
    ends = places[np.concatenate([breaks, [len(places) - 1]])] + 1
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [shape[0] * shape[1]]])
    lengths: list[int] = np.diff(edges).tolist()
    return lengths if lengths[-1] else lengths[:-1]


def read_coco(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read the objects of a file's only picture.

    Parameters
    ----------
    path : Path
    shape : (int, int), optional
        What the picture's (H, W) has to be; by default the file says it.

    Raises
    ------
    ValueError
        If the file is no COCO file of one picture.
    """
    content = read_json(path)
    try:
        pictures = content["images"]
        if len(pictures) != 1:
            raise ValueError(
                f"it holds {len(pictures)} pictures, expected one: write a file for each"
            )
        size = int(pictures[0]["height"]), int(pictures[0]["width"])
        check_size(path, size, shape)
        names = {int(one["id"]): str(one["name"]) for one in content.get("categories", ())}
        objects: Crops = {}
        classes: dict[int, str] = {}
        for place, one in enumerate(content["annotations"], start=1):
            label = _label(one, place, objects)
            objects[label] = _mask(one["segmentation"], shape or size)
            classes[label] = names.get(int(one.get("category_id", 0)), "")
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} is not a COCO file that can be used ({error}).") from error
    classes = {label: name for label, name in classes.items() if name not in ("", UNNAMED_CLASS)}
    labels = painted(objects, shape or size)
    return LabelImage(labels, classes, str(pictures[0].get("file_name", "")))


def _label(one: dict[str, Any], place: int, taken: dict[int, Any]) -> int:
    number = int(one.get("id", place))
    if 0 < number < 2**32 and number not in taken:
        return number
    return max([place, *taken]) + 1 if place in taken else place


def _mask(segmentation: Any, shape: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, shape)
    return filled([[ring - 0.5] for ring in rings_from_flat(segmentation)], shape)


def _from_runs(
    segmentation: dict[str, Any], shape: tuple[int, int]
) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    counts, size = segmentation["counts"], tuple(int(length) for length in segmentation["size"])
    if size != shape:
        raise ValueError(f"a mask is of {size} px, the picture of {shape}")
    if isinstance(counts, str):
        return (0, 0), _decompressed(counts, shape)
    lengths = np.asarray(counts, dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() > shape[0] * shape[1]:
        raise ValueError("the run lengths of a mask do not fit its size")
    inside = np.zeros(shape[0] * shape[1], dtype=bool)
    ends = np.cumsum(lengths)
    for start, end in zip(ends[0::2].tolist(), ends[1::2].tolist(), strict=False):
        inside[start:end] = True
    return (0, 0), inside.reshape(shape[1], shape[0]).T


def _decompressed(counts: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        coco_mask: Any = importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise ValueError(
            "its masks are compressed; to read them: pip install pycocotools"
        ) from error
    with warnings.catch_warnings():
        # The library's own way of making an array is older than numpy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded = coco_mask.decode({"size": list(shape), "counts": counts.encode("ascii")})
    return np.asarray(decoded) > 0
