"""Labels that may not fit into the memory: where on disk they are kept. No Qt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.images.ngff_labels import check_label_place, finish_labels, is_label_group
from napari_pisam.layers.label_arrays import needs_disk
from napari_pisam.layers.labels import labels_layer_on_disk, labels_shape
from napari_pisam.session.rollback import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING = "-labels.ome.zarr"
_SUFFIXES = (".ome.zarr", ".zarr", ".ome.tif", ".ome.tiff")
_SUFFIX = re.compile(r"\.[A-Za-z]{1,5}$")


class DiskLabels:
    """Makes and opens Labels layers that are on disk.

    Parameters
    ----------
    viewer : napari.components.ViewerModel

    Attributes
    ----------
    folder : str
        Where labels of large images are made; empty: beside the image.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.folder = ""

    def choose_folder(self, folder: str) -> None:
        """Make labels of large images there from now on; empty: beside the image."""
        self.folder = folder

    def is_needed(self, image: Any, channel_axis: int | None) -> bool:
        """Whether the labels of an image may not fit into the memory."""
        return needs_disk(labels_shape(image, channel_axis))

    def place_of(self, image: Any, channel_axis: int | None) -> Path | None:
        """Return where the labels of an image belong; None where they may be in memory.

        An image that is in no file has a place only where a folder was chosen.
        """
        if not self.is_needed(image, channel_axis):
            return None
        path = image.source.path
        if not self.folder and (not path or not Path(path).exists()):
            return None
        folder = Path(self.folder) if self.folder else Path(path).absolute().parent
        name = "" if not path else _stem(Path(path).name)
        layer = re.sub(r"[^\w.+-]+", "-", str(image.name)).strip("-")
        if not name or layer.startswith(name):
            name = layer
        elif _stem(layer) != name:
            # Several images may be in one file.
            name = f"{name}-{layer}"
        return folder / f"{name}{_ENDING}"

    def open(self, image: Any, path: Path, channel_axis: int | None) -> Any:
        """Return a Labels layer of what is at a path, which is made where nothing is yet.

        Raises
        ------
        ValueError
            If labels cannot be there, or those there are not of this image.
        """
        check_label_place(path)
        for layer in self._viewer.layers:
            known = place_of(getattr(layer, "data", None))
            if known and Path(known).parent == path.absolute():
                return layer
        return labels_layer_on_disk(self._viewer, image, path, channel_axis=channel_axis)


def has_labels(path: Path | None) -> bool:
    """Whether labels are at a path already."""
    return path is not None and is_label_group(path)


def finishing_job(layer: Any, classes: dict[int, str]) -> Callable[[], Path]:
    """Return a job that makes the pyramid and the colours of a layer's labels on disk.

    Raises
    ------
    ValueError
        If they are not on disk.
    """
    place = "" if layer is None else place_of(layer.data)
    path = Path(place).parent
    if not place or not is_label_group(path):
        raise ValueError("These labels are not on disk as OME-Zarr. Export labels… writes them so.")

    def job() -> Path:
        finish_labels(path, classes)
        return path

    return job


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return _SUFFIX.sub("", name)
