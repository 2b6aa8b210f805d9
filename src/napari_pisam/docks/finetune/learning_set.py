"""What is learned from: images, their objects, and the part that each object has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from napari_pisam.docks.finetune.backend import TrainingBackend
    from napari_pisam.docks.jobs import StartJob

    _Chosen: TypeAlias = dict[tuple[str, int], str]

NOTHING = (
    "There is nothing to learn from yet. Commit objects in Segment, or add layers or folders above."
)
WAIT = "The objects are being divided into those that train and those that validate. Wait a moment."

# More would be felt in the interface (70,000 take 0.2 s and more): a worker divides them.
_MANY = 5000


class LearningSet:
    """The table of objects, and what the user decided about it.

    Parameters
    ----------
    backend : TrainingBackend
        Splits and checks.
    start_job : StartJob
        Divides many objects in a worker; `rows` are those of before until it is done.

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
    is_dividing : bool
        Whether a worker finds out which part each object has.
    """

    changed = Signal()

    def __init__(self, backend: TrainingBackend, start_job: StartJob) -> None:
        self._backend, self._start_job = backend, start_job
        self._turn, self.is_dividing = 0, False
        self.images: dict[str, Any] = {}
        self._listed: dict[str, list[Any]] = {}
        self._chosen: _Chosen = {}
        # What the user decided since, not yet among the chosen ones.
        self._decided: list[tuple[list[Any], str]] = []
        self.rows: list[Any] = []
        self.fraction, self._seed = 0.25, 0
        self.revision, self.problem = 0, NOTHING

    def names_for(self, images: Sequence[Any]) -> list[Any]:
        """Find names that no other image has; layers replace what came from them before."""
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
        self._decided = [
            ([row for row in rows if row.image not in gone], part) for rows, part in self._decided
        ]
        self._split()

    def set_fraction(self, fraction: float) -> None:
        """Choose how much validates; what was decided by hand stays."""
        if fraction != self.fraction:
            self.fraction = fraction
            self._split()

    def split_again(self) -> None:
        """Draw another split, and forget what was decided by hand."""
        self._seed += 1
        self._chosen = {}
        self._decided.clear()
        self._split()

    def set_part(self, places: Iterable[int], part: str) -> None:
        """Decide what these lines of the table are used for; too small objects stay unused."""
        rows = [row for row in map(self.rows.__getitem__, places) if not row.note]
        self._decided.append((rows, part))
        self._split()

    def _split(self) -> None:
        """Divide all objects: as the user decided, or else as the split says."""
        self._turn += 1
        turn, fraction, seed = self._turn, self.fraction, self._seed
        chosen, decided = self._chosen, tuple(self._decided)
        rows = [row for found in self._listed.values() for row in found]

        def job(_report: Any, _cancelled: Any) -> tuple[list[Any], str, _Chosen]:
            merged = _merged(chosen, decided)
            return *_divide(self._backend, rows, fraction, seed, merged), merged

        def done(result: tuple[list[Any], str, _Chosen]) -> None:
            if turn == self._turn:  # else something was changed since, and is on its way
                self.is_dividing = False
                self.rows, self.problem, self._chosen = result
                self._decided.clear()
                self._tell()

        def failed(error: BaseException) -> None:
            done((rows, str(error), chosen))

        if len(rows) <= _MANY:
            done(job(None, None))
            return
        self.is_dividing = True
        self._tell()
        self._start_job("Pi-SAM: dividing objects", job, done, failed)

    def _tell(self) -> None:
        self.revision += 1
        self.changed.emit()

    @property
    def problems(self) -> list[str]:
        """Why nothing can be learned from this; empty where it can."""
        if self.is_dividing:
            return [WAIT]
        return [self.problem] if self.problem else self._backend.check_split(self.rows)

    @property
    def used_images(self) -> list[Any]:
        """The images of which an object is used."""
        names = {row.image for row in self.rows if row.part != "unused"}
        return [image for name, image in self.images.items() if name in names]

    @property
    def summary(self) -> str:
        """How many objects have which part, for people."""
        if self.is_dividing:
            return WAIT
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


def _merged(chosen: _Chosen, decided: Iterable[tuple[list[Any], str]]) -> _Chosen:
    """Add to what was chosen what was decided since; the later counts."""
    found = dict(chosen)
    for rows, part in decided:
        found.update(dict.fromkeys([(row.image, row.label) for row in rows], part))
    return found


def _divide(
    backend: TrainingBackend, rows: list[Any], fraction: float, seed: int, chosen: _Chosen
) -> tuple[list[Any], str]:
    """Divide objects; return them, and why there is no split (empty where there is one)."""
    problem = "" if rows else NOTHING
    if rows:
        try:
            rows = backend.split(rows, fraction, seed)
        except ValueError as error:
            problem = str(error)
    if chosen:
        parts = [chosen.get((row.image, row.label), row.part) for row in rows]
        rows = [
            row if row.part == part else replace(row, part=part)
            for row, part in zip(rows, parts, strict=True)
        ]
    return rows, problem
