"""Which channels the network sees together, and in which colours. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from psygnal import Signal

from napari_pisam.layers.composite import (
    are_channels,
    channel_of_axis,
    channel_of_layer,
    composite_of,
    default_colors,
    layers_at,
)
from napari_pisam.layers.geometry import is_rgb, spatial_shape
from napari_pisam.layers.images import describe_view, image_source_of
from napari_pisam.session.storage import SeenChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.layers.composite import Channel
    from napari_pisam.layers.geometry import ImagePlane

_MOST = 32


class SeenImage(NamedTuple):
    """What the network sees of an image.

    Attributes
    ----------
    source : ImageSource
    look : tuple
        What the pixels depend on besides the values; another one: other pixels.
    contrast_limits : tuple of pairs, or None
        Where there is one grey channel.
    """

    source: ImageSource
    look: tuple[Any, ...]
    contrast_limits: tuple[tuple[float, float], ...] | None


class ChannelRow(NamedTuple):
    """A channel to choose: of an axis by index, or a layer.

    Attributes
    ----------
    key : int or napari Image layer
    name : str
    is_used : bool
    color : str or None
        One of `CHANNEL_COLORS`; None for a layer, which has its own.
    """

    key: Any
    name: str
    is_used: bool
    color: str | None


@dataclass
class _Choice:
    """What was chosen for an image.

    Attributes
    ----------
    axis : int or None
        Whose channels are seen together.
    colors : dict of int to str
        Of those that are seen.
    left_out, taken : WeakSet
        Layers that somebody said no to, or yes.
    """

    axis: int | None = None
    colors: dict[int, str] = field(default_factory=dict)
    left_out: WeakSet[Any] = field(default_factory=WeakSet)
    taken: WeakSet[Any] = field(default_factory=WeakSet)


class Channels:
    """What is chosen for every image; layers that are drawn into each other are seen together.

    Attributes
    ----------
    changed : Signal(image)
        Something else was chosen.
    layers : sequence of napari layers
        The viewer's, lowest first.
    """

    changed = Signal(object)

    def __init__(self) -> None:
        self.layers: Sequence[Any] = ()
        self._choices: WeakKeyDictionary[Any, _Choice] = WeakKeyDictionary()

    def _choice(self, image: Any) -> _Choice:
        return self._choices.setdefault(image, _Choice())

    def axis_of(self, image: Any) -> int | None:
        """Return the axis whose channels are seen together, or None."""
        choice = self._choices.get(image)
        if choice is None or choice.axis is None or choice.axis not in axes_of_channels(image):
            return None
        # Of another image of a series there may be fewer.
        is_there = any(index < spatial_shape(image)[choice.axis] for index in choice.colors)
        return choice.axis if is_there else None

    def copy(self, image: Any, before: Any) -> None:
        """Choose for an image what was chosen for another one."""
        if before in self._choices:
            self._choices[image] = self._choices[before]

    # -- what is seen -------------------------------------------------------------------------

    def used_layers(self, image: Any) -> list[Any]:
        """Return the layers that are seen as one picture, the lowest first; one: the image."""
        rows = [row for row in self.rows(image) if row.color is None]
        used = [row.key for row in rows if row.is_used]
        return used if image in used else [image]

    def see(self, image: Any, plane: ImagePlane) -> SeenImage:
        """Look at an image's plane as it is chosen, and drawn, now; nothing is read.

        Raises
        ------
        ValueError
            If it is no image.
        """
        if parts := [part for _, part in self._parts(image, plane)]:
            return SeenImage(composite_of(parts), tuple(one.look for one in parts), None)
        source = image_source_of(image, plane).source
        low, high = (float(value) for value in image.contrast_limits)
        limits = ((low, high),) * source.n_channels if not is_rgb(image) and high > low else None
        return SeenImage(source, (limits,), limits)

    def _parts(self, image: Any, plane: ImagePlane) -> list[tuple[ChannelRow, Channel]]:
        """Return what is seen together; empty where that is the image alone."""
        used = [row for row in self.rows(image) if row.is_used]
        if plane.channel_axis is not None:
            return [(row, channel_of_axis(image, plane, row.key, str(row.color))) for row in used]
        if len(self.used_layers(image)) < 2:
            return []
        return [(row, channel_of_layer(row.key, plane)) for row in used]

    def are_together(self, image: Any, plane: ImagePlane) -> bool:
        """Whether several channels are seen as one picture."""
        return plane.channel_axis is not None or len(self.used_layers(image)) > 1

    def for_session(self, image: Any, plane: ImagePlane) -> tuple[SeenChannel, ...]:
        """Say what is seen together, for `replay`."""
        return tuple(
            SeenChannel(
                row.name,
                row.key if isinstance(row.key, int) else None,
                part.given_limits,
                b"" if part.shades is None else part.shades.astype("<f4").tobytes(),
                part.gamma,
                part.opacity,
                part.blending,
            )
            for row, part in self._parts(image, plane)
        )

    def describe(self, image: Any, plane: ImagePlane) -> str:
        """Say what the network sees; see `describe_view`."""
        text = describe_view(image, plane)
        if plane.channel_axis is not None:
            used = [f"{row.name} {row.color}" for row in self.rows(image) if row.is_used]
        elif len(layers := self.used_layers(image)) > 1:
            used = [f"{layer.name} ({layer.colormap.name})" for layer in layers]
        else:
            return text
        return f"Seen together: {', '.join(used)}{text[text.find(';') :] if ';' in text else ''}"

    # -- what can be chosen -------------------------------------------------------------------

    def rows(self, image: Any) -> list[ChannelRow]:
        """Return the channels to choose from; none where there is one only."""
        axis = self.axis_of(image)
        choice = self._choice(image)
        if axis is not None:
            count = spatial_shape(image)[axis]
            return [
                ChannelRow(i, f"channel {i}", i in choice.colors, choice.colors.get(i, "grey"))
                for i in range(count)
            ]
        layers = layers_at(image, self.layers) if image in self.layers else []
        if len(layers) < 2 or image not in layers:
            return []
        by_itself = are_channels(layers)
        return [
            ChannelRow(
                layer,
                str(layer.name),
                layer is image
                or layer in choice.taken
                or (by_itself and layer not in choice.left_out),
                None,
            )
            for layer in layers
        ]

    def choose_axis(self, image: Any, axis: int | None) -> None:
        """See the channels of an axis together, or none."""
        choice = self._choice(image)
        choice.axis = axis
        choice.colors = {} if axis is None else default_colors(spatial_shape(image)[axis])
        self.changed.emit(image)

    def use(self, image: Any, key: Any, used: bool) -> None:
        """See a channel, or leave it out; the last one stays."""
        choice = self._choice(image)
        if isinstance(key, int):
            if used:
                choice.colors.setdefault(key, "grey")
            elif len(choice.colors) > 1:
                choice.colors.pop(key, None)
        elif key is not image:
            (choice.taken.add if used else choice.taken.discard)(key)
            (choice.left_out.discard if used else choice.left_out.add)(key)
        self.changed.emit(image)

    def color(self, image: Any, index: int, color: str) -> None:
        """See a channel of an axis in another colour."""
        self._choice(image).colors[index] = color
        self.changed.emit(image)


def axes_of_channels(image: Any) -> list[int]:
    """Return the axes of an image that may hold channels: neither rows nor columns, and short."""
    shape = spatial_shape(image)
    if is_rgb(image):
        return []
    return [axis for axis, size in enumerate(shape[:-2]) if 1 < size <= _MOST]
