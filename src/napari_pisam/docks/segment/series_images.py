"""Reading an image of a series with all that was done on it; for a worker. No Qt."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from napari_pisam.docks.segment.restoring import plane_of_view
from napari_pisam.images.image_files import open_image
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.label_arrays import copied_labels, empty_labels
from napari_pisam.layers.labels import labels_plane, promote_labels
from napari_pisam.layers.opened import Picture, picture_of
from napari_pisam.layers.prompt_layers import prompt_axes
from napari_pisam.session.identity import is_same_image
from napari_pisam.session.labels import tiles_of_records
from napari_pisam.session.storage import load_session

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.records import SessionState
    from napari_pisam.session.series import Series
    from napari_pisam.session.storage import SavedPlane


@dataclass
class LoadedImage:
    """An image that was read, ready to be shown.

    Attributes
    ----------
    series : Series
    place : int
    picture : Picture
    labels : integer array
        Those of its file, with what a younger session has in them.
    planes : list of (ImagePlane, SessionState)
        What was worked on.
    notes : list of str
        Sentences on files that cannot be used.
    unused : list of Path
        Those files: to be put aside before others are written in their place.
    open_files : ExitStack
        What the picture reads from; to be closed when it is not shown any more.
    """

    series: Series
    place: int
    picture: Picture
    labels: Any
    planes: list[tuple[ImagePlane, SessionState]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    open_files: ExitStack = field(default_factory=ExitStack)


def load_image(series: Series, place: int, channel_axis: int | None = None) -> LoadedImage:
    """Read an image of a series, its labels and its session.

    Parameters
    ----------
    series : Series
    place : int
    channel_axis : int, optional
        An axis of channels that are seen together: labels are for all of them.

    Raises
    ------
    ValueError, OSError
        If the image cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(series.open(place))
        picture = picture_of(file, series.images[place].name)
        axes = prompt_axes(picture, channel_axis)
        loaded = LoadedImage(series, place, picture, None)
        _load_labels(loaded, tuple(picture.shape[axis] for axis in axes))
        _load_session(loaded)
        loaded.open_files = stack.pop_all()
        return loaded


def put_aside(path: Path) -> None:
    """Rename a file that cannot be used, for nothing to be written over it."""
    if not path.exists():
        return
    number = 1
    while (other := path.with_name(f"{path.stem} (unused {number}){path.suffix}")).exists():
        number += 1
    path.rename(other)


def _load_labels(loaded: LoadedImage, shape: tuple[int, ...]) -> None:
    path = loaded.series.labels_path(loaded.place)
    if path.is_file():
        try:
            with open_image(path) as file:
                data = file.data[0] if isinstance(file.data, list) else file.data
                loaded.labels = copied_labels(data, shape)
        except ValueError as error:
            _leave_unused(loaded, path, error)
    if loaded.labels is None:
        loaded.labels = empty_labels(shape)


def _load_session(loaded: LoadedImage) -> None:
    path = loaded.series.session_path(loaded.place)
    if not path.is_file():
        return
    try:
        content = load_session(path)
        loaded.planes = [(_plane(loaded.picture, one), one.state) for one in content.planes]
    except ValueError as error:
        _leave_unused(loaded, path, error)
        return
    file = loaded.series.labels_path(loaded.place)
    is_younger = file in loaded.unused or not file.is_file() or _age(path) > _age(file)
    for plane, state in loaded.planes:
        _merge(loaded, plane, state, with_tiles=is_younger)


def _leave_unused(loaded: LoadedImage, path: Path, error: ValueError) -> None:
    loaded.unused.append(path)
    loaded.notes.append(
        f"{path.name} is not used: {' '.join(str(error).split())} It gets another name before "
        "anything is written in its place."
    )


def _plane(picture: Picture, saved: SavedPlane) -> ImagePlane:
    plane = plane_of_view(picture, saved)
    if plane is None or not is_same_image(
        saved.state.signature, saved.windows, image_source_of(picture, plane).source
    ):
        raise ValueError("It was made with an image of other values.")
    return plane


def _merge(
    loaded: LoadedImage, plane: ImagePlane, state: SessionState, *, with_tiles: bool
) -> None:
    """Let the labels be as a session left them, where it is younger, and hold its numbers."""
    layer = SimpleNamespace(data=loaded.labels, name="labels", multiscale=False)
    labels = labels_plane(layer, plane)
    tiles = tiles_of_records(state.shape, state.records) if state.tiles is None else state.tiles
    for tile in tiles if with_tiles else ():
        row0, col0, row1, col1 = tile.bbox
        labels[row0:row1, col0:col1] = tile.values()
    promote_labels(layer, max((one.view.id for one in state.records), default=0))
    loaded.labels = layer.data


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns
