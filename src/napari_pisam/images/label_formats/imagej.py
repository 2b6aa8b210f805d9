"""ImageJ's ROI manager: a zip of outlines along the edges of pixels, named by their labels.

A ROI is one outline here: holes and further parts are joined by bridges of no width.
"""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.files import replacing
from napari_pisam.images.label_formats.annotations import Crops, LabelImage, painted
from napari_pisam.images.label_formats.outlines import filled, shape_around, single_outline

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LARGEST_ROI = 64 << 20
_MOST_ROIS = 1_000_000


def write_imagej(path: Path, image: LabelImage) -> None:
    """Write one picture's objects as ``.zip`` that ImageJ's ROI manager opens."""
    import roifile

    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, origin, crop in image.objects():
            corners = np.round(single_outline(crop, origin) + 0.5).astype(np.int64)
            roi = roifile.ImagejRoi.frompoints(corners[:, ::-1], name=_name(label, image))
            roi.roitype = roifile.ROI_TYPE.TRACED
            archive.writestr(f"{label:05d}.roi", roi.tobytes())


def _name(label: int, image: LabelImage) -> str:
    return f"{label} {image.classes[label]}" if label in image.classes else str(label)


def read_imagej(path: Path, shape: tuple[int, int] | None = None) -> LabelImage:
    """Read the areas of a ``.zip`` of the ROI manager, or of one ``.roi``.

    Parameters
    ----------
    path : Path
    shape : (int, int), optional
        (H, W) of the picture; by default just large enough for all areas.

    Raises
    ------
    ValueError
        If the file is not such a file.
    """
    found: list[tuple[str, list[NDArray[Any]]]] = []
    for name, data in _members(path):
        found.append(_outline(path, name, data))
    if not found:
        raise ValueError(f"{path} holds no ROI.")
    try:
        size = shape or shape_around([ring for _, rings in found for ring in rings])
    except ValueError as error:
        raise ValueError(f"{path} cannot be used ({error}).") from error
    objects: Crops = {}
    classes: dict[int, str] = {}
    for place, (name, rings) in enumerate(found, start=1):
        number, _, kind = name.partition(" ")
        known = number.isascii() and number.isdigit() and 0 < int(number) < 2**32
        label = int(number) if known else place
        if label in objects:
            label = max(objects) + 1
        objects[label] = filled([rings], size)
        if known and kind:
            classes[label] = kind
    return LabelImage(painted(objects, size), classes)


def _members(path: Path) -> list[tuple[str, bytes]]:
    try:
        if path.suffix.lower() == ".roi":
            if path.stat().st_size > _LARGEST_ROI:
                raise ValueError(f"{path} has more than {_LARGEST_ROI} bytes, too many for a ROI.")
            return [(path.stem, path.read_bytes())]
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
            total = sum(one.file_size for one in members)
            if len(members) > _MOST_ROIS or total > _LARGEST_ROI * 16:
                raise ValueError(
                    f"{path} holds {len(members)} ROIs of {total} bytes, more than is read."
                )
            return [(one.filename, archive.read(one)) for one in members]
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a zip of ROIs ({error}).") from error


def _outline(path: Path, name: str, data: bytes) -> tuple[str, list[NDArray[Any]]]:
    """Read a ROI's name and rings of (row, col), pixel centres at integers."""
    import roifile

    kinds = roifile.ROI_TYPE
    areas = {kinds.POLYGON, kinds.RECT, kinds.OVAL, kinds.FREEHAND, kinds.TRACED}
    try:
        roi = roifile.ImagejRoi.frombytes(data)
        rings = [np.asarray(ring, dtype=np.float64) for ring in roi.coordinates(multi=True)]
        kind, title = roi.roitype, str(roi.name or "")
    except (ValueError, struct.error, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {name!r} is not a ROI of ImageJ's ({error}).") from error
    if kind not in areas:
        raise ValueError(f"{path}: {name!r} is a {kind.name.lower()}, expected an area.")
    if not rings or any(not np.isfinite(ring).all() for ring in rings):
        raise ValueError(f"{path}: {name!r} has no outline.")
    return title, [ring[:, ::-1] - 0.5 for ring in rings]
