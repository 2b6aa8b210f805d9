"""A fixed list of objects to measure on, so that numbers can be compared over the years."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_pisam.images.files import replacing
from recipes.tiny.synthetic import KINDS, generate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from recipes.tiny.store import SetImage

Part = Literal["compact", "class", "network"]
"""One connected piece or instance; all pieces of a class; a net of thin lines, whole."""

LEAST_AREA = 50
"""Smallest object that is measured, px of the image."""

_COLUMNS = ("source", "image", "object", "part", "area", "rank")


@dataclass(frozen=True)
class FixedObject:
    """One object of a stored image.

    Attributes
    ----------
    source, image : str
        Set and stem.
    object : int
        Its entry in `SetImage.ids`: a label, or a class as a negative number.
    part : {"compact", "class", "network"}
    area : int
        In px; tells whether the mask is still what it was.
    rank : int
        Place among the objects of the same source and part: fewer objects are the first ones.
    """

    source: str
    image: str
    object: int
    part: Part
    area: int
    rank: int

    def index_in(self, item: SetImage) -> int:
        """Place of the object in an image's `ids`.

        Raises
        ------
        ValueError
            If the image does not hold the object any more.
        """
        places = np.flatnonzero(item.ids == self.object)
        if len(places) != 1 or int(item.areas[places[0]]) != self.area:
            raise ValueError(
                f"{self.source}/{self.image} has no object {self.object} of {self.area} px. The "
                "list of objects belongs to other masks: choose a new one."
            )
        return int(places[0])


def part_of(item: SetImage, index: int) -> Part:
    """Tell what kind of object an entry of an image's `ids` is."""
    which = int(item.ids[index])
    if item.class_of(which) in item.thin_classes:
        return "network"
    return "class" if which < 0 else "compact"


def choose_objects(
    images: Iterable[SetImage], counts: Mapping[Part, int], seed: int = 0
) -> list[FixedObject]:
    """Choose objects of every source: from as many images as possible, the same every time.

    A network is taken as a whole: its pieces are no objects of their own.

    Parameters
    ----------
    images : iterable of SetImage
        None of them trained on.
    counts : mapping of part to int
        How many of each, at most.
    seed : int
        Another seed, other objects.
    """
    by_source: dict[str, list[SetImage]] = {}
    for item in images:
        by_source.setdefault(item.source, []).append(item)
    chosen: list[FixedObject] = []
    for source, items in sorted(by_source.items()):
        for part, count in counts.items():
            chosen += _of_source(source, items, part, count, seed)
    return chosen


def _of_source(
    source: str, items: Sequence[SetImage], part: Part, count: int, seed: int
) -> list[FixedObject]:
    digest = hashlib.sha256(f"{seed}:{source}:{part}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    waiting: list[tuple[SetImage, list[int]]] = []
    for item in sorted(items, key=lambda item: item.name):
        pool = [
            index
            for index in range(len(item.ids))
            if item.areas[index] >= LEAST_AREA and part_of(item, index) == part
        ]
        if part == "network" and any(item.ids[index] < 0 for index in pool):
            pool = [index for index in pool if item.ids[index] < 0]
        if pool:
            weights = item.areas[pool].astype(np.float64) ** 0.25
            order = rng.choice(len(pool), len(pool), replace=False, p=weights / weights.sum())
            waiting.append((item, [pool[place] for place in order]))
    waiting = [waiting[place] for place in rng.permutation(len(waiting))]
    found: list[FixedObject] = []
    turn = 0
    while len(found) < count and any(turn < len(pool) for _, pool in waiting):
        for item, pool in waiting:
            if turn < len(pool) and len(found) < count:
                index, rank = pool[turn], len(found)
                size = int(item.areas[index])
                found.append(FixedObject(source, item.name, int(item.ids[index]), part, size, rank))
        turn += 1
    return found


def write_objects(path: Path, objects: Iterable[FixedObject]) -> None:
    """Write a list as CSV."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(one) for one in objects)


def read_objects(path: Path) -> list[FixedObject]:
    """Read a list that `write_objects` wrote.

    Raises
    ------
    ValueError
        If the file is not such a list.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_read(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a list of objects ({error}); expected the columns "
            f"{', '.join(_COLUMNS)}."
        ) from error


def _read(row: Mapping[str, str]) -> FixedObject:
    part = row["part"]
    for known in get_args(Part):
        if part == known:
            numbers = (int(row[name]) for name in ("area", "rank"))
            return FixedObject(row["source"], row["image"], int(row["object"]), known, *numbers)
    raise ValueError(f"a part is {part!r}, expected one of {', '.join(get_args(Part))}")


GENERATED_SIDE = 512
"""Side of the generated images that are measured on, px."""

_NETS = frozenset(
    {"filaments", "network", "vessels", "membranes", "mesh", "cracks", "vessel_tree", "roots"}
)


def generated_object(kind: str, rank: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Part]:
    """Draw an image of a family, and one of its objects; the same every time.

    A net of thin lines is taken as a whole.

    Parameters
    ----------
    kind : str
        One of `synthetic.KINDS`.
    rank : int
        Which.

    Returns
    -------
    pixels : (512, 512) or (512, 512, 3) uint8
    truth : (512, 512) bool
    part : {"compact", "network"}
    """
    # No training sample has a seed of this form.
    rng = np.random.default_rng([1009, KINDS.index(kind), rank])
    while True:
        pixels, labels = generate(kind, GENERATED_SIDE, rng)
        if kind in _NETS:
            return pixels, labels > 0, "network"
        areas = np.bincount(labels.ravel())
        large = np.flatnonzero(areas >= LEAST_AREA)
        large = large[large > 0]
        if len(large):
            weights = areas[large] ** 0.25
            return pixels, labels == rng.choice(large, p=weights / weights.sum()), "compact"
