"""Folders of images, masks and saved predictions: which files belong together, and their pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_pisam.images.files import files_by_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MaskKind = Literal["binary", "instances", "classes"]

_TIFF = frozenset({".tif", ".tiff"})
_LOSSY = frozenset({".jpg", ".jpeg"})
# Names that say what a folder holds, not where it is from.
_PLAIN_NAMES = frozenset({"images", "image", "im", "imgs", "masks", "mask", "gt", "labels"})
# How many masks of a source are looked at to tell what its masks are.
_LOOKED_AT = 24


@dataclass(frozen=True)
class Sample:
    """One mask file, the image it belongs to, and what systems saved for it.

    Attributes
    ----------
    source, name : str
        Where it is from, and its name there.
    mask : Path
    kind : {"binary", "instances", "classes"}
        What the numbers in the mask mean.
    image : Path or None
    predictions : mapping of str to Path
        By system.
    """

    source: str
    name: str
    mask: Path
    kind: MaskKind = "binary"
    image: Path | None = None
    predictions: Mapping[str, Path] = field(default_factory=dict)


def list_files(folder: Path) -> dict[str, Path]:
    """Find the image files of a folder and of the folders in it.

    Returns
    -------
    dict of str to Path
        By the path inside the folder without its suffix, with "/" between the parts.

    Raises
    ------
    ValueError
        If the folder is missing, empty, or holds two files of one name.
    """
    files = files_by_name(folder)
    twice = [
        f"{one.name} and {other.name}" for paths in files.values() for one, other in pairwise(paths)
    ]
    if twice:
        raise ValueError(
            f"{folder} holds two files of one name: {'; '.join(twice)}. Keep one of each."
        )
    return {name: paths[0] for name, paths in files.items()}


def source_name(folder: Path) -> str:
    """Name a source by its folder, or by the one around it where that is called "masks"."""
    folder = folder.absolute()
    return folder.parent.name if folder.name.lower() in _PLAIN_NAMES else folder.name


def match_folders(
    masks: Path,
    images: Path | None = None,
    predictions: Mapping[str, Path] | None = None,
    only: Iterable[str] | None = None,
) -> list[Sample]:
    """Match the files of folders by their names.

    Parameters
    ----------
    masks : Path
        The masks; a folder in it is a source of its own.
    images : Path, optional
    predictions : mapping of str to Path, optional
        By system, the folder of its saved masks.
    only : iterable of str, optional
        Names to use (``name`` or ``source/name``); the others are left out. Saved masks are then
        needed for these only.

    Returns
    -------
    list of Sample
        All as "binary": what the masks are is found out by `with_kinds`.

    Raises
    ------
    ValueError
        Lists every name that one folder has and another has not.
    """
    sources, label = list_files(masks), source_name(masks)
    keys = [key for key in sources if only is None or _is_wanted(key, label, frozenset(only))]
    others: dict[str, dict[str, Path]] = {}
    if images is not None:
        others["image"] = list_files(images)
    for system, folder in (predictions or {}).items():
        others[f"mask of {system}"] = list_files(folder)
    problems = [
        f"{key}: no {what}" for key in keys for what, files in others.items() if key not in files
    ]
    if only is None:
        problems += [
            f"{key}: no mask ({what} only)"
            for what, files in others.items()
            for key in files
            if key not in sources
        ]
    if problems:
        raise ValueError(
            f"{len(problems)} name(s) do not match in {masks}: {'; '.join(problems)}. Every mask "
            "needs a file of the same name in each folder, whatever its suffix."
        )
    samples = []
    for key in keys:
        folder_name, _, _ = key.rpartition("/")
        samples.append(
            Sample(
                source=folder_name.split("/")[0] if folder_name else label,
                name=key,
                mask=sources[key],
                image=others["image"][key] if images is not None else None,
                predictions={
                    system: others[f"mask of {system}"][key] for system in predictions or {}
                },
            )
        )
    return samples


def _is_wanted(key: str, label: str, only: frozenset[str]) -> bool:
    return bool({key, f"{label}/{key}", key.rpartition("/")[2]} & only)


def spread(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` samples of each source, evenly over its names."""
    kept: list[Sample] = []
    for source in dict.fromkeys(sample.source for sample in samples):
        members = [sample for sample in samples if sample.source == source]
        places = np.linspace(0, len(members) - 1, min(limit, len(members))).round().astype(int)
        kept += [members[place] for place in places]
    return kept


# -- pixels -----------------------------------------------------------------------------------


def read_mask(path: Path) -> NDArray[Any]:
    """Read a mask, or a map of probabilities, as it was saved.

    Returns
    -------
    (H, W) array of bool, integers or floats
        The numbers of a palette image are its indices.

    Raises
    ------
    ValueError
        If it cannot be read, or is not one number a pixel.
    """
    try:
        values = _read_tiff(path) if path.suffix.lower() in _TIFF else _read_picture(path)
    except (OSError, ValueError, SyntaxError, RuntimeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Check that it is whole, or save it anew."
        ) from error
    if values.ndim == 3 and (values.shape[2] == 1 or (values == values[..., :1]).all()):
        values = values[..., 0]
    if values.ndim != 2:
        raise ValueError(
            f"{path} has shape {values.shape}, expected one number a pixel, (rows, cols). Save "
            "labels, not colours."
        )
    return values


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    return np.squeeze(np.asarray(tifffile.imread(path)))


def _read_picture(path: Path) -> NDArray[Any]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as picture:
                if picture.mode in {"LA", "La"}:
                    return np.asarray(picture.getchannel("L"))
                if picture.mode == "RGBA":
                    return np.asarray(picture.convert("RGB"))
                return np.asarray(picture)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"{error}; save it as TIFF") from error


def infer_kind(masks: Iterable[tuple[NDArray[Any], bool]]) -> MaskKind:
    """Tell what the numbers of a source's masks mean.

    One number besides 0, or soft edges of one object in 8 bits: binary. At most 8 numbers, none
    above 16: classes. Otherwise instances.

    Parameters
    ----------
    masks : iterable of ((H, W) array, bool)
        Masks, and whether each is of a format that blurs numbers.
    """
    values: set[int] = set()
    for mask, is_lossy in masks:
        if mask.dtype == np.bool_ or mask.dtype.kind == "f" or is_lossy:
            continue
        found, counts = np.unique(mask[mask > 0], return_counts=True)
        if found.size == 0 or found.size == 1:
            # 1 in one file and 255 in another mean the same.
            values |= {int(value) for value in found if 1 < value < 255}
            continue
        soft = mask.dtype == np.uint8 and found[-1] == 255 and 2 * counts[-1] >= counts.sum()
        if not soft:
            values |= {int(value) for value in found}
    if len(values) <= 1:
        return "binary"
    return "classes" if len(values) <= 8 and max(values) <= 16 else "instances"


def with_kinds(samples: Sequence[Sample], kind: MaskKind | None = None) -> list[Sample]:
    """Say of every sample what its mask is, the same for all of a source.

    Parameters
    ----------
    samples : sequence of Sample
    kind : {"binary", "instances", "classes"}, optional
        For all; told from some masks of each source by default.

    Raises
    ------
    ValueError
        If a mask cannot be read.
    """
    if kind is not None:
        return [replace(sample, kind=kind) for sample in samples]
    kinds = {}
    for source in dict.fromkeys(sample.source for sample in samples):
        members = [sample for sample in samples if sample.source == source]
        kinds[source] = infer_kind(
            (read_mask(sample.mask), sample.mask.suffix.lower() in _LOSSY)
            for sample in spread(members, _LOOKED_AT)
        )
    return [replace(sample, kind=kinds[sample.source]) for sample in samples]
