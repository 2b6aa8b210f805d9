"""What is known of the sets, and which images train: the same on every machine."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_pisam.images.mask_files import MaskKind


@dataclass(frozen=True)
class SetFacts:
    """What is known of a set beside its pictures.

    Attributes
    ----------
    kind : {"binary", "instances", "classes"}, optional
        What the numbers of its masks mean; ``None``: to be told from the masks.
    validation_only : bool
        Never in trained weights.
    images : str, optional
        Sets of the same value hold the same pictures, and are split together, by stem.
    one_specimen : bool
        Sections or tiles of one thing, which stay in one part.
    thin_classes : frozenset of int
        Classes of lines a few px wide (1 where a mask is binary).
    coarse_classes : frozenset of int
        Classes whose outlines are too coarse to measure boundaries on.
    group : str, optional
        Regular expression whose first group names what images of one specimen, video or warped
        copy have in common in their stems.
    """

    kind: MaskKind | None = None
    validation_only: bool = False
    images: str | None = None
    one_specimen: bool = False
    thin_classes: frozenset[int] = frozenset()
    coarse_classes: frozenset[int] = frozenset()
    group: str | None = None


def _classes(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


KNOWN: Mapping[str, SetFacts] = {
    "aerial_solar": SetFacts(group=r"(\d+)$"),
    "axon_sem_axons": SetFacts(images="axon_sem", group=r"^(sub-[a-z]+\d+)"),
    "axon_sem_myelin": SetFacts(
        images="axon_sem", thin_classes=_classes(1), group=r"^(sub-[a-z]+\d+)"
    ),
    "bn_flakes": SetFacts(validation_only=True),
    "carotid_ultrasound": SetFacts(group=r"^(.+?)_slice"),
    "coffee_leaf": SetFacts(images="coffee", coarse_classes=_classes(1)),
    "coffee_leaf_lesions": SetFacts(images="coffee", coarse_classes=_classes(1)),
    "concrete_damage": SetFacts(thin_classes=_classes(1, 2)),
    "embryos": SetFacts(validation_only=True),
    "flood_water": SetFacts(group=r"(\d+)$"),
    "lumbar_mri": SetFacts(group=r"^(\d+)_"),
    "mushrooms": SetFacts(validation_only=True),
    "nasa_ebc": SetFacts(thin_classes=_classes(2), group=r"^(.+)\d{4}$"),
    "nasa_superalloy": SetFacts(group=r"^(.+)_\d+$"),
    "nuinsseg_oesophagus": SetFacts(group=r"(\d+)$"),
    "octa_faz": SetFacts(group=r"(\d+)$"),
    "pebbles": SetFacts(group=r"^(fh_\d+_P\d+)"),
    "pfc_neurons": SetFacts(thin_classes=_classes(1)),
    "pv_el_cells": SetFacts(group=r"^(.+)_\d+$"),
    "road_damage": SetFacts(thin_classes=_classes(2)),
    "satellite_forest": SetFacts(group=r"(\d+)$"),
    "wild_animals": SetFacts(validation_only=True),
}
"""What ``sets.toml`` does not say of the older sets, and what stems say of specimens."""


class FactsTable(Mapping[str, SetFacts]):
    """Facts by set; of a set that nobody knows, nothing is known."""

    def __init__(self, facts: Mapping[str, SetFacts] = KNOWN) -> None:
        self._facts = dict(facts)

    def __getitem__(self, name: str) -> SetFacts:
        """Return the facts of any set."""
        return self._facts.get(name, SetFacts())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the known sets."""
        return iter(self._facts)

    def __len__(self) -> int:
        """Count the known sets."""
        return len(self._facts)

    def family(self, name: str) -> str:
        """Name that all sets of the same pictures share."""
        return self[name].images or name

    def group(self, family: str) -> str | None:
        """Pattern of what related images of a family share in their stems."""
        groups = {facts.group for name, facts in self.items() if self.family(name) == family}
        return next((group for group in groups if group is not None), None)

    @property
    def validation_only(self) -> frozenset[str]:
        """Sets that are never in trained weights."""
        return frozenset(name for name, facts in self.items() if facts.validation_only)


def read_facts(root: Path) -> FactsTable:
    """Read ``ROOT/sets.toml``, on top of what is known here.

    Parameters
    ----------
    root : Path
        Folder of the data; without ``sets.toml`` only what is known here counts.

    Raises
    ------
    ValueError
        If the file is not what it should be.
    """
    path = root / "sets.toml"
    facts = dict(KNOWN)
    if not path.is_file():
        return FactsTable(facts)
    try:
        for name, row in tomllib.loads(path.read_text(encoding="utf-8")).items():
            facts[name] = _from_row(row, KNOWN.get(name, SetFacts()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be used ({error}). Expected a table per set with kind (binary, "
            "instances or classes) and use (training or validation)."
        ) from error
    return FactsTable(facts)


def _from_row(row: Mapping[str, Any], known: SetFacts) -> SetFacts:
    if row["use"] not in ("training", "validation"):
        raise ValueError(f"use is {row['use']!r}")
    kind = row["kind"]
    if kind not in ("binary", "instances", "classes"):
        raise ValueError(f"kind is {kind!r}")
    thin = frozenset(row.get("thin_classes", known.thin_classes))
    if row.get("thin") and not thin and kind == "binary":
        thin = frozenset({1})
    return replace(
        known,
        kind=kind,
        validation_only=known.validation_only or row["use"] == "validation",
        images=row.get("images", known.images),
        one_specimen=row.get("one_specimen", False),
        thin_classes=thin,
        coarse_classes=frozenset(row.get("coarse_classes", known.coarse_classes)),
    )


def split_images(
    names: Iterable[str],
    validation_fraction: float = 0.2,
    seed: int = 0,
    group: str | None = None,
) -> tuple[list[str], list[str]]:
    """Split image names into training and validation, the same way every time.

    Parameters
    ----------
    names : iterable of str
        Stems; order and repetitions do not matter.
    validation_fraction : float
        Share of the images to hold out, 0 to 1; reached as nearly as whole groups allow.
    seed : int
        Another seed, another split.
    group : str, optional
        Regular expression whose first group names what related images share; they stay together.

    Returns
    -------
    training, validation : list of str
        Sorted stems. With two groups or more and a fraction above 0, neither is empty.

    Raises
    ------
    ValueError
        If the fraction is not in [0, 1).
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}; expected 0 <= f < 1")
    members: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        match = re.search(group, name) if group else None
        members.setdefault(match.group(1) if match else name, []).append(name)
    order = sorted(members, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    total = sum(len(stems) for stems in members.values())
    target = validation_fraction * total
    held: list[str] = []
    for key in order:
        if len(held) + len(members[key]) <= 1.25 * target:
            held += members[key]
        if len(held) >= target:
            break
    if not held and target > 0 and len(members) > 1:
        held = list(members[min(order, key=lambda key: len(members[key]))])
    chosen = set(held)
    training = [name for stems in members.values() for name in stems if name not in chosen]
    return sorted(training), sorted(chosen)
