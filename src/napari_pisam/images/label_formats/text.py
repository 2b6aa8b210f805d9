"""Text files that others wrote: read with their size checked, and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.json_reader import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST_TEXT = 1 << 30
"""Largest text file that is read, bytes."""


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises
    ------
    ValueError
        If there is none, it is too large, or it is not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise ValueError(f"{path} has {size} bytes; expected at most {LARGEST_TEXT}. Split it.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        If it is none.
    """
    content = parse(read_text(path), str(path)).value
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected an object.")
    return content


def rings_from_flat(polygons: Sequence[Sequence[float]]) -> list[NDArray[np.float64]]:
    """Turn lists of x, y, x, y, ... into (N, 2) arrays of (row, col).

    Raises
    ------
    ValueError
        If a list has an odd number of values, or one is not finite.
    """
    rings = []
    for polygon in polygons:
        values = np.asarray(polygon, dtype=np.float64)
        if values.ndim != 1 or len(values) % 2 or not np.isfinite(values).all():
            raise ValueError("a polygon is not a list of finite x, y, x, y, ...")
        rings.append(values.reshape(-1, 2)[:, ::-1])
    return rings


def given_shape(shape: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    """Return the (H, W) of the picture, for formats that do not say it.

    Raises
    ------
    ValueError
        If it was not given.
    """
    if shape is None:
        raise ValueError(f"{path} does not say how large its picture is: give the picture, too.")
    return shape
