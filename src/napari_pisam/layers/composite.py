"""Several channels as one picture, in the colours in which they are seen; read by windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.image_source import ImageSource
from napari_pisam.layers.geometry import is_rgb, spatial_shape
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.transforms import lie_alike

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.layers.geometry import ImagePlane

CHANNEL_COLORS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "grey": (1.0, 1.0, 1.0),
}
"""What a channel of a file can be seen in."""

# As napari colours channels.
_TWO = ("magenta", "green")
_MORE = ("cyan", "yellow", "magenta", "red", "green", "blue")
_SHADES = 256
_ADDED = ("additive", "minimum")


@dataclass(frozen=True)
class Channel:
    """A picture that is part of another one, and how it is drawn; taken at one moment.

    Attributes
    ----------
    source : ImageSource
        Its values; with contrast limits, given or estimated when it is first read.
    shades : (256, 3) float array, or None
        RGB from black to white, from 0 to 1; None where it is RGB itself.
    gamma, opacity : float
    blending : str
        napari's.
    look : tuple
        What tells this way of drawing from another; values apart.
    given_limits : (float, float), optional
        Its contrast, where somebody chose it.
    """

    source: ImageSource
    shades: NDArray[np.float32] | None
    gamma: float = 1.0
    opacity: float = 1.0
    blending: str = "additive"
    look: tuple[Any, ...] = field(default=(), compare=False)
    given_limits: tuple[float, float] | None = None

    def draw(self, below: NDArray[np.float32], window: tuple[slice, slice], level: int) -> Any:
        """Draw a window onto what is below it, (h, w, 3)."""
        values = self.source.read(window, level).astype(np.float32)
        limits = np.asarray(self.source.contrast_limits, np.float32)
        part = np.clip((values - limits[:, 0]) / (limits[:, 1] - limits[:, 0]), 0, 1)
        part = np.nan_to_num(part)
        if self.shades is None:
            color = part
        else:
            grey = part[..., 0] if self.gamma == 1 else part[..., 0] ** self.gamma
            color = self.shades[np.rint(grey * (_SHADES - 1)).astype(np.intp)]
        if self.blending == "additive":
            return below + color * self.opacity
        if self.blending == "minimum":
            return np.minimum(below, color)
        if self.blending == "multiplicative":
            return below * color
        opacity = 1.0 if self.blending == "opaque" else self.opacity
        return color * opacity + below * (1 - opacity)


class _Level:
    """A level of a composite, (H, W, 3) uint8; computed where it is indexed."""

    dtype, ndim = np.dtype(np.uint8), 3

    def __init__(self, channels: Sequence[Channel], level: int) -> None:
        self._channels, self._level = channels, level
        self.shape = (*channels[0].source.levels[level], 3)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        """Read a window: slices of rows, columns and colours."""
        rows, cols, colors = key
        sizes = [len(range(*part.indices(n))) for part, n in zip(key, self.shape, strict=True)]
        # napari's canvas; what only darkens begins from white.
        start = 1.0 if self._channels[0].blending in ("minimum", "multiplicative") else 0.0
        picture = np.full((*sizes[:2], 3), start, np.float32)
        for channel in self._channels:
            picture = channel.draw(picture, (rows, cols), self._level)
        shown = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        return shown[..., colors]


def composite_of(channels: Sequence[Channel]) -> ImageSource:
    """See channels as one RGB picture; nothing is read yet.

    Parameters
    ----------
    channels : sequence of Channel
        From the bottom to the top, of one size. Levels that not all have are left out.
    """
    levels = [one.source.levels for one in channels]
    shortest = min(len(one) for one in levels)
    count = max(n for n in range(shortest + 1) if all(one[:n] == levels[0][:n] for one in levels))
    return ImageSource([_Level(channels, level) for level in range(count)], rgb=True)


# -- layers at one place ----------------------------------------------------------------------


def layers_at(image: Any, layers: Sequence[Any]) -> list[Any]:
    """Return the visible Image layers that lie as one does, itself too; the lowest first."""
    from napari.layers import Image, Labels

    shape = spatial_shape(image)
    return [
        layer
        for layer in layers
        if isinstance(layer, Image)
        and not isinstance(layer, Labels)
        and layer.visible
        and (layer is image or (spatial_shape(layer) == shape and lie_alike(layer, image)))
    ]


def are_channels(layers: Sequence[Any]) -> bool:
    """Whether layers are drawn into each other, as napari draws channels."""
    return len(layers) > 1 and all(str(one.blending) in _ADDED for one in layers[1:])


def channel_of_layer(layer: Any, plane: ImagePlane) -> Channel:
    """Take a layer as it is drawn now."""
    source = image_source_of(layer, plane).source
    opacity, blending = float(layer.opacity), str(layer.blending)
    if is_rgb(layer):
        return Channel(source, None, 1.0, opacity, blending, ("rgb", opacity, blending))
    gamma = float(layer.gamma)
    shades = np.asarray(layer.colormap.map(np.linspace(0, 1, _SHADES)), np.float32)[:, :3]
    low, high = (float(value) for value in layer.contrast_limits)
    look = ((low, high), gamma, opacity, blending, shades.tobytes())
    limits = (low, high) if high > low else None
    return Channel(source, shades, gamma, opacity, blending, look, limits)


# -- channels of one file ---------------------------------------------------------------------


def default_colors(count: int) -> dict[int, str]:
    """Return the colours of an axis' first channels, by index."""
    names = _TWO if count == 2 else tuple(CHANNEL_COLORS) if count == 3 else _MORE
    return dict(enumerate(names[: min(count, 3)]))


def channel_of_axis(image: Any, plane: ImagePlane, index: int, color: str) -> Channel:
    """Take a channel of a layer in a colour, with a contrast of its own."""
    shades = np.outer(np.linspace(0, 1, _SHADES), CHANNEL_COLORS[color]).astype(np.float32)
    source = image_source_of(image, plane, channels=[index], own_contrast=True).source
    return Channel(source, shades, look=(index, color))
