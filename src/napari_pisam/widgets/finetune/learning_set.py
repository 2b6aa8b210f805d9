"""What is learned from: images, their objects, and the part that each object has. No Qt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_pisam.widgets.finetune.core import Core

NOTHING = (
    "There is nothing to learn from yet. Commit objects in Segment, or add layers or folders above."
)


class LearningSet:
    """The table of objects, and what the user decided about it.

    Parameters
    ----------
    core : Core
        Splits and checks.

    Attributes
    ----------
    changed : Signal()
        Objects, or their parts.
    images : dict of str to SourceImage
        By name.
    rows : list of ObjectRow
        In the order of the images.
    fraction : float
        Share that validates.
    revision : int
        Grows with every change.
    problem : str
        Why there cannot be a split; empty where there is one.
    """

    changed = Signal()

    def __init__(self, core: Core) -> None:
        self._core = core
        self.images: dict[str, Any] = {}
        self._listed: dict[str, list[Any]] = {}
        self._chosen: dict[tuple[str, int], str] = {}
        self.rows: list[Any] = []
        self.fraction, self._seed = 0.25, 0
        self.revision, self.problem = 0, NOTHING

    def names_for(self, images: Sequence[Any]) -> list[Any]:
        """Give images names that no other image has; layers replace what came from them before."""
        named, taken = [], set()
        for image in images:
            name, number = image.name, 2
            while name in taken or (name in self.images and not self._replaces(image, name)):
                name, number = f"{image.name} ({number})", number + 1
            taken.add(name)
            named.append(image if name == image.name else replace(image, name=name))
        return named

    def _replaces(self, image: Any, name: str) -> bool:
        # A layer's name is the layer; two folders may hold files of the same name.
        return "folder" not in (image.origin, self.images[name].origin)

    def add(self, images: Iterable[Any], rows: Iterable[Any]) -> None:
        """Take images with their objects; those of the same name are replaced."""
        for image in images:
            self.images[image.name] = image
            self._listed[image.name] = []
        for row in rows:
            self._listed[row.image].append(row)
        self._split()

    def remove(self, names: Iterable[str]) -> None:
        """Forget images and what was decided about their objects."""
        gone = set(names) & set(self.images)
        for name in gone:
            del self.images[name], self._listed[name]
        self._chosen = {key: part for key, part in self._chosen.items() if key[0] not in gone}
        self._split()

    def set_fraction(self, fraction: float) -> None:
        """Choose how much validates; what was decided by hand stays."""
        if fraction != self.fraction:
            self.fraction = fraction
            self._split()

    def split_again(self) -> None:
        """Draw another split, and forget what was decided by hand."""
        self._seed += 1
        self._chosen.clear()
        self._split()

    def set_part(self, places: Iterable[int], part: str) -> None:
        """Give the objects in these lines of the table a part; too small ones stay unused."""
        for place in places:
            row = self.rows[place]
            if not row.note:
                self._chosen[row.image, row.label] = part
                self.rows[place] = replace(row, part=part)
        self._tell()

    def _split(self) -> None:
        rows = [row for found in self._listed.values() for row in found]
        self.problem = "" if rows else NOTHING
        if rows:
            try:
                rows = self._core.split(rows, self.fraction, self._seed)
            except ValueError as error:
                self.problem = str(error)
        if self._chosen:
            rows = [
                replace(row, part=self._chosen.get((row.image, row.label), row.part))
                for row in rows
            ]
        self.rows = rows
        self._tell()

    def _tell(self) -> None:
        self.revision += 1
        self.changed.emit()

    @property
    def problems(self) -> list[str]:
        """Why nothing can be learned from this; empty where it can."""
        return [self.problem] if self.problem else self._core.check_split(self.rows)

    @property
    def used_images(self) -> list[Any]:
        """The images of which an object is used."""
        names = {row.image for row in self.rows if row.part != "unused"}
        return [image for name, image in self.images.items() if name in names]

    @property
    def summary(self) -> str:
        """How many objects have which part, for people."""
        if not self.rows:
            return NOTHING
        counts = dict.fromkeys(("training", "validation", "unused"), 0)
        for row in self.rows:
            counts[row.part] += 1
        text = f"{counts['training']} train, {counts['validation']} validate"
        if counts["unused"]:
            text += f", {counts['unused']} left out"
        images = len(self.images)
        return f"{text} · {images} image{'s' if images > 1 else ''}"
