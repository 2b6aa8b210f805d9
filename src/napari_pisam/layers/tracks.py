"""Tracks of labelled objects as a layer of napari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_pisam.layers.transforms import transform_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def show_tracks(viewer: Any, labels: Any, table: NDArray[Any]) -> Any:
    """Show tracks where their labels are; the layer that showed them before shows these now.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    labels : napari Labels layer
        Never changed.
    table : (n, D) array
        From `tracks`.

    Returns
    -------
    napari.layers.Tracks

    Raises
    ------
    ValueError
        If there is no object.
    """
    if not len(table):
        raise ValueError("There is no object in the labels, so there are no tracks.")
    name, features = f"{labels.name} tracks", {"area": table[:, -1]}
    for layer in viewer.layers:
        if layer.name == name and type(layer).__name__ == "Tracks":
            layer.data, layer.features = table[:, :-1], features
            return layer
    return viewer.add_tracks(
        table[:, :-1], name=name, features=features, tail_width=4, **transform_of(labels)
    )
