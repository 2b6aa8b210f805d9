"""What a session lets everybody see, and the signals that say when it changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pisam.session.document import Document
from napari_pisam.session.history import Change
from napari_pisam.session.merge import CommitRule
from napari_pisam.session.records import SessionState
from napari_pisam.session.requests import failure_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from napari_pisam.session.records import ModelRef, Record, SessionObject

# What a store of labels may raise that is no mistake of the caller: disk, memory, its own errors.
_STORE_ERRORS = (OSError, MemoryError, RuntimeError)


class ObservedDocument:
    """The objects of one image and its labels, to be read and listened to.

    `Session` is what changes them.

    Attributes
    ----------
    objects_changed : Signal()
        The list, prompts or committed flags.
    current_changed : Signal(int or None)
        The current object's number.
    mask_changed : Signal(int)
        An object's preview; its mask may be None now, or the object gone.
    labels_changed : Signal(tuple)
        (row0, col0, row1, col1) px, half open: the window of the labels that was written.
    busy_changed : Signal(bool)
        Whether something is being predicted.
    failed : Signal(str)
        What went wrong and what to do, for the user; no prompts are lost.
    history_changed : Signal()
        `can_undo` or `can_redo` may have changed.
    rule : CommitRule
        For the commits to come; may be set.
    """

    objects_changed = Signal()
    current_changed = Signal(object)
    mask_changed = Signal(int)
    labels_changed = Signal(tuple)
    busy_changed = Signal(bool)
    failed = Signal(str)
    history_changed = Signal()

    def __init__(self, rule: CommitRule = CommitRule.KEEP) -> None:
        self.rule = CommitRule(rule)
        self._document = Document()
        self._shape: tuple[int, int] | None = None
        self._signature = ""
        self._objects: tuple[SessionObject, ...] | None = None
        self._told_current: int | None = None

    @property
    def objects(self) -> tuple[SessionObject, ...]:
        """All objects, by number."""
        if self._objects is None:
            records = self._document.records
            self._objects = tuple(records[number].view for number in sorted(records))
        return self._objects

    @property
    def current(self) -> SessionObject | None:
        """The object that is being worked on."""
        number = self._document.current
        return None if number is None else self._document.records[number].view

    def get(self, id: int) -> SessionObject | None:  # noqa: A002
        """Give an object, or None where there is none of this number."""
        record = self._document.records.get(id)
        return None if record is None else record.view

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of the image, px, or None without one."""
        return self._shape

    @property
    def signature(self) -> str:
        """The image's, as given to `set_image`."""
        return self._signature

    @property
    def model(self) -> ModelRef | None:
        """What predicts now."""
        return self._document.model

    @property
    def labels(self) -> Any:
        """The labels that commits write into, or None."""
        return self._document.store.labels

    @property
    def can_undo(self) -> bool:
        """Whether `undo` would do something."""
        return self._document.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether `redo` would do something."""
        return self._document.history.can_redo

    @property
    def first_id(self) -> int:
        """The number that the next new object gets; to be raised above labels that are there."""
        return self._document.next_id

    @first_id.setter
    def first_id(self, value: int) -> None:
        self._document.first_id = max(self._document.first_id, int(value))

    def needed_dtype(self, id: int | None = None) -> np.dtype[Any] | None:  # noqa: A002
        """Give the type that the labels need for an object, the current or next one by default.

        Returns
        -------
        numpy.dtype or None
            None where the labels hold it. Else convert them, `set_labels` the result, and commit.
        """
        number = self._document.current if id is None else id
        return self._document.store.needed_dtype(self.first_id if number is None else number)

    # -- labels, and what is kept ------------------------------------------------------------

    def set_labels(self, labels: Any, *, first_id: int | None = None) -> None:
        """Choose the labels that commits write into, one window at a time.

        Objects and history stay: the array may be a converted copy of the one before.

        Parameters
        ----------
        labels : (H, W) integer array or None
            numpy, zarr, or anything that reads and writes windows.
        first_id : int, optional
            The least number for new objects. By default the numpy array's largest label + 1 where
            that is quick to find (16 million px), else what it was.

        Raises
        ------
        ValueError
            If the shape is not the image's, or the dtype does not hold what is committed.
        """
        committed = [one.id for one in self.objects if one.committed]
        self._document.store.replace(labels, self._shape, max(committed, default=0))
        if first_id is None:
            first_id = self._document.store.largest() + 1
        self.first_id = first_id

    def rewrite_labels(self) -> bool:
        """Write every committed object into the labels again, for labels that were lost.

        Returns
        -------
        bool
            False if writing failed.

        Raises
        ------
        ValueError
            If there are no labels.
        """
        self._document.store.check(0)
        document = self._document

        def rewrite() -> Change:
            return Change((), tuple(document.store.rewrite(document.records.values())))

        return self._attempt(rewrite) is not None

    def to_state(self) -> SessionState:
        """Give everything but the undo history; quick, and safe to write in another thread.

        Raises
        ------
        ValueError
            If there is no image.
        """
        document = self._document
        return SessionState(
            self._image_shape(),
            self._signature,
            self.rule,
            document.next_id,
            document.current,
            tuple(replace(document.records[n], steps=None) for n in sorted(document.records)),
            tuple(document.journal),
        )

    # -- for those who change it --------------------------------------------------------------

    def _image_shape(self) -> tuple[int, int]:
        if self._shape is None:
            raise ValueError("There is no image. Choose an image layer first.")
        return self._shape

    def _chosen(self, number: int | None) -> Record:
        chosen = self._document.current if number is None else number
        if chosen is None:
            raise ValueError("No object is selected. Select one of the list, or draw a new box.")
        return self._document.known(chosen)

    def _attempt(self, change: Callable[[], Change]) -> Change | None:
        """Make a change of the document and tell it; None where writing the labels failed."""
        made = self._made(change)
        if made is not None:
            self._tell(made)
        return made

    def _made(self, change: Callable[[], Change]) -> Change | None:
        """Make a change that is to be told; None where writing the labels failed, which is told."""
        try:
            return change()
        except _STORE_ERRORS as error:
            self.failed.emit(failure_sentence(error, "Writing the labels"))
            return None

    def _tell(self, change: Change) -> None:
        self._objects = None
        for window in change.windows:
            self.labels_changed.emit(window)
        self.objects_changed.emit()
        self._tell_previews(change.ids)
        self._tell_current()
        self.history_changed.emit()

    def _tell_previews(self, ids: Iterable[int]) -> None:
        self._objects = None
        for number in ids:
            self.mask_changed.emit(number)

    def _tell_current(self) -> None:
        if self._document.current != self._told_current:
            self._told_current = self._document.current
            self.current_changed.emit(self._told_current)
