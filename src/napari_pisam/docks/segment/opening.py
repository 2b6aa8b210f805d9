"""Labels and outlines of other tools become objects; read in a worker. No Qt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from napari_pisam.docks.segment.writing import adopt
from napari_pisam.images.label_formats import read_labels
from napari_pisam.images.label_formats.table import read_table_boxes
from napari_pisam.images.zarr_files import zarr_folder
from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.classes import ObjectClass, clean_name
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.session.session import Execute, Session

Way = Literal["objects", "starts", "boxes"]
"""What becomes of the labels: finished objects, masks to be corrected, or boxes around them."""

ReadObjects = tuple[list[tuple[int, Prompts, str]], list[ObjectClass]]

_THEN = {
    "objects": "They are in the labels.",
    "starts": "Click one in the list, then where it is wrong.",
    "boxes": "Segment all boxes predicts them.",
}


class LabelOpener:
    """Takes the objects of a file over.

    Parameters
    ----------
    workspace : Workspace
        Whose session.
    read : Execute
        Runs a job in a thread for files and delivers on the main thread.
    """

    def __init__(self, workspace: Workspace, read: Execute) -> None:
        self._work, self._read = workspace, read

    def open(self, path: Path, way: Way) -> None:
        """Make objects of the displayed plane of what a file holds; one step to undo."""
        session = self._work.session
        if session is None or session.shape is None:
            self._work.failed.emit("There is no image that the labels are of. Choose it first.")
            return
        path = zarr_folder(path)
        self._read(
            partial(objects_of, path, session.shape, way),
            partial(self._take_over, session, path.name, way),
            self._fail,
        )

    def _fail(self, error: BaseException) -> None:
        self._work.failed.emit(failure_sentence(error, "Opening the labels"))

    def _take_over(self, session: Session, name: str, way: Way, found: ReadObjects) -> None:
        work, (objects, classes) = self._work, found
        if session is not work.session:
            return
        work.planes.classes.merge(classes)
        try:
            if way == "objects":
                adopt(work, session, objects)
            else:
                session.adopt(objects, commit=False)
        except (ValueError, OSError, MemoryError) as error:
            self._fail(error)
            return
        work.hinted.emit(f"{len(objects)} object(s) from {name}. {_THEN[way]}")


def objects_of(path: Path, shape: tuple[int, int], way: Way) -> ReadObjects:
    """Read objects with their classes from a file of any format; boxes from a table, too.

    Raises
    ------
    ValueError
        If it cannot be read, is of another size, or holds none.
    """
    objects = []
    if way == "boxes" and path.suffix.lower() == ".csv":
        table = read_table_boxes(path)
        if table is not None and table.boxes:
            given = ((n, Prompts(box).validated_for(shape)) for n, box in table.boxes.items())
            return [(n, one, clean_name(table.classes.get(n, ""))) for n, one in given], []
    image = read_labels(path, shape)
    for number, origin, crop in image.objects():
        mask = MaskPrompt.from_any((crop, origin))
        prompts = Prompts(mask.box) if way == "boxes" else Prompts(mask=mask)
        objects.append((number, prompts, clean_name(image.classes.get(number, ""))))
    if not objects:
        raise ValueError(
            f"{path.name} holds no object that lies in the image of {shape[0]} x {shape[1]} px. "
            "Choose the labels of this image."
        )
    colors = {clean_name(name): rgb for name, rgb in image.colors.items()}
    colored = [
        ObjectClass(name, "#{:02x}{:02x}{:02x}".format(*rgb))
        for name, rgb in colors.items()
        if name
    ]
    return objects, colored
