"""A lazy 2D view of an image: one plane, its channels, a level of a pyramid, and windows of it.

Works on anything with ``shape``, ``dtype`` and ``__getitem__`` (numpy, dask, zarr, h5py), or on
a list of such arrays, the largest first. Only the windows that are asked for are ever read.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Limits: TypeAlias = NDArray[np.float64]
"""(C, 2) float: for every channel the values that become black and white."""

_SAMPLE_BLOCK = 256
_SAMPLE_BLOCKS = 16
# Values that are converted to float at a time.
_BLOCK_VALUES = 1 << 20
_SAMPLE_PIXELS = _SAMPLE_BLOCKS * _SAMPLE_BLOCK**2


class LazyArray(Protocol):
    """The part of an array that is needed to read windows of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""

    @property
    def dtype(self) -> Any:
        """The type of the values."""

    def __getitem__(self, key: Any) -> Any:
        """Read a part: integers and slices only."""


def _is_array(value: object) -> bool:
    return all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__"))


def _as_levels(image: Any) -> list[LazyArray]:
    # napari's own multiscale wrapper is a Sequence that also has a shape and a dtype.
    if isinstance(image, Sequence) and len(image) > 0 and all(_is_array(item) for item in image):
        return list(image)
    if _is_array(image):
        return [image]
    if isinstance(image, Sequence) and not isinstance(image, (str, bytes)):
        try:
            return [np.asarray(image)]
        except ValueError:
            pass
    raise ValueError(
        f"The image is a {type(image).__name__}, expected an array (shape, dtype, indexing) or a "
        "list of arrays, the largest first. Pass layer.data, or np.asarray(image)."
    )


class ImageSource:
    """A lazy 2D view (plane, channels, level, window) of an image.

    Parameters
    ----------
    image : array-like or list of array-likes
        ``(..., H, W)``, ``(..., H, W, 3 or 4)`` or any order with `channel_axis`; a list is a
        pyramid, level 0 the largest. Bool, integer or float values of any size.
    plane : int or sequence of int, optional
        The index along each leading axis that is neither row, column nor channel. May be left out
        where these axes have length 1.
    channel_axis : int, optional
        The axis of the channels. By default the last axis of 3 or 4 (RGB, RGBA) where the two
        axes before it are larger and `plane` does not say otherwise; else there are no channels.
    channels : sequence of int, optional
        One to three channels to use, for red, green and blue. By default the first three.
    rgb : bool, optional
        True: the last axis is RGB(A). False: there are no channels.
    contrast_limits : (2,) or (C, 2) float, optional
        The values that become black and white. See `contrast_limits` for the default.

    Raises
    ------
    ValueError
        If the image has no pixels, fewer than two dimensions or unsupported values, or if an
        argument does not fit it.
    """

    def __init__(
        self,
        image: Any,
        *,
        plane: int | Sequence[int] | None = None,
        channel_axis: int | None = None,
        channels: Sequence[int] | None = None,
        rgb: bool | None = None,
        contrast_limits: ArrayLike | None = None,
    ) -> None:
        self._levels = _as_levels(image)
        base = self._levels[0]
        self._full_shape = tuple(int(n) for n in base.shape)
        ndim = len(self._full_shape)
        if ndim < 2 or 0 in self._full_shape:
            raise ValueError(
                f"The image has shape {self._full_shape}, expected at least two axes (rows, cols) "
                "and no empty one."
            )
        self._dtype = self._checked_dtype(base)
        plane = (plane,) if isinstance(plane, (int, np.integer)) else plane
        self._channel_axis, self._is_rgb = self._find_channels(
            channel_axis, rgb, None if plane is None else len(plane)
        )
        spatial = [axis for axis in range(ndim) if axis != self._channel_axis]
        self._plane_axes, self._row_axis, self._col_axis = spatial[:-2], spatial[-2], spatial[-1]
        self._plane = self._checked_plane(plane)
        self._channels = self._checked_channels(channels)
        self._check_levels()
        self._limits: Limits | None = None
        if contrast_limits is not None:
            self._limits = self._checked_limits(contrast_limits)

    @classmethod
    def of(cls, image: Any) -> ImageSource:
        """Return an image that is a source already, or make a source of one plane."""
        return image if isinstance(image, ImageSource) else cls(image)

    def at(self, plane: Sequence[int]) -> ImageSource:
        """Look at another plane of the same image, with contrast limits of its own if none are set.

        Raises
        ------
        ValueError
            If there is no such plane.
        """
        other = copy.copy(self)
        other._plane = self._checked_plane(plane)
        return other

    # -- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0, px."""
        return self.levels[0]

    @property
    def levels(self) -> list[tuple[int, int]]:
        """(H, W) of every level, px, the largest first."""
        return [(int(a.shape[self._row_axis]), int(a.shape[self._col_axis])) for a in self._levels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self._dtype

    @property
    def n_channels(self) -> int:
        """How many channels `read` gives: 1 to 3."""
        return len(self._channels)

    @property
    def is_in_memory(self) -> bool:
        """Whether a window costs nothing but its pixels; other arrays may compute whole chunks."""
        return all(isinstance(level, np.ndarray) for level in self._levels)

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are red, green and blue of one picture."""
        return self._is_rgb

    # -- pixels -------------------------------------------------------------------------------

    def read(self, window: tuple[slice, slice], level: int = 0) -> NDArray[Any]:
        """Read a window of one level.

        Parameters
        ----------
        window : (slice, slice)
            Rows and columns, px of that level, half open, inside it; a step above 1 skips px.
        level : int
            0 is the largest.

        Returns
        -------
        (h, w, C) array
            The image's own dtype; alpha dropped.

        Raises
        ------
        ValueError
            If the window is empty or reaches outside the level.
        """
        array = self._levels[level]
        index: list[Any] = [slice(None)] * len(self._full_shape)
        for axis, position in zip(self._plane_axes, self._plane, strict=True):
            # Some pyramids shrink the leading axes too.
            full, here = self._full_shape[axis], int(array.shape[axis])
            index[axis] = min(position * here // full, here - 1)
        sizes = self.levels[level]
        for axis, part, size in zip((self._row_axis, self._col_axis), window, sizes, strict=True):
            start, stop, step = part.indices(size)
            if (part.start, part.stop) != (start, stop) or stop <= start or step < 1:
                raise ValueError(
                    f"The window is {window}, expected slices with a start and a stop inside "
                    f"level {level} of {sizes[0]} rows x {sizes[1]} cols."
                )
            index[axis] = part
        if self._channel_axis is None:
            return np.asarray(array[tuple(index)])[..., np.newaxis]
        first, last = min(self._channels), max(self._channels)
        if last - first < 3:
            index[self._channel_axis] = slice(first, last + 1)
            block = np.asarray(array[tuple(index)])
            # The planes' axes are gone: the channel axis moves up by those before it.
            axis = self._channel_axis - sum(a < self._channel_axis for a in self._plane_axes)
            return np.moveaxis(block, axis, -1)[..., [c - first for c in self._channels]]
        planes = []
        for channel in self._channels:
            index[self._channel_axis] = channel
            planes.append(np.asarray(array[tuple(index)]))
        return np.stack(planes, axis=-1)

    def read_rgb(self, window: tuple[slice, slice], level: int = 0) -> NDArray[np.float32]:
        """Read a window of one level as it is shown, by the contrast limits; see `read`.

        Returns
        -------
        (h, w, 3) float32 array
            From 0 to 255. Grey has three equal channels; a missing third channel is black. NaN is
            black, infinity is clipped.
        """
        pixels, limits = self.read(window, level), self.contrast_limits
        height, width, channels = pixels.shape
        exact = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
        low: NDArray[np.floating[Any]] = limits[:, 0].astype(exact)
        gain: NDArray[np.floating[Any]] = (255.0 / (limits[:, 1] - limits[:, 0])).astype(exact)
        rgb = np.zeros((height, width, 3), dtype=np.float32)
        rows = max(1, _BLOCK_VALUES // (width * channels))
        for start in range(0, height, rows):
            part: NDArray[np.floating[Any]] = pixels[start : start + rows].astype(exact)
            with np.errstate(over="ignore", invalid="ignore"):
                part = np.nan_to_num((part - low) * gain, nan=0.0, posinf=255.0, neginf=0.0)
            rgb[start : start + rows, :, :channels] = np.clip(part, 0.0, 255.0)
        if channels == 1:
            rgb[..., 1:] = rgb[..., :1]
        return rgb

    @property
    def contrast_limits(self) -> Limits:
        """(C, 2) float: the values that become black and white, the same for every window.

        Those given, or else: (0, 255) for 8-bit RGB; (0, 1) for RGB of floats within it and for
        bool; otherwise the 0.5 and 99.5 percentiles of the finite values of a sample, together
        for RGB and one by one for other channels. The sample is the coarsest level, or, where that
        has more than about a million pixels, a grid of at most 16 blocks of 256 x 256 pixels of
        it: the same cost for an image of any size.
        """
        if self._limits is None:
            self._limits = self._estimate_limits()
        return self._limits

    def _estimate_limits(self) -> Limits:
        fixed = (0.0, 255.0) if self._is_rgb and self._dtype == np.uint8 else None
        fixed = (0.0, 1.0) if self._dtype == np.bool_ else fixed
        if fixed is not None:
            return np.tile(np.array(fixed), (self.n_channels, 1))
        sample = self._sample()
        if not self._is_rgb:
            return np.stack([_percentiles(channel) for channel in sample.T])
        finite = sample[np.isfinite(sample)]
        if self._dtype.kind == "f" and finite.size and finite.min() >= 0 and finite.max() <= 1:
            return np.tile(np.array([0.0, 1.0]), (self.n_channels, 1))
        return np.tile(_percentiles(finite), (self.n_channels, 1))

    def _sample(self) -> NDArray[np.float64]:
        level = len(self._levels) - 1
        height, width = self.levels[level]
        if height * width <= _SAMPLE_PIXELS:
            pixels = self.read((slice(0, height), slice(0, width)), level)
            return pixels.reshape(-1, self.n_channels).astype(np.float64)
        # A long, thin image gets its blocks along its length.
        size_r, size_c = min(height, _SAMPLE_BLOCK), min(width, _SAMPLE_BLOCK)
        count_r, count_c = min(4, -(-height // size_r)), min(4, -(-width // size_c))
        if height < width:
            count_c = min(_SAMPLE_BLOCKS // count_r, -(-width // size_c))
        else:
            count_r = min(_SAMPLE_BLOCKS // count_c, -(-height // size_r))
        blocks = [
            self.read((slice(r, r + size_r), slice(c, c + size_c)), level)
            for r in np.linspace(0, height - size_r, count_r).astype(int).tolist()
            for c in np.linspace(0, width - size_c, count_c).astype(int).tolist()
        ]
        return np.concatenate([b.reshape(-1, self.n_channels) for b in blocks]).astype(np.float64)

    # -- checks of the arguments --------------------------------------------------------------

    @staticmethod
    def _checked_dtype(array: LazyArray) -> np.dtype[Any]:
        try:
            dtype: np.dtype[Any] = np.dtype(array.dtype)
        except TypeError:
            dtype = np.dtype(object)
        if dtype.kind not in "biuf":
            raise ValueError(
                f"The image has dtype {array.dtype}, expected bool, integers or floats. "
                "Convert it first, for example with np.abs(image) for complex values."
            )
        return dtype

    def _find_channels(
        self, channel_axis: int | None, rgb: bool | None, n_plane: int | None
    ) -> tuple[int | None, bool]:
        shape, ndim = self._full_shape, len(self._full_shape)
        if channel_axis is not None:
            if not -ndim <= channel_axis < ndim or ndim < 3:
                raise ValueError(
                    f"channel_axis is {channel_axis}, expected one of the axes of an image with at "
                    f"least three; this one has shape {shape}. Leave channel_axis out for grey."
                )
            axis = channel_axis % ndim
            # A C-first colour picture is the same picture as a C-last one.
            return axis, shape[axis] in (3, 4) if rgb is None else rgb
        if rgb:
            if ndim < 3 or shape[-1] not in (3, 4):
                raise ValueError(
                    f"rgb=True and the image has shape {shape}, expected a last axis of 3 or 4. "
                    "Pass channel_axis=... if the channels are elsewhere."
                )
            return ndim - 1, True
        looks_rgb = ndim >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shape[-1]
        if rgb is None and looks_rgb and n_plane in (None, ndim - 3):
            return ndim - 1, True
        return None, False

    def _checked_plane(self, plane: Sequence[int] | None) -> tuple[int, ...]:
        sizes = [self._full_shape[axis] for axis in self._plane_axes]
        if plane is None and all(size == 1 for size in sizes):
            return (0,) * len(sizes)
        if plane is None or len(plane) != len(sizes):
            raise ValueError(
                f"plane is {plane}, expected {len(sizes)} indices into the leading axes of sizes "
                f"{sizes} of the image of shape {self._full_shape}. Pass plane=(...), or "
                "channel_axis=... if one of these axes holds the channels."
            )
        if not all(0 <= index < size for index, size in zip(plane, sizes, strict=True)):
            raise ValueError(
                f"plane is {tuple(plane)}, expected indices within the leading axes of {sizes}."
            )
        return tuple(int(index) for index in plane)

    def _checked_channels(self, channels: Sequence[int] | None) -> tuple[int, ...]:
        available = 1 if self._channel_axis is None else self._full_shape[self._channel_axis]
        if channels is None:
            return tuple(range(min(available, 3)))
        if not 1 <= len(channels) <= 3 or not all(0 <= c < available for c in channels):
            raise ValueError(
                f"channels is {list(channels)}, expected one to three of the image's {available} "
                "channels, counted from 0."
            )
        self._is_rgb = self._is_rgb and tuple(channels) == (0, 1, 2)
        return tuple(int(c) for c in channels)

    def _check_levels(self) -> None:
        for number, (above, here) in enumerate(zip(self._levels, self._levels[1:], strict=False)):
            same_axes = len(here.shape) == len(self._full_shape) and 0 not in here.shape
            if not same_axes or any(b > a for a, b in zip(above.shape, here.shape, strict=True)):
                raise ValueError(
                    f"Level {number + 1} has shape {tuple(here.shape)} after "
                    f"{tuple(above.shape)}, expected a pyramid: the same axes, each level no "
                    "larger than the one before. Pass a single array or a list, largest first."
                )

    def _checked_limits(self, limits: ArrayLike) -> Limits:
        values = np.asarray(limits, dtype=np.float64)
        if values.shape == (2,):
            values = np.tile(values, (self.n_channels, 1))
        good = values.shape == (self.n_channels, 2) and np.isfinite(values).all()
        if not good or not (values[:, 1] > values[:, 0]).all():
            raise ValueError(
                f"contrast_limits is {np.asarray(limits).tolist()}, expected (black, white) with "
                f"white > black, once or for each of the {self.n_channels} channels."
            )
        return values


def _percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return robust (low, high) with high > low of any values, NaN and infinity left out."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.array([0.0, 1.0])
    low, high = np.percentile(finite, (0.5, 99.5))
    if high <= low:
        # Sparse images: nearly all pixels have the same value, the rest is what matters.
        low, high = finite.min(), finite.max()
    if high <= low:
        high = low + max(1.0, abs(low) * 1e-6)
    return cast("NDArray[np.float64]", np.array([low, high], dtype=np.float64))
