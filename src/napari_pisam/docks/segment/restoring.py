"""Going on with a saved session: read and compared in a worker, taken over in one step. No Qt."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from napari_pisam.layers.geometry import ImagePlane, spatial_shape
from napari_pisam.layers.images import image_source_of
from napari_pisam.session.identity import is_same_image
from napari_pisam.session.requests import failure_sentence
from napari_pisam.session.storage import load_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.session.session import Execute
    from napari_pisam.session.storage import SavedPlane, SessionFile

# Of 512 px: 256 MB as 32-bit numbers; the rest is unpacked when it is written.
_PREPARED = 256
# How long the window does nothing else, s; a step more may come on top.
_STEP = 0.02


class Restorer:
    """Takes saved sessions over, all planes of a file.

    Parameters
    ----------
    workspace : Workspace
        Whose sessions.
    read : Execute
        Runs a job in a thread for files and delivers on the main thread.
    restored : callable
        Called with the image before its sessions are replaced.
    later : callable, optional
        ``later(call)`` calls it when the window has shown what it has to; without, all is taken
        over in one go.
    """

    def __init__(
        self,
        workspace: Workspace,
        read: Execute,
        restored: Callable[[Any], None],
        later: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._work, self._read, self._restored = workspace, read, restored
        self._later = later

    def restore(self, path: Path) -> None:
        """Go on with a saved session of the displayed image."""
        image = self._work.planes.image
        if self._work.session is None:
            self._work.failed.emit(
                "There is no image to restore to. Choose the session's image first."
            )
            return
        self._read(lambda: load_session(path), partial(self._compare, image, path), self._fail)

    def _fail(self, error: BaseException) -> None:
        self._work.failed.emit(failure_sentence(error, "Opening the session"))

    def _compare(self, image: Any, path: Path, content: SessionFile) -> None:
        shown = self._work.planes.plane
        if image is not self._work.planes.image or shown is None:
            return
        candidates = []
        for saved in content.planes:
            planes = [plane_of_view(image, saved)]
            if len(content.planes) == 1:
                # Files of version 1 do not say which axes were displayed.
                planes.append(shown)
            fitting = [p for p in planes if p is not None and p.size == saved.state.shape]
            candidates.append([(plane, image_source_of(image, plane).source) for plane in fitting])

        def job() -> tuple[list[ImagePlane], int]:
            planes = [
                _first_fitting(saved, of_plane, path)
                for saved, of_plane in zip(content.planes, candidates, strict=True)
            ]
            return planes, _prepare(content)

        self._read(job, partial(self._take_over, image, content), self._fail)

    def _take_over(
        self, image: Any, content: SessionFile, found: tuple[list[ImagePlane], int]
    ) -> None:
        work, (planes, largest) = self._work, found
        if image is not work.planes.image or work.session is None:
            return
        self._restored(image)
        self._go_on(self._write(image, content, planes, largest))

    def _go_on(self, steps: Iterator[None]) -> None:
        until = monotonic() + _STEP
        try:
            for _ in steps:
                if self._later is not None and monotonic() > until:
                    self._later(partial(self._go_on, steps))
                    return
        except (ValueError, OSError, MemoryError) as error:
            self._fail(error)

    def _write(
        self, image: Any, content: SessionFile, planes: list[ImagePlane], largest: int
    ) -> Iterator[None]:
        work = self._work
        numbers = [
            record.view.id
            for saved in content.planes
            for record in saved.state.records
            if record.view.committed
        ]
        if (numbers or largest) and work.planes.labels is None:
            work.new_labels()
        work.planes.widen_labels(max([largest, *numbers]))
        work.planes.classes.merge(content.classes)
        for plane, saved in zip(planes, content.planes, strict=True):
            if image is not work.planes.image:
                raise ValueError(
                    "Another image was chosen before all slices of the session were there. Choose "
                    "its own, and open it again."
                )
            session = work.planes.session_of(image, plane)
            if session is not work.session:
                work.planes.attach_labels_to(plane, session)
            if (yield from session.restoring(saved.state)) is False:
                return  # it has been told
        count = sum(len(saved.state.records) for saved in content.planes)
        where = f" in {len(planes)} slices" if len(planes) > 1 else ""
        work.hinted.emit(f"Restored {count} object(s){where}. Undo takes that back.")
        work.changed.emit()


def _prepare(content: SessionFile) -> int:
    """Unpack labels and work out what undoes them: most of the work. Return the largest number."""
    largest = 0
    tiles = [tile for saved in content.planes for tile in saved.state.tiles or ()]
    for number, tile in enumerate(tiles):
        if number < _PREPARED:
            tile.prepare()
        largest = max(largest, int(tile.values().max(initial=0)))
    return largest


def plane_of_view(image: Any, saved: SavedPlane) -> ImagePlane | None:
    """Find the plane of an image that a session was of; None where the image has no such plane."""
    shape, view = spatial_shape(image), saved.view
    ndim, channels = len(shape), view.channel_axis
    axes = (ndim - 2, ndim - 1) if view.axes is None else view.axes
    if channels is not None and (not 0 <= channels < ndim or channels in axes):
        return None
    others = [axis for axis in range(ndim) if axis not in axes and axis != channels]
    given = () if view.plane is None else view.plane
    fits = len(given) == len(others) and all(0 <= axis < ndim for axis in axes)
    if not fits or not all(0 <= i < shape[a] for a, i in zip(others, given, strict=True)):
        return None
    index: list[int | None] = [None] * ndim
    position = [0.0] * ndim
    for axis, value in zip(others, given, strict=True):
        index[axis], position[axis] = value, float(value)
    order = (*(axis for axis in range(ndim) if axis not in axes), *axes)
    return ImagePlane(shape, axes, tuple(index), channels, order, tuple(position))


def _first_fitting(
    saved: SavedPlane, planes: list[tuple[ImagePlane, ImageSource]], path: Path
) -> ImagePlane:
    for plane, source in planes:
        if is_same_image(saved.state.signature, saved.windows, source):
            return plane
    name = f" ({saved.view.name})" if saved.view.name else ""
    raise ValueError(
        f"{path.name} belongs to another image{name}: of {saved.state.shape} px, or with other "
        "values. Open the image that it was made with."
    )
