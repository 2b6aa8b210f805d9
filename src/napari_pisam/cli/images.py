"""Image files as arrays, read lazily where they are large."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import tifffile

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Below this, reading all at once is faster than asking for windows.
_SMALL = 256 << 20
# What may be read at once where there is no other way.
_LARGEST = 8 << 30


class _TooLarge(ValueError):
    """Nothing is wrong with the file."""


@dataclass(frozen=True)
class ImageFile:
    """The pixels of an image file.

    Attributes
    ----------
    data : array-like or list of array-likes
        For `ImageSource`: numpy, a memory map or zarr; a list is a pyramid, the largest first.
    axes : str
        One letter per axis, as tifffile names them: "YX", "YXS", "TCZYX" ("S": samples of a
        pixel, "C": channels).
    """

    data: Any
    axes: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        base = self.data[0] if isinstance(self.data, list) else self.data
        return tuple(int(n) for n in base.shape)


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """Open a TIFF (OME-TIFF and pyramids included), PNG, JPEG, or what else Pillow reads.

    Large TIFFs are not read: windows of them are, while the block runs.

    Raises
    ------
    ValueError
        If the file is missing, damaged, of another kind, or larger than can be read.
    """
    if not path.is_file():
        raise ValueError(f"There is no image file {path}. Check the path.")
    with path.open("rb") as file:
        is_tiff = file.read(4) in _TIFF_STARTS
    if is_tiff:
        with _open_tiff(path) as opened:
            yield opened
    else:
        yield _read_picture(path)


@contextlib.contextmanager
def _open_tiff(path: Path) -> Iterator[ImageFile]:
    import tifffile

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tifffile.TiffFile(path))
            series = file.series[0]
            opened = ImageFile(_tiff_data(path, series, stack), series.axes)
        except _TooLarge:
            raise
        except (ValueError, IndexError, RuntimeError, KeyError, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as TIFF ({error}). Check that it is whole, or save it anew."
            ) from error
        yield opened


def _tiff_data(path: Path, series: tifffile.TiffPageSeries, stack: contextlib.ExitStack) -> Any:
    size = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    if size <= _SMALL:
        return series.asarray()
    if importlib.util.find_spec("zarr") is not None:
        import zarr

        levels = []
        for number, level in enumerate(series.levels):
            # A pyramid's level may have dropped axes of length 1.
            if level.ndim == series.ndim:
                store = stack.enter_context(contextlib.closing(series.aszarr(level=number)))
                levels.append(zarr.open_array(store, mode="r"))
        return levels
    import tifffile

    if series.dataoffset is not None:  # uncompressed, in one piece
        return tifffile.memmap(path, mode="r")
    if size > _LARGEST:
        raise _TooLarge(
            f"{path} has {size / 2**30:.0f} GiB of pixels, expected at most {_LARGEST >> 30} GiB "
            "without zarr. Run: pip install zarr"
        )
    return series.asarray()


def _read_picture(path: Path) -> ImageFile:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.mode in ("P", "PA"):
                    has_alpha = picture.mode == "PA" or "transparency" in picture.info
                    pixels = np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
                elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                    pixels = np.asarray(picture.convert("RGB"))
                elif picture.mode in ("LA", "La"):
                    pixels = np.asarray(picture.getchannel("L"))
                else:
                    pixels = np.asarray(picture)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} says that it has more pixels than a PNG or JPEG is read with ({error}). Save "
            "it as a tiled TIFF, which is read window by window."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not an image; expected TIFF, OME-TIFF, PNG or JPEG."
        ) from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Check that it is whole, or save it anew."
        ) from error
    return ImageFile(pixels, "YXS" if pixels.ndim == 3 else "YX")
