"""What labelled objects measure through the slices of a stack, added up slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_pisam.measure.regions import Pixel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Of a slice so many pixels are looked at together.
_BAND_PIXELS = 1 << 20


class Sums(NamedTuple):
    """What there is of objects in one slice or several.

    Attributes
    ----------
    labels : (n,) array of int
        Ascending.
    added : (n, 5 + C) array of float
        Voxels, slices, and the sums over the voxels of slice, row, column and each channel.
    lowest, highest : (n, 1 + C) array of float
        Of slice and each channel.
    """

    labels: NDArray[np.int64]
    added: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]

    @classmethod
    def together(cls, parts: Sequence[Sums]) -> Sums:
        """Add up what there is of each object in several parts, at least one."""
        labels, added, lowest, highest = (np.concatenate(arrays) for arrays in zip(*parts))  # noqa: B905
        if not labels.size:
            return cls(labels, added, lowest, highest)
        order = np.argsort(labels, kind="stable")
        labels = labels[order]
        starts = np.flatnonzero(np.diff(labels, prepend=-1))
        return cls(
            labels[starts],
            np.add.reduceat(added[order], starts),
            np.minimum.reduceat(lowest[order], starts),
            np.maximum.reduceat(highest[order], starts),
        )

    def rows(self, pixel: Pixel, channels: Sequence[str] = ()) -> dict[int, dict[str, float]]:
        """Return the measures by label, see `measure_volumes`."""
        depth, (voxels, slices) = _depth(pixel), self.added[:, :2].T
        middle = self.added[:, 2:5] / voxels[:, None]
        sides = (depth, pixel.height, pixel.width)
        columns = {
            "volume": voxels * np.prod(sides),
            "volume_vx": voxels,
            "slices": slices,
            "first_slice": self.lowest[:, 0],
            "last_slice": self.highest[:, 0],
        }
        columns |= {
            f"centroid_3d_{name}": middle[:, n] for n, name in enumerate(("slice", "row", "col"))
        }
        columns |= {f"centroid_3d_{name}": middle[:, n] * sides[n] for n, name in enumerate("zyx")}
        count = self.lowest.shape[1] - 1
        names = list(channels) or [str(n) for n in range(1, count + 1)]
        for n, name in enumerate(names[:count]):
            end = f"_{name}" if count > 1 or channels else ""
            columns[f"intensity_3d_mean{end}"] = self.added[:, 5 + n] / voxels
            columns[f"intensity_3d_min{end}"] = self.lowest[:, 1 + n]
            columns[f"intensity_3d_max{end}"] = self.highest[:, 1 + n]
        lists = [column.tolist() for column in columns.values()]
        lines = (dict(zip(columns, line, strict=True)) for line in zip(*lists, strict=True))
        return dict(zip(self.labels.tolist(), lines, strict=True))


def _depth(pixel: Pixel) -> float:
    if pixel.depth is None and pixel.unit != "px":
        raise ValueError(
            f"A pixel is {pixel.height:g} x {pixel.width:g} {pixel.unit}, and how far the slices "
            "are apart is not known. Give all three: DEPTH,HEIGHT,WIDTH."
        )
    return 1.0 if pixel.depth is None else pixel.depth


def sums_of_slice(labels: Any, z: int, picture: Any = None) -> Sums:
    """Add up what there is of each object in a slice; large ones are read in bands.

    Parameters
    ----------
    labels : (Z, H, W) array of int
    z : int
        The slice.
    picture : (Z, H, W) or (Z, H, W, C) array, optional
    """
    height, width = (int(size) for size in labels.shape[1:])
    step = max(1, _BAND_PIXELS // max(1, width))
    cols, bands = slice(0, width), []
    for row in range(0, max(1, height), step):
        rows = slice(row, min(height, row + step))
        block = np.asarray(labels[z, rows, cols])
        values = None if picture is None else np.asarray(picture[z, rows, cols])
        bands.append(_sums_of_block(block, values, row))
    found = Sums.together(bands)
    found.added[:, 1] = 1
    found.added[:, 2] = z * found.added[:, 0]
    found.lowest[:, 0] = found.highest[:, 0] = z
    return found


def _sums_of_block(block: NDArray[Any], picture: NDArray[Any] | None, row0: int) -> Sums:
    rows, cols = np.nonzero(block > 0)
    labels, of_place = np.unique(block[rows, cols], return_inverse=True)
    counts = np.bincount(of_place, minlength=len(labels))
    nothing = np.zeros(len(labels))
    places = [np.bincount(of_place, place, len(labels)) for place in (rows + row0, cols)]
    added, lowest, highest = [counts, nothing, nothing, *places], [nothing], [nothing]
    if picture is not None:
        order = np.argsort(of_place, kind="stable")
        values = picture.reshape(*block.shape, -1)[rows[order], cols[order]].astype(np.float64)
        starts = np.cumsum(counts) - counts
        for column in values.T:
            # Without an object there is no place to begin at.
            for join, into in ((np.add, added), (np.minimum, lowest), (np.maximum, highest)):
                into.append(join.reduceat(column, starts) if len(labels) else nothing)
    stacked = [np.stack(columns, axis=1).astype(np.float64) for columns in (added, lowest, highest)]
    return Sums(labels.astype(np.int64), *stacked)


def measure_volumes(
    labels: Any,
    intensity: Any = None,
    *,
    pixel: Pixel | None = None,
    channels: Sequence[str] = (),
) -> dict[int, dict[str, float]]:
    """Measure every object of a stack of labels: what has one number in several slices is one.

    Parameters
    ----------
    labels : (Z, H, W) array of unsigned int
        0 background; numpy, zarr or anything that is read by windows, one slice after the other.
    intensity : (Z, H, W) or (Z, H, W, C) array, optional
        Picture of the same size.
    pixel : Pixel, optional
        With its depth, the distance of the slices; by default lengths are in px.
    channels : sequence of str
        Names of the channels; numbers from 1 where there are several and none are named.

    Returns
    -------
    dict of int to dict of str to float
        By label: ``volume`` in the unit's cube and ``volume_vx``, voxels; ``slices``, in how many
        it has pixels, ``first_slice`` and ``last_slice``; ``centroid_3d_slice``, ``_row`` and
        ``_col`` in voxels, centres at integers, and ``centroid_3d_z``, ``_y`` and ``_x``, the same
        in the unit; ``intensity_3d_mean``, ``_min`` and ``_max``, for every channel.

    Raises
    ------
    ValueError
        If the sizes differ, or a unit is given without the distance of the slices.
    """
    shape, kind = tuple(int(size) for size in labels.shape), np.dtype(labels.dtype).kind
    if len(shape) != 3 or kind not in "ui":
        raise ValueError(
            f"Labels have shape {shape} and type {labels.dtype}; expected (Z, H, W) integers."
        )
    if intensity is not None and tuple(intensity.shape[:3]) != shape:
        raise ValueError(
            f"The picture has shape {tuple(intensity.shape)}, the labels {shape}; expected the "
            "same slices, height and width."
        )
    _depth(pixel or Pixel())
    return sums_of_stack(labels, intensity).rows(pixel or Pixel(), channels)


def sums_of_stack(labels: Any, picture: Any = None) -> Sums:
    """Add up what there is of each object of a (Z, H, W) array, see `sums_of_slice`."""
    nothing = _sums_of_block(np.zeros((0, 0), np.uint8), None, 0)
    slices = [sums_of_slice(labels, z, picture) for z in range(int(labels.shape[0]))]
    return Sums.together(slices or [nothing])
