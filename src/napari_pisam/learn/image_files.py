"""Image files as 2D views that are read by window."""

from __future__ import annotations

import importlib.util
import math
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.image_source import ImageSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TIFF = frozenset({".tif", ".tiff"})
# Below this, reading all at once is faster than asking for windows, bytes.
_SMALL = 256 << 20


@dataclass(frozen=True)
class LazyFile:
    """An open image file.

    Attributes
    ----------
    path : Path
    source : ImageSource
        Its one plane.
    """

    path: Path
    source: ImageSource


@contextmanager
def open_plane(path: Path) -> Iterator[LazyFile]:
    """Open a file that holds one plane; large TIFFs are read by window while the block runs.

    Raises
    ------
    ValueError
        If it cannot be read, or holds a stack.
    """
    with ExitStack() as stack:
        if path.suffix.lower() in _TIFF:
            data, axes = _open_tiff(path, stack)
        else:
            data, axes = _read_picture(path)
        yield LazyFile(path, _view(path, data, axes))


def _view(path: Path, data: Any, axes: str) -> ImageSource:
    colours = [i for i, (axis, n) in enumerate(zip(axes, data.shape, strict=True)) if axis in "SC"]
    long = [n for i, n in enumerate(data.shape) if n > 1 and i not in colours]
    spatial = [i for i, axis in enumerate(axes) if axis in "YX"]
    if len(spatial) != 2 or len(colours) > 1 or len(long) > 2:
        raise ValueError(
            f"it has the shape {tuple(data.shape)} (axes {axes}), expected one plane; save the "
            "planes of a stack as images"
        )
    channel = colours[0] if colours and data.shape[colours[0]] > 1 else None
    if channel is None:
        if not colours:
            return ImageSource(data, rgb=False)
        return ImageSource(data, channel_axis=colours[0])
    rgb = axes[channel] == "S" and channel == len(axes) - 1 and data.shape[channel] in (3, 4)
    return ImageSource(data, rgb=True) if rgb else ImageSource(data, channel_axis=channel)


def _open_tiff(path: Path, stack: ExitStack) -> tuple[Any, str]:
    import tifffile

    file = stack.enter_context(tifffile.TiffFile(path))
    series = file.series[0]
    size = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    if size > _SMALL and importlib.util.find_spec("zarr") is not None:
        import zarr

        store = stack.enter_context(closing(series.aszarr(level=0)))
        return zarr.open_array(store, mode="r"), series.axes
    if size > _SMALL and series.dataoffset is not None:  # uncompressed, in one piece
        return tifffile.memmap(path, mode="r"), series.axes
    return series.asarray(), series.axes


def _read_picture(path: Path) -> tuple[Any, str]:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode in {"P", "1", "L", "F"} or picture.mode.startswith("I"):
            # The numbers of a palette are what a mask means; as a picture its colours are.
            return np.asarray(picture), "YX"
        if picture.mode in {"LA", "La"}:
            return np.asarray(picture.getchannel("L")), "YX"
        return np.asarray(picture.convert("RGB")), "YXS"
