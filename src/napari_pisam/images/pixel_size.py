"""Size of a pixel in TIFF files, read from and written to their tags."""

from __future__ import annotations

import contextlib
import math
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MICRO, _MU = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"
# TIFF knows centimetres and inches only.
_CENTIMETRES = {
    "nanometer": 1e-7,
    "nm": 1e-7,
    "micrometer": 1e-4,
    "micron": 1e-4,
    "microns": 1e-4,
    "um": 1e-4,
    f"{_MICRO}m": 1e-4,
    f"{_MU}m": 1e-4,
    "millimeter": 0.1,
    "mm": 0.1,
    "centimeter": 1.0,
    "cm": 1.0,
    "inch": 2.54,
    "meter": 100.0,
    "m": 100.0,
}
# Fractions of 32-bit numbers.
_RESOLUTIONS = (1e-9, 4e9)
_CENTIMETRE, _INCH = 3, 2


class PixelSize(NamedTuple):
    """How large a pixel is; without units where that is not known.

    Attributes
    ----------
    size : tuple of float
        Along rows' and columns' axes: (height, width).
    units : tuple of str
        Of each.
    """

    size: tuple[float, ...] = ()
    units: tuple[str, ...] = ()


def pixel_size_of(page: Any) -> PixelSize:
    """Read what OME metadata, ImageJ's description or the resolution tags say of a TIFF's page.

    Parameters
    ----------
    page : tifffile.TiffPage

    Returns
    -------
    PixelSize
        Empty where there is none, or none that can be: a wrong size must not spoil an image.
    """
    found = PixelSize()
    with contextlib.suppress(Exception):
        found = _read(page)
    is_good = all(math.isfinite(size) and size > 0 for size in found.size)
    return found if is_good and resolution_tags(*found) else PixelSize()


def _read(page: Any) -> PixelSize:
    file = page.parent
    if file.is_ome and file.ome_metadata:
        return _of_ome(file.ome_metadata)
    across, down = page.resolution
    if not (across and down):
        return PixelSize()
    size = 1 / float(down), 1 / float(across)
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    if unit:
        # ImageJ writes what is no ASCII so.
        name = str(unit).replace("\\u00B5", _MICRO).strip()
        return PixelSize(size, (name, name))
    name = {_CENTIMETRE: "centimeter", _INCH: "inch"}.get(int(page.resolutionunit), "")
    return PixelSize(size, (name, name)) if name else PixelSize()


def _of_ome(text: str) -> PixelSize:
    for element in ElementTree.fromstring(text).iter():
        given: Mapping[str, str] = element.attrib
        if element.tag.rsplit("}")[-1] == "Pixels" and "PhysicalSizeX" in given:
            sizes = [float(given[f"PhysicalSize{axis}"]) for axis in "YX"]
            # Micrometres by default, says the standard.
            units = [given.get(f"PhysicalSize{axis}Unit", f"{_MICRO}m") for axis in "YX"]
            return PixelSize(tuple(sizes), tuple(units))
    return PixelSize()


def resolution_tags(size: Sequence[float], units: Sequence[str]) -> dict[str, Any]:
    """Say how many pixels a centimetre has, across and down, as arguments of tifffile's writer.

    Returns
    -------
    dict
        Empty where the units are no lengths, or TIFF has no such numbers.
    """
    lengths = [_CENTIMETRES.get(str(unit)) for unit in units]
    known = [length for length in lengths if length is not None]
    if len(size) != 2 or len(known) != 2 or not all(size):
        return {}
    # The size of a pixel that is shown mirrored is negative.
    down, across = (1 / abs(float(one) * length) for one, length in zip(size, known, strict=True))
    low, high = _RESOLUTIONS
    if not (low < down < high and low < across < high):
        return {}
    return {"resolution": (across, down), "resolutionunit": "CENTIMETER"}
