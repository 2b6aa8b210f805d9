"""What is learned from: images, their objects, and the part that each object has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from psygnal import Signal

from napari_pisam.docks.finetune.texts import failure_text
from napari_pisam.docks.jobs import Activity
from napari_pisam.layers.training import take_pair, take_session
from napari_pisam.learn.finetune.parts import check_split, split
from napari_pisam.learn.finetune.sources import from_folders, list_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from napari_pisam.docks.jobs import Cancelled, Report, StartJob
    from napari_pisam.learn.finetune.parts import ObjectRow, Part
    from napari_pisam.learn.finetune.sources import SourceImage

NOTHING = (
    "There is nothing to learn from yet. Commit objects in Segment, or add layers or folders above."
)
NOTHING_COMMITTED = (
    "Nothing is committed in Segment yet. Correct some objects there and commit them, or add "
    "layers or folders."
)


class SegmentLink(Protocol):
    """What the dock asks of *Segment*, which may not be open."""

    def sessions(self) -> list[tuple[Any, Any, Any]]:
        """List (image layer, plane, session) of every plane that was worked on."""

    def use(self, weights: Path, device: str) -> bool:
        """Load another model, unless one is being loaded; prompts and labels stay."""


class LearningSet:
    """The table of objects, and what the user decided about it.

    Layers are looked at at once, labels are read in a worker.

    Parameters
    ----------
    start_job : StartJob
        Reads labels in a worker.

    Attributes
    ----------
    changed : Signal()
        Objects, or their parts.
    failed, hinted : Signal(str)
        A sentence that the user has to see, or that is good to know.
    activity : Activity
        The reading of labels.
    images : dict of str to SourceImage
        By name.
    rows : list of ObjectRow
        In the order of the images.
    fraction : float
        Share that validates.
    """

    changed = Signal()
    failed = Signal(str)
    hinted = Signal(str)

    def __init__(self, start_job: StartJob) -> None:
        self.activity = Activity(start_job, failure_text)
        self.activity.failed.connect(self.failed.emit)
        self.images: dict[str, SourceImage] = {}
        self._listed: dict[str, list[ObjectRow]] = {}
        self._folders: dict[tuple[Path, Path], list[str]] = {}
        # What the user decided, by image and label.
        self._chosen: dict[tuple[str, int], Part] = {}
        self.rows: list[ObjectRow] = []
        self.fraction, self._seed = 0.25, 0
        self._problem = NOTHING

    # -- from layers, folders and Segment -----------------------------------------------------

    def add_session(self, link: SegmentLink | None, *, is_asked: bool = True) -> None:
        """Take what was committed in *Segment*.

        Parameters
        ----------
        link : SegmentLink or None
        is_asked : bool
            Whether the user wants it, and is to be told where there is nothing.
        """
        images = []
        try:
            for image, plane, session in [] if link is None else link.sessions():
                source = take_session(image, plane, session)
                if source is not None:
                    images.append(source)
        except ValueError as error:
            self.failed.emit(str(error))
            return
        if images:
            self._read("Reading what was committed", lambda _cancelled: (images, []))
        elif is_asked:
            self.hinted.emit(NOTHING_COMMITTED)

    def add_layers(self, image: Any, labels: Any, dims: Any, *, all_slices: bool = False) -> None:
        """Take an image layer with the Labels layer that belongs to it."""
        if image is None or labels is None:
            self.hinted.emit("Choose an image layer and the Labels layer that belongs to it.")
            return
        try:
            pair = take_pair(image, labels, dims, all_slices=all_slices)
        except ValueError as error:
            self.failed.emit(str(error))
            return
        self._read(f"Reading {labels.name}", lambda cancelled: (pair.sources(cancelled), []))

    def add_folders(self, images: Path, masks: Path) -> None:
        """Take a folder of images and one of masks of the same names."""
        folders = (images, masks)
        self.remove(self._folders.pop(folders, []))

        def remember(names: list[str]) -> None:
            self._folders[folders] = names

        self._read(f"Reading {masks.name}", lambda _: from_folders(images, masks), remember)

    def _read(
        self,
        title: str,
        collect: Callable[[Cancelled], tuple[list[SourceImage], list[str]]],
        remember: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        if self.activity.is_busy:
            self.hinted.emit("Other labels are being read. Wait for them.")
            return

        def job(_report: Report, cancelled: Cancelled) -> Any:
            found, notes = collect(cancelled)
            images = self._named(found)
            rows = [] if cancelled() else list_objects(images, cancel=cancelled)
            return None if cancelled() else (images, rows, notes)

        def done(result: Any) -> None:
            if result is None:
                return
            images, rows, notes = result
            remember([image.name for image in images])
            self.add(images, rows)
            if notes:
                self.hinted.emit(" ".join(notes))

        self.activity.begin(title, job, done)

    def _named(self, images: Sequence[SourceImage]) -> list[SourceImage]:
        """Find names that no other image has; layers replace what came from them before."""
        named, taken = [], set[str]()
        for image in images:
            name, number = image.name, 2
            while name in taken or (name in self.images and not self._replaces(image, name)):
                name, number = f"{image.name} ({number})", number + 1
            taken.add(name)
            named.append(image if name == image.name else replace(image, name=name))
        return named

    def _replaces(self, image: SourceImage, name: str) -> bool:
        # A layer's name is the layer; two folders may hold files of the same name.
        return "folder" not in (image.origin, self.images[name].origin)

    def add(self, images: Iterable[SourceImage], rows: Iterable[ObjectRow]) -> None:
        """Take images with their objects; those of the same name are replaced."""
        for image in images:
            self.images[image.name] = image
            self._listed[image.name] = []
        for row in rows:
            self._listed[row.image].append(row)
        self._split()

    # -- what the user decides ----------------------------------------------------------------

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
        self._chosen = {}
        self._split()

    def set_part(self, places: Iterable[int], part: Part) -> None:
        """Decide what these lines of the table are used for; too small objects stay unused."""
        rows = [row for row in map(self.rows.__getitem__, places) if not row.note]
        self._chosen.update(dict.fromkeys([(row.image, row.label) for row in rows], part))
        self._split()

    def _split(self) -> None:
        """Divide all objects: as the user decided, or else as the split says."""
        rows = [row for found in self._listed.values() for row in found]
        self._problem = "" if rows else NOTHING
        if rows:
            try:
                rows = split(rows, self.fraction, self._seed)
            except ValueError as error:
                self._problem = str(error)
        if self._chosen:
            parts = [self._chosen.get((row.image, row.label), row.part) for row in rows]
            rows = [
                row if row.part == part else replace(row, part=part)
                for row, part in zip(rows, parts, strict=True)
            ]
        self.rows = rows
        self.changed.emit()

    # -- what there is ------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """Why nothing can be learned from this; empty where it can."""
        return [self._problem] if self._problem else check_split(self.rows)

    @property
    def used_images(self) -> list[SourceImage]:
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
