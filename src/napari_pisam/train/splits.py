"""Which images train and which validate: from their names alone, the same on every machine."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VALIDATION_ONLY = frozenset({"mushrooms", "embryos", "bn_flakes", "wild_animals"})
"""Sets whose licence rests on their uploader's word alone: never in trained weights."""

FAMILIES: Mapping[str, str] = {
    "axon_sem_axons": "axon_sem_myelin",
    "coffee_leaf_lesions": "coffee_leaf",
}
"""Sets that hold the same pictures as another set: they are split together, by stem."""

NETWORKS: Mapping[str, frozenset[int]] = {
    "axon_sem_myelin": frozenset({1}),
    "pfc_neurons": frozenset({1}),
    "road_damage": frozenset({2}),
    "concrete_damage": frozenset({1, 2}),
    "nasa_ebc": frozenset({2}),
}
"""Classes of thin lines (1 where a mask is binary): myelin, neurites, cracks, rebar, cracks."""

COARSE_OUTLINES = frozenset({"coffee_leaf", "coffee_leaf_lesions"})
"""Sets whose outlines were drawn too coarsely to measure boundaries on."""

GROUPS: Mapping[str, str] = {
    "aerial_solar": r"(\d+)$",
    "flood_water": r"(\d+)$",
    "nuinsseg_oesophagus": r"(\d+)$",
    "satellite_forest": r"(\d+)$",
    "octa_faz": r"(\d+)$",
    "carotid_ultrasound": r"^(.+?)_slice",
    "lumbar_mri": r"^(\d+)_",
    "nasa_superalloy": r"^(.+)_\d+$",
    "nasa_ebc": r"^(.+)\d{4}$",
    "pebbles": r"^(fh_\d+_P\d+)",
    "axon_sem_myelin": r"^(sub-[a-z]+\d+)",
}
"""Per set, what images of one specimen, video or warped copy have in common in their stems."""


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
