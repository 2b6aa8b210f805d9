"""Size of a pixel in TIFF files, read from and written to their tags."""

from __future__ import annotations

import contextlib
import math
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MICRO, _MU = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"


class Length(NamedTuple):
    """A unit of length and how it is written.

    Attributes
    ----------
    short : str
        In ASCII: "um".
    name : str
        As NGFF wants it: "micrometer".
    symbol : str
        As OME wants it, with the micro sign.
    centimetres : float
        How long it is; TIFF knows centimetres and inches only.
    """

    short: str
    name: str
    symbol: str
    centimetres: float


_LENGTHS = (
    Length("nm", "nanometer", "nm", 1e-7),
    Length("um", "micrometer", f"{_MICRO}m", 1e-4),
    Length("mm", "millimeter", "mm", 0.1),
    Length("cm", "centimeter", "cm", 1.0),
    Length("m", "meter", "m", 100.0),
    Length("in", "inch", "in", 2.54),
)
LENGTHS = {text: unit for unit in _LENGTHS for text in (unit.short, unit.name, unit.symbol)}
"""Units of length by every way in which files and napari write them."""
LENGTHS |= dict.fromkeys(("micron", "microns", f"{_MU}m"), LENGTHS["um"])


def unit_written(unit: str, way: Literal["short", "name", "symbol"]) -> str:
    """Return a unit as it is written in one way, see `Length`; what is no length as it is."""
    known = LENGTHS.get(unit)
    return unit if known is None else str(getattr(known, way))


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
    known = [LENGTHS[str(unit)].centimetres for unit in units if str(unit) in LENGTHS]
    if len(size) != 2 or len(known) != 2 or not all(size):
        return {}
    # The size of a pixel that is shown mirrored is negative.
    down, across = (1 / abs(float(one) * length) for one, length in zip(size, known, strict=True))
    low, high = _RESOLUTIONS
    if not (low < down < high and low < across < high):
        return {}
    return {"resolution": (across, down), "resolutionunit": "CENTIMETER"}
