"""From layers, and from what was committed in a session, to images that a model learns from.

Layers are looked at on the main thread, at once: what comes out holds arrays and no layer, so that
a worker may read it, and a layer that is deleted or renamed meanwhile changes nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.crops import shared_slices
from napari_pisam.layers.geometry import as_plane, is_rgb
from napari_pisam.layers.images import Reordered, contrast_of
from napari_pisam.layers.labels import missing_axes
from napari_pisam.learn.finetune.sources import SourceImage, UserClicks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.predict.mask import Mask
    from napari_pisam.session.records import SessionObject
    from napari_pisam.session.session import Session

# Labels that are painted while they are read would be half old, half new. Larger ones are not
# copied: that would be felt.
_COPIED_PIXELS = 1 << 24


class ArrayPlane:
    """One plane of an array, read by windows; nothing is read before it is indexed.

    Parameters
    ----------
    array : array-like
        numpy, dask, zarr or anything with shape, dtype and slicing.
    axes : (int, int)
        The axes that are rows and columns.
    index : tuple of (int or None)
        The index along every other axis, None for rows and columns.
    rgb : bool
        Whether the array has one more axis, of colours, at its end.
    """

    def __init__(
        self, array: Any, axes: tuple[int, int], index: tuple[int | None, ...], rgb: bool = False
    ) -> None:
        leading = [axis for axis in range(len(index)) if axis not in axes]
        colours = (len(index),) if rgb else ()
        self._array = Reordered(array, (*leading, *axes, *colours))
        self._place = tuple(index[axis] or 0 for axis in leading)
        self.shape = self._array.shape[len(leading) :]
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a window: slices of rows and columns, and of colours where there are some."""
        parts = key if isinstance(key, tuple) else (key,)
        rest = (slice(None),) * (self.ndim - len(parts))
        return np.asarray(self._array[(*self._place, *parts, *rest)])


class MaskLabels:
    """Committed masks as labels, without an array of the image's size.

    Parameters
    ----------
    shape : (int, int)
        (H, W) of the image, px.
    masks : mapping of int to Mask
        By label.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], masks: Mapping[int, Mask]) -> None:
        self.shape, self._masks = shape, dict(masks)
        self.dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint32]:
        """Read a window: two slices without a step."""
        (row0, row1, _), (col0, col1, _) = (
            part.indices(size) for part, size in zip(window, self.shape, strict=True)
        )
        block = np.zeros((max(row1 - row0, 0), max(col1 - col0, 0)), np.uint32)
        for number, mask in self._masks.items():
            here, there = shared_slices((row0, col0, row1, col1), mask.bbox)
            block[here][mask.crop[there]] = number
        return block


@dataclass(frozen=True)
class LayerPair:
    """What an image layer and a Labels layer held when they were looked at.

    Attributes
    ----------
    name : str
        The image layer's.
    image : array-like
        Level 0.
    labels : array-like
        (H, W), of the displayed plane; with `all_slices` of the whole image.
    axes : (int, int)
        The axes that are rows and columns.
    index : tuple of (int or None)
        The displayed index along the image's other axes.
    rgb : bool
        Whether the image has colours.
    limits : (float, float) or None
        The layer's contrast limits.
    all_slices : bool
        Take every slice that has labels, or the displayed one.
    clicks, only
        See `SourceImage`.
    """

    name: str
    image: Any
    labels: Any
    axes: tuple[int, int]
    index: tuple[int | None, ...]
    rgb: bool
    limits: tuple[float, float] | None
    all_slices: bool = False
    clicks: Mapping[int, UserClicks] = field(default_factory=dict)
    only: frozenset[int] | None = None

    def sources(self, cancel: Callable[[], bool] | None = None) -> list[SourceImage]:
        """Return the planes to learn from; with `all_slices` for a worker, because all are read.

        Raises
        ------
        ValueError
            If no slice has a label.
        """
        if not self.all_slices:
            return [self._source(self.index, self.labels)]
        free = [axis for axis, part in enumerate(self.index) if part is not None]
        found = []
        for place in itertools.product(*(range(int(self.image.shape[axis])) for axis in free)):
            if cancel is not None and cancel():
                break
            index = list(self.index)
            for axis, value in zip(free, place, strict=True):
                index[axis] = value
            labels = ArrayPlane(self.labels, self.axes, tuple(index))
            if np.any(labels[:, :]):
                found.append(self._source(tuple(index), labels))
        if not found:
            raise ValueError(
                f"No slice of the labels for {self.name!r} has an object. Paint or commit some "
                "first, or choose another Labels layer."
            )
        return found

    def _source(self, index: tuple[int | None, ...], labels: Any) -> SourceImage:
        own = [str(part) for part in index if part is not None]
        return SourceImage(
            name=f"{self.name} [{', '.join(own)}]" if own else self.name,
            image=ArrayPlane(self.image, self.axes, index, self.rgb),
            labels=labels,
            clicks=dict(self.clicks),
            origin="layers" if self.only is None else "session",
            contrast_limits=None if self.limits is None else np.array(self.limits),
            only=self.only,
        )


def take_pair(image: Any, labels: Any, dims: Any = None, *, all_slices: bool = False) -> LayerPair:
    """Take what an image layer and a Labels layer hold; main thread only.

    Parameters
    ----------
    image : napari Image layer
        Any number of axes, RGB, multiscale. Its pixels are not copied.
    labels : napari Labels layer
        Of the same size and at the same place. Up to 16 million px are copied.
    dims : napari.components.Dims or ImagePlane, optional
        ``viewer.dims``: which plane is displayed.
    all_slices : bool
        Take every slice that has labels instead of the displayed one.

    Raises
    ------
    ValueError
        If the labels are of another size or lie elsewhere, or no plane is displayed.
    """
    plane = as_plane(image, dims)
    data = _level0(labels)
    advice = "Choose the labels that belong to this image."
    extra = missing_axes(labels, plane, image, 0 if all_slices else len(plane.shape), advice)
    if all_slices:
        is_small = isinstance(data, np.ndarray) and data.size <= _COPIED_PIXELS
        taken: Any = data.copy() if is_small else data
    else:
        axes = plane.axes[0] - extra, plane.axes[1] - extra
        taken = ArrayPlane(data, axes, plane.index[extra:])
        if isinstance(data, np.ndarray) and plane.size[0] * plane.size[1] <= _COPIED_PIXELS:
            taken = taken[:, :].copy()
    return _pair(image, plane, taken, all_slices=all_slices)


def take_session(image: Any, plane: ImagePlane, session: Session) -> SourceImage | None:
    """Take what was committed in a session, with its clicks; main thread only.

    The labels are those of the session's Labels layer as they are now, so that what was painted
    by hand since counts; without one, the committed masks.

    Parameters
    ----------
    image : napari Image layer
    plane : ImagePlane
        The session's.
    session : Session

    Returns
    -------
    SourceImage or None
        None where nothing is committed.

    Raises
    ------
    ValueError
        If the labels do not lie where the image lies.
    """
    masks = {one.id: one.mask for one in session.objects if one.committed and one.mask is not None}
    if not masks:
        return None
    clicks = {
        one.id: found
        for one in session.objects
        if one.id in masks and (found := _clicks(one)) is not None
    }
    layer = getattr(session.labels, "layer", None)
    labels = MaskLabels(plane.size, masks)
    if layer is not None:
        labels = take_pair(image, layer, plane).labels
    pair = _pair(image, plane, labels)
    return replace(pair, clicks=clicks, only=frozenset(masks)).sources()[0]


def _pair(image: Any, plane: ImagePlane, labels: Any, *, all_slices: bool = False) -> LayerPair:
    return LayerPair(
        str(image.name),
        _level0(image),
        labels,
        plane.axes,
        plane.index,
        is_rgb(image),
        None if is_rgb(image) else contrast_of(image),
        all_slices,
    )


def _clicks(one: SessionObject) -> UserClicks | None:
    prompts = one.prompts
    if prompts is None or not len(prompts.points):
        return None
    # A scribble is one click, in its middle.
    middles = [(places[len(places) // 2], flag) for places, flag in prompts.strokes]
    points, labels = zip(*middles, strict=True)
    return UserClicks(np.array(points), np.array(labels))


def _level0(layer: Any) -> Any:
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data
