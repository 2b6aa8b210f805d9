"""Which files are evaluated: masks, their images, and what systems saved for them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.images.folders import match_files, source_name
from napari_pisam.images.mask_files import infer_kind, open_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_pisam.images.mask_files import MaskKind

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
    label, chosen = source_name(masks), None if only is None else frozenset(only)
    others = {} if images is None else {"image": images}
    others |= {f"mask of {system}": folder for system, folder in (predictions or {}).items()}
    wanted = None if chosen is None else partial(_is_wanted, label=label, only=chosen)
    samples = []
    for key, mask, files in match_files(masks, others, wanted):
        folder_name, _, _ = key.rpartition("/")
        samples.append(
            Sample(
                source=folder_name.split("/")[0] if folder_name else label,
                name=key,
                mask=mask,
                image=files.get("image"),
                predictions={system: files[f"mask of {system}"] for system in predictions or {}},
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


def with_kinds(samples: Sequence[Sample], kind: MaskKind | None = None) -> list[Sample]:
    """Say of every sample what its mask is, the same for all of a source.

    Parameters
    ----------
    samples : sequence of Sample
    kind : {"binary", "instances", "classes"}, optional
        For all; told from some masks of each source by default.

    """
    if kind is not None:
        return [replace(sample, kind=kind) for sample in samples]
    kinds = {}
    for source in dict.fromkeys(sample.source for sample in samples):
        members = [sample for sample in samples if sample.source == source]
        kinds[source] = infer_kind(_numbers(spread(members, _LOOKED_AT)))
    return [replace(sample, kind=kinds[sample.source]) for sample in samples]


def _numbers(samples: Iterable[Sample]) -> Iterator[tuple[NDArray[Any], bool]]:
    for sample in samples:
        # What cannot be read is named when it is its turn.
        with contextlib.suppress(ValueError, OSError), open_mask(sample.mask) as mask:
            yield mask.read(), mask.is_lossy
