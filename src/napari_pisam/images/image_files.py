"""Image files as arrays: the one reader, for commands, training and evaluation alike.

Pixels are those that napari's own reader gives (EXIF rotation is not applied, the indices of a
palette TIFF stay numbers), except where that would not be a picture: alpha is left out, ink is
turned into light, and what neither can show is refused with a sentence.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import struct
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images import zarr_files
from napari_pisam.images.image_source import ImageSource
from napari_pisam.images.pixel_size import PixelSize, pixel_size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import tifffile
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""What Pillow may open: it knows formats that start other programs."""

# Below this, reading all at once is faster than asking for windows.
_SMALL = 256 << 20
# What may be read at once where there is no other way.
_LARGEST = 8 << 30
# One tile or strip has to be decoded as a whole.
_LARGEST_TILE = 1 << 30

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# TIFF's numbers, from its specification.
_GREY, _RGB, _PALETTE, _HOLES, _INK, _YCBCR, _RAW = (0, 1), 2, 3, 4, 5, 6, 34892
JPEG_COMPRESSIONS = (6, 7, 33007, 34892, 34933)
# What tifffile calls the layouts in which each image of its own is a position.
_POSITIONED = ("ome", "generic", "uniform", "shaped")
_NO_POSITIONS = ("label", "macro", "thumbnail", "overview")
_ALPHA = (1, 2)
_INKS = 4


class ImageFileError(ValueError):
    """An image file that cannot be used: what it is, what is wrong, what to do."""


@dataclass(frozen=True)
class ImageFile:
    """The pixels of an image file.

    Attributes
    ----------
    path : Path
    data : array-like or list of array-likes
        For `ImageSource`: numpy, a memory map or zarr; a list is a pyramid, the largest first.
    axes : str
        One letter per axis, as tifffile names them: "YX", "YXS", "TCZYX" ("S": samples of a
        pixel, "C": channels).
    samples : int
        How many samples of a pixel, from the first, are picture; those after it are alpha.
    is_rgb : bool
        Whether they are red, green and blue.
    pixel_size : PixelSize
        What the file says of it.
    """

    path: Path
    data: Any
    axes: str
    samples: int = 1
    is_rgb: bool = False
    pixel_size: PixelSize = field(default_factory=PixelSize)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        base = self.data[0] if isinstance(self.data, list) else self.data
        return tuple(int(n) for n in base.shape)

    def channel_axis(self, n_indices: int | None = None) -> int | None:
        """Find the axis that holds samples or channels, or None.

        Parameters
        ----------
        n_indices : int, optional
            How many indices choose the plane: one for every axis before rows and columns chooses
            one of the channels, too.
        """
        if "S" in self.axes:
            return self.axes.index("S")
        axis = self.axes.find("C")
        if axis < 0 or self.shape[axis] == 1 or n_indices == len(self.shape) - 2:
            return None
        return axis

    def view(
        self,
        plane: Sequence[int] | None = None,
        *,
        channel_axis: int | None = None,
        channels: Sequence[int] | None = None,
        contrast_limits: ArrayLike | None = None,
    ) -> ImageSource:
        """Choose one plane and its channels.

        Parameters
        ----------
        plane : sequence of int, optional
            The index along each axis that is neither row, column nor channel.
        channel_axis : int, optional
            By default what the file says, see `channel_axis`.
        channels : sequence of int, optional
            One to three; the first three by default.
        contrast_limits : (2,) or (C, 2) float, optional
            See `ImageSource`.

        Raises
        ------
        ValueError
            If an argument does not fit the image.
        """
        own = self.channel_axis(None if plane is None else len(plane))
        axis = own if channel_axis is None else channel_axis % len(self.shape)
        is_own = own is not None and axis == own and "S" in self.axes
        if is_own and channels is None:
            channels = tuple(range(min(self.samples, 3)))
        if axis is None and "Q" in self.axes:
            rgb = None  # unknown axes: what the sizes say
        else:
            rgb = self.is_rgb if is_own else False if axis is None else None
        return ImageSource(
            self.data,
            plane=plane,
            channel_axis=axis,
            channels=channels,
            rgb=rgb,
            contrast_limits=contrast_limits,
        )


@contextlib.contextmanager
def open_image(path: Path, position: int = 0) -> Iterator[ImageFile]:
    """Open a TIFF (OME-TIFF and pyramids included), OME-Zarr, PNG, JPEG, WebP, BMP or GIF.

    Large TIFFs and OME-Zarr are not read: windows of them are, while the block runs.

    Parameters
    ----------
    path : Path
    position : int
        Which image of a TIFF that holds several, see `positions_in`.

    Raises
    ------
    ImageFileError
        If the file is missing, damaged, of another kind, or larger than can be read; in the
        block, if a part of it is damaged.
    """
    if zarr_files.is_zarr(path):
        with _foreign_errors(path, "as OME-Zarr"):
            opened = zarr_files.open_zarr(path)
        levels = [_GuardedArray(path, level, "as OME-Zarr") for level in opened.levels]
        data = levels if len(levels) > 1 else levels[0]
        yield ImageFile(path, data, opened.axes, pixel_size=opened.pixel_size)
    elif is_tiff(path):
        with open_tiff(path, position) as (data, axes, page):
            yield replace(_tiff_picture(path, data, axes, page), pixel_size=pixel_size_of(page))
    else:
        with open_picture(path) as picture:
            pixels = _picture_pixels(picture)
        samples = pixels.shape[2] if pixels.ndim == 3 else 1
        axes = "YXS" if pixels.ndim == 3 else "YX"
        yield ImageFile(path, pixels, axes, samples, is_rgb=samples > 1)


@contextlib.contextmanager
def open_plane(path: Path) -> Iterator[ImageSource]:
    """Open a file that holds one plane, with all its channels.

    Raises
    ------
    ImageFileError
        As `open_image`, and if it holds a stack.
    """
    with open_image(path) as opened:
        axis, shape = opened.channel_axis(), opened.shape
        long = [n for place, n in enumerate(shape) if n > 1 and place != axis]
        if axis is None and "Q" in opened.axes and shape[-1] in (3, 4):
            long = long[:-1]
        if len(long) > 2:
            raise ImageFileError(
                f"{path} is a stack of shape {shape}, expected one plane. Save its planes as "
                "images."
            )
        try:
            source = opened.view()
        except ValueError as error:
            raise ImageFileError(f"{path}: {error}") from error
        yield source


def positions_in(path: Path) -> int:
    """Count the images of a file: the positions of a TIFF that holds several, else one.

    Those of other axes or another type than the first, and the labels, overviews and thumbnails
    of slide scanners, are not counted, nor is what comes after one of them.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    if not is_tiff(path):
        return 1
    import tifffile

    with _foreign_errors(path, "as TIFF"), tifffile.TiffFile(path) as file:
        _check_pages_end(path, file)
        first, count = file.series[0], 0
        for series in file.series:
            is_alike = (series.axes, series.dtype) == (first.axes, first.dtype)
            words = str(series.name).lower().removesuffix(" image")
            if not is_alike or series.kind not in _POSITIONED or words in _NO_POSITIONS:
                break
            count += 1
    return max(count, 1)


# -- TIFF -------------------------------------------------------------------------------------


def is_tiff(path: Path) -> bool:
    """Whether a file is TIFF by its first bytes, whatever it is called.

    Raises
    ------
    ImageFileError
        If there is no such file.
    """
    if not path.is_file():
        raise ImageFileError(f"There is no image file {path}. Check the path.")
    with path.open("rb") as file:
        return file.read(4) in _TIFF_STARTS


@contextlib.contextmanager
def open_tiff(path: Path, position: int = 0) -> Iterator[tuple[Any, str, tifffile.TiffPage]]:
    """Open a TIFF: its numbers as stored, their axes, and the first page's tags.

    Parameters
    ----------
    path : Path
    position : int
        Which of its images, see `positions_in`.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    import tifffile

    with contextlib.ExitStack() as stack:
        with _foreign_errors(path, "as TIFF"):
            file = stack.enter_context(tifffile.TiffFile(path))
            _check_pages_end(path, file)
            _check_files_named(path, file)
            if not 0 <= position < len(file.series):
                raise ImageFileError(
                    f"{path} holds {len(file.series)} image(s), and position {position} is asked "
                    "for, counted from 0."
                )
            series = file.series[position]
            page: Any = series.keyframe
            _check_sizes(path, series, page)
            data = _tiff_data(path, series, stack, position)
        yield data, series.axes, page


def _check_pages_end(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a chain of pages that leads back to one of them: it would be followed for hours."""
    tiff, handle = file.tiff, file.filehandle
    seen: set[int] = set()
    offset = int(file.pages.first.offset)
    while 0 < offset < handle.size:
        if offset in seen:
            raise ImageFileError(
                f"{path} is damaged: its list of pages goes back to an earlier one after page "
                f"{len(seen)}. Check that it is whole, or save it anew."
            )
        seen.add(offset)
        handle.seek(offset)
        (count,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
        handle.seek(offset + tiff.tagnosize + count * tiff.tagsize)
        following = handle.read(tiff.offsetsize)
        if len(following) < tiff.offsetsize:
            return
        (offset,) = struct.unpack(tiff.offsetformat, following)


def _check_files_named(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse OME metadata by which a file from elsewhere would be read as part of this one."""
    text = file.ome_metadata if file.is_ome else None
    if not text:
        return
    for element in ElementTree.fromstring(text).iter():
        name = element.attrib.get("FileName")
        inside = name is None or not (
            "/" in name or "\\" in name or ":" in name or name in ("", ".", "..")
        )
        if not inside or (name is not None and (path.parent / name).is_symlink()):
            raise ImageFileError(
                f"{path} says that a part of it is in {name!r}; expected files in its own folder. "
                "Save it anew as one file."
            )


def _check_sizes(path: Path, series: tifffile.TiffPageSeries, page: Any) -> None:
    itemsize = np.dtype(series.dtype).itemsize
    if math.prod(page.chunked) > len(page.dataoffsets):
        raise ImageFileError(
            f"{path} says that it has {math.prod(page.chunked)} tiles or strips a page, and where "
            f"{len(page.dataoffsets)} of them are. Check that it is whole, or save it anew."
        )
    if math.prod(page.chunks) * itemsize > _LARGEST_TILE:
        is_one_piece = series.dataoffset is not None
        if not is_one_piece or math.prod(series.shape) * itemsize > path.stat().st_size:
            raise ImageFileError(
                f"{path} says that one tile or strip of it has {page.chunks} px, expected at most "
                f"{_LARGEST_TILE >> 30} GiB. Check that it is whole, or save it anew in tiles."
            )


def _tiff_data(
    path: Path, series: tifffile.TiffPageSeries, stack: contextlib.ExitStack, position: int
) -> Any:
    size = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    if size <= _SMALL:
        return series.asarray()
    if importlib.util.find_spec("zarr") is not None:
        import zarr

        levels: list[Any] = []
        for number, level in enumerate(series.levels):
            # A pyramid's level may have dropped axes of length 1.
            if level.ndim == series.ndim:
                store = stack.enter_context(contextlib.closing(series.aszarr(level=number)))
                array = zarr.open_array(store, mode="r")
                levels.append(_GuardedArray(path, array, "as TIFF"))
        return levels
    import tifffile

    if series.dataoffset is not None:  # uncompressed, in one piece
        return tifffile.memmap(path, series=position, mode="r")
    if size > _LARGEST:
        raise ImageFileError(
            f"{path} has {size / 2**30:.0f} GiB of pixels, expected at most {_LARGEST >> 30} GiB "
            "without zarr. Run: pip install zarr"
        )
    return series.asarray()


class _GuardedArray:
    """An array in a file, whose reader's own errors become sentences."""

    def __init__(self, path: Path, array: Any, how: str) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.size = math.prod(array.shape)
        self._path, self._array, self._how = path, array, how

    def __getitem__(self, key: Any) -> Any:
        with _foreign_errors(self._path, self._how):
            return self._array[key]


def _tiff_picture(path: Path, data: Any, axes: str, page: tifffile.TiffPage) -> ImageFile:
    name = getattr(page.photometric, "name", page.photometric)
    photometric, extra = int(page.photometric), tuple(int(e) for e in page.extrasamples)
    known = (*_GREY, _RGB, _PALETTE, _HOLES, _INK, _YCBCR, _RAW)
    is_decoded = photometric != _YCBCR or int(page.compression) in JPEG_COMPRESSIONS
    if photometric not in known or not is_decoded:
        raise ImageFileError(
            f"{path} has the colour space {name}, expected grey, RGB or CMYK. Save it as RGB."
        )
    if "S" not in axes:
        return ImageFile(path, data, axes)
    base = data[0] if isinstance(data, list) else data
    axis = axes.index("S")
    samples = int(base.shape[axis])
    if photometric == _INK:
        if samples - len(extra) != _INKS or isinstance(data, list):
            raise ImageFileError(
                f"{path} has {samples} ink channels, expected CMYK (four) of at most "
                f"{_SMALL >> 20} MiB. Save it as RGB."
            )
        light = ink_to_light(np.moveaxis(np.asarray(data), axis, -1)[..., :_INKS])
        return ImageFile(path, light, axes.replace("S", "") + "S", 3, is_rgb=True)
    while extra and extra[-1] in _ALPHA and samples > 1:
        samples, extra = samples - 1, extra[:-1]
    # Three or four samples are shown as colours by napari, whatever the tags say.
    is_rgb = samples in (3, 4) or (photometric in (_RGB, _YCBCR) and samples > 4)
    return ImageFile(path, data, axes, 3 if is_rgb else samples, is_rgb=is_rgb)


def ink_to_light(ink: NDArray[Any]) -> NDArray[Any]:
    """Turn CMYK into RGB, as screens show it: (..., 4) unsigned integers to (..., 3)."""
    full = np.float64(np.iinfo(ink.dtype).max)
    paper = full - ink.astype(np.float64)
    return np.asarray(np.rint(paper[..., :3] * paper[..., 3:] / full).astype(ink.dtype))


# -- PNG, JPEG and others ---------------------------------------------------------------------


@contextlib.contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a PNG, JPEG, WebP, BMP or GIF with one frame; what is done in the block is guarded.

    Raises
    ------
    ImageFileError
        If it cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    with _foreign_errors(path, ""):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path, formats=PICTURE_FORMATS) as picture:
                    frames = getattr(picture, "n_frames", 1)
                    if frames > 1 and picture.format != "MPO":
                        raise ImageFileError(
                            f"{path} has {frames} frames, expected one picture. Save "
                            "the frames as a TIFF."
                        )
                    yield picture
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageFileError(
                f"{path} says that it has more pixels than a PNG or JPEG is read with ({error}). "
                "Save it as a tiled TIFF, which is read window by window."
            ) from error
        except UnidentifiedImageError as error:
            raise ImageFileError(
                f"{path} is not an image; expected TIFF, OME-TIFF, PNG or JPEG."
            ) from error


_AS_STORED = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def _picture_pixels(picture: Image.Image) -> NDArray[Any]:
    if picture.mode in _AS_STORED:
        return np.asarray(picture)
    if picture.mode in ("LA", "La"):
        return np.asarray(picture.getchannel("L"))
    return np.asarray(picture.convert("RGB"))


@contextlib.contextmanager
def _foreign_errors(path: Path, how: str) -> Iterator[None]:
    """Turn whatever a parser of foreign files raises into one sentence about the file."""
    try:
        yield
    except ImageFileError:
        raise
    except Exception as error:
        what = str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            what = "it asks for more memory than there is"
        raise ImageFileError(
            f"{path} cannot be read{' ' if how else ''}{how} ({what}). Check that it is whole, or "
            "save it anew."
        ) from error
