"""Which objects a mask file holds, and which of a system's saved pixels are meant by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.crops import extent
from napari_pisam.images.mask_files import connected_parts, foreground
from napari_pisam.measure.metrics import as_mask, check_pair, iou

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_pisam.images.mask_files import MaskKind

Which = Literal["auto", "largest", "each", "whole"]
"""Which objects of a mask: "largest" one a mask; "each" instance or connected component;
"whole" each class (or all that is not 0) as one object; "auto": whole if binary, else largest."""


@dataclass(frozen=True)
class Target:
    """One object to be found.

    Attributes
    ----------
    label : int
        The number in the mask, or of the connected component; 0: all that is not 0.
    truth : (H, W) bool array
    part : {"whole", "class", "instance", "component"}
        What of the mask it is.
    """

    label: int
    truth: NDArray[np.bool_]
    part: Literal["whole", "class", "instance", "component"]


def to_probability(values: NDArray[Any]) -> NDArray[np.generic]:
    """Bool, or float in 0..1, from a saved mask or map: by the range of its integer type.

    Parameters
    ----------
    values : (H, W) array
        0 and 1 alone are a mask in any type.

    Raises
    ------
    ValueError
        If floats are outside 0..1.
    """
    if values.dtype == np.bool_:
        return values
    if values.dtype.kind in "iu":
        top = int(values.max()) if values.size else 0
        if top <= 1:
            return values > 0
        kept = np.unique(values)
        if kept.size <= 2:  # 0 and one more number: a mask, whatever the number
            return values > 0
        limit = 255 if top <= 255 else 65535 if top <= 65535 else top
        return values.astype(np.float64) / limit
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"A saved map of dtype {values.dtype} has values outside 0..1. Save probabilities, "
            "8-bit grey or labels."
        )
    return values.astype(np.float64)


def targets(
    mask: NDArray[Any], kind: MaskKind, which: Which = "auto", min_area: int = 30
) -> Iterator[Target]:
    """Find the objects of a mask, one at a time.

    Parameters
    ----------
    mask : (H, W) array
    kind : {"binary", "instances", "classes"}
    which : {"auto", "largest", "each", "whole"}
    min_area : int
        Smaller objects are left out, px.

    Yields
    ------
    Target
    """
    if which == "auto":
        which = "whole" if kind == "binary" else "largest"
    if which == "whole" and kind != "classes":
        truth = foreground(mask) if kind == "binary" else mask > 0
        if np.count_nonzero(truth) >= min_area:
            yield Target(0, truth, "whole")
        return
    if which == "whole":
        for value in np.unique(mask[mask > 0]):
            truth = mask == value
            if np.count_nonzero(truth) >= min_area:
                yield Target(int(value), truth, "class")
        return
    labels = mask
    if kind != "instances":
        labels = connected_parts(foreground(mask) if kind == "binary" else mask)
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    large = areas >= min_area
    numbers, areas = numbers[large], areas[large]
    if which == "largest":
        numbers = numbers[areas.argmax() : areas.argmax() + 1] if numbers.size else numbers
    for number in numbers:
        part: Literal["instance", "component"] = "instance" if kind == "instances" else "component"
        yield Target(int(number), labels == number, part)


def saved_object(saved: NDArray[Any], target: Target, kind: MaskKind) -> NDArray[np.generic]:
    """Find what a system saved for one object.

    Where the object is all that is not 0: the saved mask or map as it is. Where it is a class: the
    pixels of that number. Otherwise the saved label, or the connected component of a saved binary
    mask, that fits the object best.

    Parameters
    ----------
    saved : (H, W) array
        As read from the file.
    target : Target
    kind : {"binary", "instances", "classes"}
        What the true mask is.

    Returns
    -------
    (H, W) bool, or float in 0..1

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_pair(saved, target.truth)
    if target.part == "whole":
        return np.asarray(saved > 0) if kind == "instances" else to_probability(saved)
    if target.part == "class":
        return np.asarray(saved == target.label)
    has_labels = saved.dtype.kind in "iu" and np.unique(saved[saved > 0]).size > 1
    if kind == "instances" and has_labels:
        labels = saved
    elif kind == "classes" and has_labels:
        labels = connected_parts(saved)
    else:
        labels = connected_parts(as_mask(to_probability(saved)))
    return best_label(labels, target.truth)


def best_label(labels: NDArray[Any], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the label with the largest IoU with `truth`; none where none overlaps."""
    window = extent(truth)
    if window is None:
        return np.zeros_like(truth)
    touched = np.unique(labels[window][truth[window]])
    candidates = [labels == number for number in touched[touched > 0]]
    if not candidates:
        return np.zeros_like(truth)
    return max(candidates, key=lambda candidate: iou(candidate, truth))
