"""Where a layer's data lie in the world: read as one matrix, copied to layers made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Matrix: TypeAlias = "NDArray[np.float64]"
Units: TypeAlias = "tuple[Any, ...]"

# A long step gives the linear part its full precision beside any translation; a power of two
# divides without rounding.
_PROBE = 2.0**20


@dataclass(frozen=True, eq=False)
class Placement:
    """An affine map from data to world coordinates.

    Attributes
    ----------
    linear : (n, n) float array
    offset : (n,) float array
        ``world = linear @ data + offset``, in the layer's own units.
    units : tuple of n pint units, or None
        None for plain arrays.
    """

    linear: Matrix
    offset: NDArray[np.float64]
    units: Units | None

    @property
    def ndim(self) -> int:
        """How many axes the layer has; RGB is not counted."""
        return len(self.offset)

    def part(self, axes: Sequence[int]) -> tuple[Matrix, NDArray[np.float64]]:
        """Linear part and offset of some axes, what couples them to the others left out."""
        index = list(axes)
        return self.linear[np.ix_(index, index)], self.offset[index]

    def inverse_part(self, axes: Sequence[int]) -> tuple[Matrix, NDArray[np.float64]]:
        """`part` of the map from world to data."""
        inverse: Matrix = np.asarray(np.linalg.inv(self.linear), dtype=np.float64)
        offset, index = -inverse @ self.offset, list(axes)
        return inverse[np.ix_(index, index)], offset[index]


def placement_of(layer: Any, ndim: int | None = None) -> Placement:
    """Read a layer's transform; anything that is no layer lies where its indices are.

    Parameters
    ----------
    layer : napari layer or array
        Never changed.
    ndim : int, optional
        Axes of what is no layer.
    """
    if not hasattr(layer, "data_to_world"):
        count = 2 if ndim is None else ndim
        return Placement(np.eye(count), np.zeros(count), None)
    count = int(layer.ndim)
    offset = np.asarray(layer.data_to_world(np.zeros(count)), dtype=np.float64)
    columns = [
        (np.asarray(layer.data_to_world(step), dtype=np.float64) - offset) / _PROBE
        for step in _PROBE * np.eye(count)
    ]
    units = getattr(layer, "units", None)
    return Placement(np.stack(columns, axis=1), offset, None if units is None else tuple(units))


def lie_alike(labels: Any, image: Any, extra: int = 0) -> bool:
    """Whether a layer lies pixel on pixel where the last axes, from `extra` on, of another lie."""
    own, theirs = placement_of(labels), placement_of(image)
    axes = range(extra, theirs.ndim)
    linear, offset = theirs.part(axes)
    size = np.abs(linear).max()
    shift = np.abs(own.offset - offset).max()
    # A hundredth of a pixel is not seen.
    return bool(np.abs(own.linear - linear).max() <= 1e-6 * size and shift <= 1e-2 * size)


def unit_ratio(of: Any, to: Any) -> float:
    """How many `to` one `of` is; 1 where they do not compare (a length and a pixel)."""
    if of == to or of.dimensionality != to.dimensionality:
        return 1.0
    import pint

    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    return float(registry.get_base_units(of)[0] / registry.get_base_units(to)[0])


def same_kind(first: Units, second: Units) -> bool:
    """Whether units can be converted, axis by axis, the last axes of both against each other."""
    shared = min(len(first), len(second))
    pairs = zip(first[-shared:], second[-shared:], strict=True)
    return all(one.dimensionality == other.dimensionality for one, other in pairs)


def transform_of(
    layer: Any, axes: Sequence[int] | None = None, origin: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the keyword arguments that put a new layer where a part of another one is.

    Parameters
    ----------
    layer : napari layer
        Never changed.
    axes : sequence of int, optional
        The axes that the new layer has; all by default.
    origin : sequence of float, optional
        The place of the new layer's index 0 in the layer's data, one number for each of the
        layer's axes; goes into the translation.

    Returns
    -------
    dict
        ``scale, translate, rotate, shear, affine, units, axis_labels`` for a layer's constructor.
    """
    from napari.utils.transforms import Affine

    kept = list(range(layer.ndim)) if axes is None else list(axes)
    block = np.ix_(kept, kept)
    place = placement_of(layer)
    start = np.zeros(layer.ndim) if origin is None else np.asarray(origin, dtype=np.float64)
    linear, offset = place.linear[block], (place.offset + place.linear @ start)[kept]
    own = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear)
    affine = np.eye(len(kept) + 1)
    affine[:-1, :-1] = layer.affine.linear_matrix[block]
    affine[:-1, -1] = layer.affine.translate[kept]
    parts: dict[str, Any] = {
        "scale": np.asarray(layer.scale)[kept],
        "rotate": np.asarray(layer.rotate)[block],
        "shear": _shear_matrix(layer)[block],
        "translate": (np.asarray(layer.translate) + own.linear_matrix @ start)[kept],
    }
    built = Affine(**parts)
    made = affine[:-1, :-1] @ built.linear_matrix
    shift = affine[:-1, :-1] @ built.translate + affine[:-1, -1]
    size = np.abs(linear).max()
    is_same = np.abs(made - linear).max() <= 1e-9 * size
    if not (is_same and np.abs(shift - offset).max() <= 1e-9 * (size + np.abs(offset).max())):
        # napari takes rotations of very small scales for none, and an axis left out may have
        # been turned with the others; one matrix says it all.
        affine[:-1, :-1], affine[:-1, -1], parts = linear, offset, {}
    return parts | {
        "affine": affine,
        "units": tuple(layer.units[axis] for axis in kept),
        "axis_labels": tuple(layer.axis_labels[axis] for axis in kept),
    }


def _shear_matrix(layer: Any) -> Matrix:
    shear = np.asarray(layer.shear, dtype=np.float64)
    if shear.ndim == 2:
        return shear
    matrix = np.eye(layer.ndim)
    above = np.triu_indices(layer.ndim, 1)
    # napari gives one zero per axis where there is no shear.
    if len(shear) == len(above[0]):
        matrix[above] = shear
    return matrix
