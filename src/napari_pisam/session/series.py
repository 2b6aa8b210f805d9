"""Many images, one after the other: which there are, how far each is, and where its labels go.

What is done is kept in one small file beside the labels, so that somebody who comes back, also on
another computer, goes on where he was.
"""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pisam.images.addresses import ImageAddress, find_images, folder_of
from napari_pisam.images.files import replacing
from napari_pisam.images.json_reader import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_pisam.images.image_files import ImageFile
    from napari_pisam.images.json_reader import Node

STATE_FILE = "series.json"
SESSIONS = "sessions"
_FORMAT, _VERSION = "napari-pisam series", 1
_MOST_JSON = 64 << 20


class State(StrEnum):
    """How far an image is."""

    UNTOUCHED = "untouched"
    BEGUN = "begun"
    DONE = "done"
    SKIPPED = "skipped"


class Series:
    """Images in an order, with a state each.

    Parameters
    ----------
    sources : str, Path or sequence of them
        Files, folders, patterns such as ``"plate*/*.tif"``, OME-Zarr (plates too), files of
        several positions; see `find_images`.
    labels : str or Path, optional
        The folder for labels and for the state; by default ``labels`` beside the first image.
        Made when something is written.

    Attributes
    ----------
    images : tuple of ImageAddress
    labels : Path
    at : int
        The image that is, or was last, worked on; may be set.

    Raises
    ------
    ValueError
        If there is no image, two have one name, or the file of the state is damaged.

    Examples
    --------
    >>> series = pisam.Series("plate1/*.tif")  # doctest: +SKIP
    >>> for place in series.places(State.UNTOUCHED, State.BEGUN):  # doctest: +SKIP
    ...     with series.open(place) as image:
    ...         predictor.set_image(image.view())
    ...         series.write(place, predictor.predict(box=(40, 60, 300, 420)).to_array())
    """

    def __init__(
        self, sources: str | Path | Sequence[str | Path], labels: str | Path | None = None
    ) -> None:
        given = [sources] if isinstance(sources, (str, Path)) else list(sources)
        if labels is None and given:
            labels = folder_of(given[0]) / "labels"
        self.labels = Path(labels or "labels")
        self.images: tuple[ImageAddress, ...] = tuple(find_images(given, excluded=self.labels))
        # Of images too that are not there now: a disk may not be connected.
        self._states: dict[str, State] = {}
        at = self._load()
        names = [image.name for image in self.images]
        self.at = names.index(at) if at in names else 0
        for place, name in enumerate(names):
            if name not in self._states and self.labels_path(place).is_file():
                self._states[name] = State.BEGUN

    def __len__(self) -> int:
        return len(self.images)

    def state(self, place: int) -> State:
        """Return how far an image is."""
        return self._states.get(self.images[place].name, State.UNTOUCHED)

    def mark(self, place: int, state: State | str) -> None:
        """Say how far an image is; `save` writes it down."""
        self._states[self.images[place].name] = State(state)

    def places(self, *states: State | str) -> list[int]:
        """Return the places of the images that are so far; of all without states."""
        wanted = {State(state) for state in states or State}
        return [place for place in range(len(self)) if self.state(place) in wanted]

    @property
    def summary(self) -> str:
        """Where one is, and what is done: ``"12 of 200, 9 done"``."""
        text = f"{self.at + 1} of {len(self)}, {len(self.places(State.DONE))} done"
        skipped = len(self.places(State.SKIPPED))
        return f"{text}, {skipped} skipped" if skipped else text

    # -- files --------------------------------------------------------------------------------

    def labels_path(self, place: int) -> Path:
        """Name the file of an image's labels."""
        return self.labels / f"{self.images[place].name}.tif"

    def session_path(self, place: int) -> Path:
        """Name the file of an image's prompts and objects."""
        return self.labels / SESSIONS / f"{self.images[place].name}.pisam"

    @contextlib.contextmanager
    def open(self, place: int) -> Iterator[ImageFile]:
        """Open an image; large ones are read by windows while the block runs.

        Raises
        ------
        ImageFileError
            If it cannot be read.
        """
        with self.images[place].open() as opened:
            yield opened

    def write(self, place: int, labels: Any, state: State | str = State.DONE) -> Path:
        """Write an image's labels and say how far it is; both files whole or not at all.

        Parameters
        ----------
        place : int
        labels : (..., H, W) bool or integer array
            0 where there is nothing.
        state : State

        Returns
        -------
        Path
            The TIFF.

        Raises
        ------
        OSError, ValueError
            If it cannot be written; what was there before stays.
        """
        import numpy as np

        from napari_pisam.images.label_files import write_label_array

        path = self.labels_path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = labels.astype(np.uint8) if labels.dtype == np.bool_ else labels
        write_label_array(path, values, {"image": self.images[place].name})
        self.mark(place, state)
        self.save()
        return path

    def save(self) -> None:
        """Write down where one is and how far each image is; may be called in any thread.

        Raises
        ------
        OSError
            If it cannot be written; what was there before stays.
        """
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "at": self.images[self.at].name,
            "states": dict(self._states),
        }
        self.labels.mkdir(parents=True, exist_ok=True)
        with replacing(self.labels / STATE_FILE) as part:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")

    def _load(self) -> str:
        path = self.labels / STATE_FILE
        try:
            if not path.is_file():
                return ""
            if path.stat().st_size > _MOST_JSON:
                raise ValueError(f"it is larger than {_MOST_JSON >> 20} MiB")
            return self._read(parse(path.read_bytes(), STATE_FILE))
        except ValueError as error:
            raise ValueError(
                f"{path} does not say how far the images are: {error} Expected what "
                "napari-pisam wrote. Rename it to begin anew; labels stay as they are."
            ) from error

    def _read(self, node: Node) -> str:
        if node.at("format").value != _FORMAT or node.at("version").value != _VERSION:
            raise node.at("format").wrong(f"{_FORMAT!r} of version {_VERSION}")
        states = node.at("states")
        if not isinstance(states.value, dict):
            raise states.wrong("a state for each name")
        known = {state.value for state in State}
        for name in states.value:
            if (one := states.at(name)).value not in known:
                raise one.wrong(f"one of {', '.join(known)}")
            self._states[name] = State(one.value)
        return node.at("at").text()
