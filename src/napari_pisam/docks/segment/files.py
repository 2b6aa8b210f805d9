"""Sessions and labels on their way to files; the writing itself is for a worker. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.label_files import write_label_array
from napari_pisam.images.label_formats import LabelImage
from napari_pisam.layers.images import image_source_of
from napari_pisam.layers.measuring import pixel_of
from napari_pisam.session.identity import PlaneIdentity, is_in_memory, stamp_of_layer
from napari_pisam.session.storage import ImageView, SavedPlane, SessionFile, save_planes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_pisam.docks.segment.planes import Planes
    from napari_pisam.images.label_formats import LabelFormat
    from napari_pisam.layers.geometry import ImagePlane
    from napari_pisam.session.classes import ObjectClass
    from napari_pisam.session.records import SessionState


@dataclass(frozen=True)
class Snapshot:
    """All that is to be saved of an image at one moment; taken on the main thread.

    Attributes
    ----------
    planes : tuple of (ImageView, SessionState, PlaneIdentity)
    shown : int
        Which of them is displayed.
    transforms : Any
        Of the layer.
    classes : tuple of ObjectClass
    """

    planes: tuple[tuple[ImageView, SessionState, PlaneIdentity], ...]
    shown: int
    transforms: Any
    classes: tuple[ObjectClass, ...] = ()

    def content(self) -> SessionFile:
        """Work out what the images are known by; in any thread."""
        saved = []
        for view, state, identity in self.planes:
            boxes = [one.view.mask.bbox for one in state.records if one.view.mask is not None]
            known = replace(state, signature=identity.signature())
            saved.append(SavedPlane(known, view, identity.windows(boxes)))
        return SessionFile(tuple(saved), self.shown, self.transforms, self.classes)


class Identities:
    """What the planes of an image are known by: each is worked out once."""

    def __init__(self) -> None:
        self._known: dict[ImagePlane, tuple[Any, PlaneIdentity]] = {}

    def of(self, image: Any, plane: ImagePlane) -> PlaneIdentity:
        """Return a plane's; nothing is read yet."""
        known = self._known.get(plane)
        if known is None or known[0] is not image.data:
            stamp = stamp_of_layer(image.source.path)
            index = tuple(index for index in plane.index if index is not None)
            source, in_memory = image_source_of(image, plane).source, is_in_memory(level_of(image))
            identity = PlaneIdentity(source, index, stamp, in_memory=in_memory)
            known = self._known[plane] = image.data, identity
        return known[1]


def level_of(image: Any) -> Any:
    """Return the array of an Image layer, of a pyramid the largest."""
    return image.data[0] if image.multiscale else image.data


def take_snapshot(planes: Planes, image: Any, identities: Identities) -> Snapshot:
    """Take what there is to save of an image: every plane that has anything.

    Raises
    ------
    ValueError
        If there is nothing: an empty session must not replace a file.
    """
    sessions, shown = planes.sessions.get(image, {}), planes.plane
    kept = [plane for plane, session in sessions.items() if session.has_content]
    if not kept:
        raise ValueError("There is nothing to save yet. Draw a box around an object first.")
    saved = tuple(
        (
            replace(view_of(image, plane), seen=planes.channels.for_session(image, plane)),
            sessions[plane].to_state(),
            identities.of(image, plane),
        )
        for plane in kept
    )
    place = kept.index(shown) if shown in kept else 0
    return Snapshot(saved, place, transforms_of(image), tuple(planes.classes))


def view_of(image: Any, plane: ImagePlane) -> ImageView:
    """Say which part of which image a plane is, for `replay` and for coming back to it."""
    index = tuple(index for index in plane.index if index is not None)
    limits = None
    if not image.rgb and plane.channel_axis is None:
        low, high = (float(value) for value in image.contrast_limits)
        limits = ((low, high),) if high > low else None
    return ImageView(
        str(image.name),
        index,
        plane.channel_axis,
        rgb=bool(image.rgb),
        contrast_limits=limits,
        axes=plane.axes,
    )


def transforms_of(image: Any) -> dict[str, Any]:
    """Say where a layer lies in the world, as JSON values."""
    names = ("scale", "translate", "rotate", "shear")
    transforms: dict[str, Any] = {n: np.asarray(getattr(image, n)).tolist() for n in names}
    transforms["affine"] = np.asarray(image.affine.affine_matrix).tolist()
    transforms["units"] = [str(unit) for unit in image.units]
    return transforms


def saving_job(planes: Planes, path: Path) -> Callable[[], Path]:
    """Return a job that writes all planes of the displayed image as they are now.

    Raises
    ------
    ValueError
        If there is nothing to save.
    """
    if planes.image is None:
        raise ValueError("There is no session to save. Choose an image first.")
    snapshot = take_snapshot(planes, planes.image, Identities())

    def job() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_planes(path, snapshot.content())
        return path

    return job


def format_job(
    planes: Planes,
    entry: LabelFormat,
    path: Path,
    measure: Callable[[], dict[int, dict[str, float]]],
) -> Callable[[], None]:
    """Return a job that writes the labels of the displayed plane in another tool's format.

    Parameters
    ----------
    planes : Planes
    entry : LabelFormat
    path : Path
    measure : callable
        Measures the objects, for formats that hold that; called by the job.

    Raises
    ------
    ValueError
        If there are no labels.
    """
    session, plane = planes.session, planes.plane
    if planes.labels is None or session is None or plane is None:
        raise ValueError("There are no labels to write. Commit an object first.")
    labels, name = planes.labels.frozen(), str(planes.image.name)
    classes = {one.id: one.class_name for one in session.objects if one.class_name}
    colors = {one.name: one.rgb for one in planes.classes}
    pixel = pixel_of(planes.image, plane)
    unit = pixel.unit if pixel.unit not in ("px", "units") else "pixel"
    height, width = plane.size

    def job() -> None:
        entry.write(
            path,
            LabelImage(
                np.asarray(labels[0:height, 0:width]),
                classes,
                name,
                (pixel.height, pixel.width),
                unit,
                measure() if entry.has_measures else {},
                colors,
            ),
        )

    return job


def export_job(planes: Planes, layer: Any, path: Path) -> Callable[[], None]:
    """Return a job that writes a Labels layer with what is known of it."""
    session = planes.session
    objects = () if session is None else session.objects
    model = None if session is None else session.model
    scale, units = [float(value) for value in layer.scale], [str(unit) for unit in layer.units]
    description = {
        "software": "napari-pisam",
        "image": "" if planes.image is None else str(planes.image.name),
        "model": None if model is None else {"name": model.name, "sha256": model.sha256},
        "scale": scale,
        "translate": [float(value) for value in layer.translate],
        "units": units,
        "objects": {
            str(one.id): {"score": round(one.mask.score, 4), "area": one.mask.area}
            | ({"class": one.class_name} if one.class_name else {})
            for one in objects
            if one.committed and one.mask is not None
        },
    }
    return partial(write_label_array, path, layer.data, description, scale, units)
