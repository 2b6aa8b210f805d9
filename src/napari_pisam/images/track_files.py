"""Tracks as CSV, in the order of napari's Tracks layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.images.files import write_csv

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray


def write_tracks(path: str | os.PathLike[str], table: NDArray[Any]) -> None:
    """Write tracks: ``track_id,t,[z,]y,x,area``, one line for each object and time.

    Parameters
    ----------
    path : str or path
        What is there is replaced.
    table : (n, 5) or (n, 6) array
        From `tracks`.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    places = ["z", "y", "x"][6 - table.shape[1] :] if table.shape[1] <= 6 else None
    if places is None or table.shape[1] < 5:
        raise ValueError(
            f"The tracks have {table.shape[1]} columns, expected 5 (track, t, y, x, area) or 6 "
            "(with z). Take them from napari_pisam.tracks."
        )
    rows = [
        [f"{track:.0f}", f"{time:.0f}", *(f"{value:.3f}" for value in middle), f"{area:.0f}"]
        for track, time, *middle, area in table.tolist()
    ]
    write_csv(Path(path), [["track_id", "t", *places, "area"], *rows])
