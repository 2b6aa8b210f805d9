"""Unlimited undo and redo: of each object's prompts, and of what was done to the session.

Everything that can be undone is in one list, in time order. The prompt edits of one object may be
undone before younger edits of other objects, because they touch nothing else; they are then only
marked in the list. What is undone goes to a second list, from which redo takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_pisam.session.records import PromptStep

if TYPE_CHECKING:
    from napari_pisam.images.crops import Bbox
    from napari_pisam.session.merge import Patch
    from napari_pisam.session.records import JournalEntry, Record


@dataclass(frozen=True)
class Change:
    """What an operation touched: objects, and windows of the labels.

    `group` is that of the edit that was undone or redone: its neighbours of the same belong to it.
    """

    ids: tuple[int, ...] = ()
    windows: tuple[Bbox, ...] = ()
    group: object | None = None


@dataclass(eq=False)
class Edit:
    """Objects were made, written, taken back or removed.

    Attributes
    ----------
    before, after : dict of int to (Record or None)
        The objects concerned; None: not there.
    current, next_id
        The current object and the next number, before and after.
    patches : tuple of Patch
        What was written into the labels, in order.
    journal : tuple of JournalEntry
        What was added to the journal.
    group : object or None
        Neighbours of the same group are undone and redone together.
    replaced : tuple of JournalEntry, or None
        The journal that `journal` took the place of; None: it was added to it.
    """

    before: dict[int, Record | None]
    after: dict[int, Record | None]
    current: tuple[int | None, int | None]
    next_id: tuple[int, int]
    patches: tuple[Patch, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    group: object | None = None
    replaced: tuple[JournalEntry, ...] | None = None

    def undo_journal(self, journal: list[JournalEntry]) -> None:
        """Take back what this added to the journal."""
        if self.replaced is not None:
            journal[:] = self.replaced
        elif self.journal:
            del journal[-len(self.journal) :]

    def redo_journal(self, journal: list[JournalEntry]) -> None:
        """Add it again."""
        if self.replaced is not None:
            journal.clear()
        journal.extend(self.journal)


Entry: TypeAlias = PromptStep | Edit


class History:
    """What was done and what was undone."""

    def __init__(self) -> None:
        self._done: list[Entry] = []
        self._undone: list[Entry] = []

    @property
    def can_undo(self) -> bool:
        """Whether anything is left to undo."""
        return self.last is not None

    @property
    def can_redo(self) -> bool:
        """Whether anything is left to redo."""
        return bool(self._undone)

    @property
    def last(self) -> Entry | None:
        """The youngest entry that is not undone."""
        while self._done and isinstance(step := self._done[-1], PromptStep) and not step.is_done:
            self._done.pop()
        return self._done[-1] if self._done else None

    def add(self, entry: Entry) -> None:
        """Note something new; what was undone cannot be redone any more."""
        self._done.append(entry)
        self._undone.clear()

    def undo(self, entry: Entry) -> None:
        """Note that an entry, the last one or any prompt step, has been undone."""
        if isinstance(entry, PromptStep):
            entry.is_done = False
        else:
            self._done.pop()
        self._undone.append(entry)

    def next_redo(self, current: int | None) -> Entry | None:
        """Return what to redo: the current object's prompts first, where they depend on nothing.

        Parameters
        ----------
        current : int or None
            The current object.
        """
        if not self._undone:
            return None
        for entry in reversed(self._undone):
            if isinstance(entry, Edit):
                break
            if entry.id == current:
                return entry
        return self._undone[-1]

    def redo(self, entry: Entry, again: Entry) -> None:
        """Note that an entry has been redone, as the entry `again` from now on.

        A prompt step needs a new one: the marked one may still be in the list, at its old place.
        """
        place = len(self._undone) - 1
        while self._undone[place] is not entry:
            place -= 1
        del self._undone[place]
        self._done.append(again)

    def clear(self) -> None:
        """Forget everything."""
        self._done.clear()
        self._undone.clear()
