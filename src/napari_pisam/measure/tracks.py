"""How labelled objects move from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.measure.volumes import sums_of_stack

if TYPE_CHECKING:
    from numpy.typing import NDArray


def tracks(labels: Any) -> NDArray[np.float64]:
    """Find the middle and the size of every object at every time.

    Parameters
    ----------
    labels : (T, [Z,] H, W) array of int
        0 background; numpy, dask, zarr, read one time after the other. The first axis need not be
        time: of a stack, these are the middles of its slices.

    Returns
    -------
    (n, D) array of float
        Track (the label), time, ([z,] y, x) of the middle in px, area in px (of a volume its
        voxels), sorted by track and time. Without the last column this is what napari's Tracks
        layers take.

    Raises
    ------
    ValueError
        If there are fewer than three axes.
    """
    shape = tuple(int(size) for size in labels.shape)
    if len(shape) < 3:
        raise ValueError(f"The labels have shape {shape}, expected (T, H, W) or (T, Z, H, W).")
    rows = [np.zeros((0, len(shape) + 2))]
    for time in range(shape[0]):
        block = labels[time]
        # A plane is a stack of one slice, whose place says nothing.
        found = sums_of_stack(block if len(shape) > 3 else np.asarray(block)[None])
        voxels = found.added[:, :1]
        middles = found.added[:, 6 - len(shape) : 5] / voxels
        times = np.full_like(voxels, time)
        rows.append(np.concatenate([found.labels[:, None], times, middles, voxels], axis=1))
    table = np.concatenate(rows)
    return table[np.lexsort((table[:, 1], table[:, 0]))]
