"""Sessions and labels to files and back; the writing itself is for a worker. No Qt."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.label_files import write_label_array
from napari_pisam.session.storage import ImageView, SessionMeta, load_session, save_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.docks.segment.planes import Planes
    from napari_pisam.session.session import Session

_VARIABLE = "NAPARI_PISAM_AUTOSAVE"


def autosave_folder() -> Path:
    """Where sessions are kept in case of a crash."""
    given = os.environ.get(_VARIABLE)
    if given:
        return Path(given)
    from platformdirs import user_data_dir

    return Path(user_data_dir("napari-pisam", appauthor=False)) / "sessions"


def autosave_path(session: Session) -> Path:
    """Give the file of a session's image and plane; the same after a crash."""
    # Two slices may hold the same pixels; then the one that was worked on last counts.
    name = hashlib.sha256(session.signature.encode()).hexdigest()[:24]
    return autosave_folder() / f"{name}.pisam"


def session_meta(planes: Planes) -> SessionMeta:
    """Say which part of which image the displayed session is of, for `replay`."""
    image, plane = planes.image, planes.plane
    if image is None or plane is None:
        return SessionMeta()
    index = tuple(index for index in plane.index if index is not None)
    limits = None
    if not image.rgb:
        low, high = (float(value) for value in image.contrast_limits)
        limits = ((low, high),)
    view = ImageView(str(image.name), index, rgb=bool(image.rgb), contrast_limits=limits)
    names = ("scale", "translate", "rotate", "shear")
    transforms: dict[str, Any] = {n: np.asarray(getattr(image, n)).tolist() for n in names}
    transforms["affine"] = np.asarray(image.affine.affine_matrix).tolist()
    transforms["units"] = [str(unit) for unit in image.units]
    return SessionMeta(view, transforms)


def saving_job(planes: Planes, path: Path) -> Callable[[], Path]:
    """Give a job that writes the displayed session as it is now.

    Raises
    ------
    ValueError
        If there is none.
    """
    if planes.session is None:
        raise ValueError("There is no session to save. Choose an image first.")
    state, meta = planes.session.to_state(), session_meta(planes)

    def job() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_session(path, state, meta)
        return path

    return job


def restore(planes: Planes, path: Path) -> None:
    """Take a saved session in place of the displayed one, and write its objects.

    Raises
    ------
    ValueError
        If it cannot be read or belongs to another image.
    """
    session = planes.session
    if session is None:
        raise ValueError("There is no image to restore to. Choose the session's image first.")
    session.from_state(load_session(path).state)
    if session.labels is not None and any(one.committed for one in session.objects):
        session.rewrite_labels()


def export_job(planes: Planes, layer: Any, path: Path) -> Callable[[], None]:
    """Give a job that writes a Labels layer with what is known of it."""
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
            for one in objects
            if one.committed and one.mask is not None
        },
    }
    return partial(write_label_array, path, layer.data, description, scale, units)
