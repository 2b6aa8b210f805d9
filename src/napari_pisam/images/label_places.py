"""Where the objects of a label image are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# A slot is made for every number up to the largest: up to so many that is cheaper than sorting.
_MOST_SLOTS = 1 << 21


def object_places(
    labels: NDArray[Any], only: Iterable[int] | None = None
) -> dict[int, tuple[slice, slice]]:
    """Find the box around each object.

    Parameters
    ----------
    labels : (H, W) ndarray of non-negative int
        0 background.
    only : iterable of int, optional
        Those that are asked for; the ones that are absent are left out.

    Returns
    -------
    dict of int to (slice, slice)
        Rows and columns by label, in ascending order.
    """
    numbered, numbers = labels, None
    if labels.size and int(labels.max()) > _MOST_SLOTS:
        present, dense = np.unique(labels, return_inverse=True)
        numbered = dense.reshape(labels.shape) + (0 if present[0] == 0 else 1)
        numbers = present[present > 0].tolist()
    found = scipy.ndimage.find_objects(numbered) if labels.size else []
    places = zip(numbers or range(1, len(found) + 1), found, strict=True)
    wanted = None if only is None else set(only)
    return {
        int(number): where
        for number, where in places
        if where is not None and (wanted is None or number in wanted)
    }
