"""Objects, labels, undo and redo of one image, with nothing that happens in the background."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_pisam.predict.prompts import MaskPrompt, Prompts
from napari_pisam.session.history import Change, Edit, Entry, History
from napari_pisam.session.labels import LabelStore, tiles_of_records
from napari_pisam.session.merge import CommitRule, Patch, committed_block, released_block
from napari_pisam.session.numbers import LIMIT, LabelNumbers, numbers_in
from napari_pisam.session.records import (
    NO_CLEANING,
    BatchCommitted,
    Committed,
    JournalEntry,
    ModelRef,
    PromptStep,
    Record,
    Released,
    SessionObject,
    SessionState,
    Started,
    Steps,
    claimed_pixels,
    mask_from_label,
)
from napari_pisam.session.tiles import TouchedTiles

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.predict.mask import Mask

_Records: TypeAlias = "dict[int, Record | None]"


class Document:
    """The objects of one image and the labels that they are committed to.

    Every method either does all of what it says or, when it raises, nothing. The labels are read
    and written in the objects' windows only.
    """

    def __init__(self) -> None:
        self.store = LabelStore()
        # What is kept of the labels: what was written here, or painted by hand.
        self.touched = TouchedTiles()
        self.history = History()
        self.records: dict[int, Record] = {}
        self.journal: list[JournalEntry] = []
        self.current: int | None = None
        self.first_id = 1
        self._next_id = 1
        self.model: ModelRef | None = None
        # Of the objects to come.
        self.class_name = ""
        # All that ever were objects here: a label of that number is nobody else's.
        self._numbers: set[int] = set()
        # Those of them that were in the labels as this object.
        self._mine: set[int] = set()
        self._epochs = 0
        self._orders = 0
        # What is done to a mask when it is committed.
        self.cleaning = NO_CLEANING

    def clear(self) -> None:
        """Forget all objects and the history; the labels stay."""
        self.touched.clear()
        self.records.clear()
        self.journal.clear()
        self.history.clear()
        self._numbers.clear()
        self._mine.clear()
        self.current, self.first_id, self._next_id = None, 1, 1

    def take_over(self, state: SessionState) -> None:
        """Take over saved objects, without a history; the labels stay."""
        self.clear()
        for record in state.records:
            self._put(record.view.id, record)
        for tile in state.tiles or ():
            self.touched.touch(tile.bbox)
        self.journal.extend(state.journal)
        self._note(state)
        self._next_id = max(self._numbers, default=0) + 1
        self.current = state.current if state.current in self.records else None

    def _note(self, state: SessionState) -> None:
        """Count on from what a saved session counted."""
        for entry in state.journal:
            ids = entry.ids if isinstance(entry, BatchCommitted) else (entry.id,)
            self._numbers.update(ids)
            self._mine.update(ids)
        for record in state.records:
            self._orders = max(self._orders, record.order)

    def restoring(self, state: SessionState, rule: CommitRule) -> Generator[None, None, Change]:
        """Take over saved objects in place of those that are here, and write their labels.

        One edit, in short steps; what ends it early takes it back. The objects that are here leave
        the labels first; then each pixel that is background gets what the saved session had there,
        and with the rule `OVERWRITE` the others too.
        """
        tiles = tiles_of_records(state.shape, state.records) if state.tiles is None else state.tiles
        # What is begun meanwhile stays.
        after: _Records = dict.fromkeys(self.records)
        patches: list[Patch | None] = []
        try:
            if self.store.labels is not None:
                committed = (r for r in self.records.values() if r.view.committed)
                patches.extend(self._release(record) for record in list(committed))
                for tile in tiles:
                    yield
                    before, saved = self.store.read(tile.bbox), tile.values()
                    # Painted by hand, it may be larger than any object's.
                    self.store.check(int(saved.max(initial=0)))
                    is_free = saved != 0 if rule is CommitRule.OVERWRITE else before == 0
                    values = np.where(is_free, saved, before).astype(before.dtype)
                    patches.append(self._put_patch(tile.patch(before, values), before, values))
            yield
        except BaseException:
            self.store.undo([patch for patch in patches if patch is not None])
            raise
        current = None if self.current in after else self.current
        after.update({record.view.id: record for record in state.records})
        self._note(state)
        if current is None and state.current in {record.view.id for record in state.records}:
            current = state.current
        replaced = tuple(self.journal)
        self.journal.clear()
        for tile in tiles:
            self.touched.touch(tile.bbox)
        return self._edit(
            after, current=current, patches=patches, journal=state.journal, replaced=replaced
        )

    def state(self, shape: tuple[int, int], signature: str, rule: CommitRule) -> SessionState:
        """Return everything but the history; safe to be written in another thread."""
        return SessionState(
            shape,
            signature,
            rule,
            self.next_id,
            self.current,
            tuple(self.records[n].without_steps() for n in sorted(self.records)),
            tuple(self.journal),
            self.touched.read(self.store.labels) if self.touched else None,
        )

    @property
    def next_id(self) -> int:
        """The next new object's number: above all objects, and at least `first_id`."""
        return max(self._next_id, self.first_id)

    def set_labels(
        self, labels: Any, shape: tuple[int, int] | None, largest: int, numbers: LabelNumbers | None
    ) -> None:
        """Take other labels; see `LabelStore.replace`."""
        self.store.replace(labels, shape, largest, numbers)
        if self.store.numbers is not None:
            for id_, record in self.records.items():
                if record.view.committed:
                    self.store.numbers.wrote(id_)

    def check(self, id_: int) -> None:
        """Find out whether an object can be written; see `LabelStore.check`."""
        self.store.check(self._numbered([self.known(id_)])[0].view.id)

    def _numbered(self, records: Sequence[Record]) -> list[Record]:
        """Return objects with the numbers that they are written with.

        A number was reserved when its object was begun; labels that have it since, painted by
        hand or in another slice, must not melt with it.
        """
        numbers, result = self.store.numbers, []
        if numbers is None:
            return list(records)
        numbers.look()
        self._look_below(records, numbers)
        used = {record.view.id for record in records}
        for record in records:
            number = record.view.id
            if numbers.is_taken(number, own=number in self._mine):
                used.update(self.records)
                number = numbers.next(beside=used)
                used.add(number)
                view = replace(record.view, id=number)
                result.append(replace(record, view=view))
            else:
                result.append(record)
        return result

    def _look_below(self, records: Sequence[Record], numbers: LabelNumbers) -> None:
        """Look again where large labels are written: nothing is heard of what a script wrote."""
        for mask in (record.view.mask for record in records):
            if not numbers.is_small and mask is not None and mask.crop.size:
                numbers.paint(numbers_in(self.store.read(mask.bbox)) - self._mine)

    def known(self, id_: int) -> Record:
        """Return an object.

        Raises
        ------
        ValueError
            If there is none of this number.
        """
        record = self.records.get(id_)
        if record is None:
            raise ValueError(f"There is no object {id_}. Choose one of the list.")
        return record

    # -- prompts and masks --------------------------------------------------------------------

    def add(self, prompts: Prompts | None, id_: int | None = None) -> Change:
        """Make a new object, the current one from now on."""
        number = self.next_id if id_ is None else id_
        if number < 1 or number in self.records:
            raise ValueError(
                f"Object {number} cannot be made: it has to be above 0 and of a number that is not "
                f"in use. The next free number is {self.next_id}."
            )
        view = SessionObject(number, prompts, None, False, False, self.class_name)
        return self._edit({number: Record(view)}, current=number)

    def adopt(
        self,
        items: Sequence[tuple[int, Prompts, str]],
        shape: tuple[int, int],
        rule: CommitRule | None,
    ) -> Change:
        """Make objects of what was found elsewhere: open ones, or (with a rule) written ones.

        `items` has a number, prompts and a class each; numbers that are in use are replaced, those
        that would get no pixel stay open.
        """
        wanted, taken = {number for number, *_ in items}, set(self.records)
        free = (n for n in count(self.next_id) if n not in taken and n not in wanted)
        records = []
        for asked, prompts, class_name in items:
            number = next(free) if asked in taken else asked
            taken.add(number)
            mask = None if prompts.mask is None else mask_from_label(prompts.mask, shape)
            view = SessionObject(number, prompts, mask, False, False, class_name)
            records.append(Record(view, None if mask is None else prompts))
        if rule is None:
            return self._edit({one.view.id: one for one in records}, current=self.current)
        gone, records = self._renumbered(records)
        after, patches, written = self._commit_all(records, rule)
        journal = tuple(
            Committed(id_, after[id_].mask_prompts, rule, None)  # type: ignore[union-attr, arg-type]
            for id_ in written
        )
        return self._edit(gone | after, current=self.current, patches=patches, journal=journal)

    def set_class(self, ids: Iterable[int], class_name: str, group: object | None = None) -> Change:
        """Say what kind of things objects are: one edit, nothing else of them changes."""
        known = (self.known(id_) for id_ in ids)
        after: _Records = {
            one.view.id: replace(one, view=replace(one.view, class_name=class_name), steps=None)
            for one in known
            if one.view.class_name != class_name
        }
        if not after:
            return Change()
        return self._edit(after, current=self.current, same_epoch=True, group=group)

    def set_prompts(self, id_: int, prompts: Prompts | None) -> Change:
        """Replace an open object's prompts: one step to undo."""
        record = self.known(id_)
        step = PromptStep(id_, record.view.prompts, prompts)
        self._put_prompts(record, prompts, (step, record.steps))
        self.history.add(step)
        return Change((id_,))

    def set_mask(self, id_: int, mask: Mask, prompts: Prompts, model: ModelRef | None) -> None:
        """Return an object a predicted mask; nothing to undo."""
        self._put(id_, self.known(id_).with_mask(mask, prompts, model), same_epoch=True)

    def refresh(self) -> tuple[int, ...]:
        """See anew which previews are stale; gives the objects where that changed."""
        changed = []
        for id_, record in self.records.items():
            fresh = record.refreshed(self.model)
            if fresh is not record and not record.view.committed:
                self.records[id_] = fresh
                changed.append(id_)
        return tuple(changed)

    def start(self, id_: int, prompts: Prompts, mask: MaskPrompt, shape: tuple[int, int]) -> Change:
        """Make an object of a label that is there; its pixels leave the labels."""
        preview = mask_from_label(mask, shape)
        record = Record(SessionObject(id_, prompts, preview, False, False), prompts)
        patch = self._lift(id_, mask)
        self._mine.add(id_)
        return self._edit(
            {id_: record}, current=id_, patches=[patch], journal=(Started(id_, mask),)
        )

    # -- labels -------------------------------------------------------------------------------

    def commit(self, id_: int, rule: CommitRule, *, confirmed: bool = True) -> Change:
        """Write an object's mask into the labels; `confirmed`: it is right, whence it ever came.

        Raises
        ------
        ValueError
            If it would get no pixel, or its number does not fit.
        """
        (record,) = self._numbered([self.known(id_)])
        written, patch = self._commit(record.as_own() if confirmed else record, rule)
        number = record.view.id
        entries: tuple[JournalEntry, ...] = ()
        if record.mask_prompts is not None:
            entries = (self._committed(record, rule),)
        current = None if self.current == id_ else self.current
        return self._edit(
            {id_: None, number: written}, current=current, patches=[patch], journal=entries
        )

    def commit_boxes(
        self,
        boxes: Sequence[tuple[int | None, Prompts, Mask]],
        rule: CommitRule,
        model: ModelRef | None,
        group: object,
    ) -> Change:
        """Return each box its mask and write it; those that get no pixel stay open.

        `boxes` has a box each, of an open object or (None) for a new one; neighbours of the same
        `group` are undone together.
        """
        fresh, records = count(self.next_id), []
        for id_, prompts, mask in boxes:
            number = next(fresh) if id_ is None else id_
            view = SessionObject(number, prompts, None, False, False, self.class_name)
            record = Record(view) if id_ is None else self.known(id_)
            records.append(record.with_mask(mask, prompts, model))
        gone, records = self._renumbered(records)
        after, patches, written = self._commit_all(records, rule)
        asked = tuple(prompts for _, prompts, _ in boxes)
        entry = BatchCommitted(tuple(after), asked, written, rule, model, self.cleaning)
        current = None if self.current in (*written, *gone) else self.current
        return self._edit(
            gone | after, current=current, patches=patches, journal=(entry,), group=group
        )

    def _renumbered(self, records: Sequence[Record]) -> tuple[_Records, list[Record]]:
        """Return which numbers go, and the objects with the numbers they are written with."""
        final = self._numbered(records)
        kept = {record.view.id for record in final}
        gone = [one.view.id for one in records if one.view.id not in kept]
        return dict.fromkeys(id_ for id_ in gone if id_ in self.records), final

    def commit_open(self, ids: Sequence[int], rule: CommitRule, group: object) -> Change:
        """Write open objects that have their masks; those that get no pixel stay open."""
        gone, records = self._renumbered([self.known(id_) for id_ in ids])
        after, patches, written = self._commit_all(records, rule)
        journal = []
        for record in records:
            number = record.view.id
            if number in written and record.mask_prompts is not None:
                journal.append(self._committed(record, rule))
        current = None if self.current in (*written, *gone) else self.current
        return self._edit(
            gone | after, current=current, patches=patches, journal=tuple(journal), group=group
        )

    def reopen(self, id_: int) -> Change:
        """Take a committed object's pixels back, to go on correcting it.

        Raises
        ------
        ValueError
            If nothing is left of it in the labels.
        """
        record = self.known(id_)
        opened = replace(
            record, view=replace(record.view, committed=False), footprint=None, steps=None
        )
        patches, by_hand = self._taken_out(record)
        if by_hand is not None and record.view.mask is not None:
            # What is in the labels now is the truth, and the prompts do not say it.
            prompts = Prompts(mask=by_hand)
            mask = mask_from_label(by_hand, record.view.mask.shape)
            opened = opened.with_prompts(prompts, None).with_mask(mask, prompts, None).as_own()
        return self._edit(
            {id_: opened}, current=id_, patches=patches, journal=(Released(id_, discarded=False),)
        )

    def _taken_out(self, record: Record) -> tuple[list[Patch | None], MaskPrompt | None]:
        """Take a committed object's pixels back; what it is now where that was changed by hand."""
        by_hand = self.store.changed_by_hand(record.view)
        patches = [self._release(record)]
        if by_hand is not None:
            patches.append(self._lift(record.view.id, by_hand))
        return patches, by_hand

    def pixels(self, id_: int) -> MaskPrompt | None:
        """Return what an object is now: its mask, or what the labels hold of it; None: nothing."""
        record = self.known(id_)
        if record.view.committed:
            by_hand = self.store.changed_by_hand(record.view)
            if by_hand is not None:
                return by_hand
        mask = record.view.mask
        return None if mask is None or not mask.crop.size else MaskPrompt.from_any(mask)

    def reshape(
        self, masks: Mapping[int, MaskPrompt | None], shape: tuple[int, int], rule: CommitRule
    ) -> Change:
        """Give objects other pixels; one edit.

        Parameters
        ----------
        masks : mapping of int to (MaskPrompt or None)
            By object; None: it goes. The first one is there, one that is not there yet is made,
            and committed if the first one is.
        shape : (int, int)
            (H, W) of the image, px.
        rule : CommitRule
            Whose the pixels are of those that are committed.
        """
        known = {id_: self.records.get(id_) for id_ in masks}
        first = self.known(next(iter(masks)))
        patches: list[Patch | None] = []
        journal: list[JournalEntry] = []
        after: _Records = dict.fromkeys(known)
        try:
            for id_, record in known.items():
                if record is not None and record.view.committed:
                    patches += self._taken_out(record)[0]
                    journal.append(Released(id_, discarded=masks[id_] is None))
            for id_, mask in masks.items():
                if mask is None:
                    continue
                prompts, preview = Prompts(mask=mask), mask_from_label(mask, shape)
                like = (known[id_] or first).view
                view = replace(like, id=id_, prompts=prompts, mask=preview, committed=False)
                changed = Record(view, prompts).as_own()
                if like.committed:
                    changed, patch = self._write_mask(self._numbered([changed])[0], rule)
                    patches.append(patch)
                    number = changed.view.id
                    journal.append(Committed(number, prompts, rule, None))
                after[changed.view.id] = changed
        except BaseException:
            self.store.undo([patch for patch in patches if patch is not None])
            raise
        current = self.current if after.get(self.current or 0) else first.view.id
        return self._edit(after, current=current, patches=patches, journal=tuple(journal))

    def _committed(self, record: Record, rule: CommitRule) -> Committed:
        prompts = record.mask_prompts
        assert prompts is not None  # asked before
        cleaning = self.cleaning if record.cleaning is None else record.cleaning
        return Committed(record.view.id, prompts, rule, record.model, cleaning)

    def discard(self, ids: Iterable[int]) -> Change:
        """Remove objects, the committed ones from the labels too."""
        patches: list[Patch | None] = []
        journal: list[JournalEntry] = []
        gone: _Records = {}
        try:
            for id_ in ids:
                record = self.known(id_)
                gone[id_] = None
                if record.view.committed:
                    patches.append(self._release(record))
                    journal.append(Released(id_, discarded=True))
        except BaseException:
            self.store.undo([patch for patch in patches if patch is not None])
            raise
        current = None if self.current in gone else self.current
        return self._edit(gone, current=current, patches=patches, journal=tuple(journal))

    def exchange(
        self,
        gone: Mapping[int, MaskPrompt | None],
        new: Record | None,
        rule: CommitRule,
        group: object,
    ) -> Change:
        """Write an object in place of others, or of labels; one edit of a `group`.

        Parameters
        ----------
        gone : mapping of int to (MaskPrompt or None)
            What leaves: objects, or the pixels of labels that are none.
        new : Record or None
            With the mask that it gets.
        rule : CommitRule
            Whose the pixels are.
        group : object
            Edits of it are undone together.

        Raises
        ------
        ValueError
            If the new one would get no pixel, or its number does not fit.
        """
        patches: list[Patch | None] = []
        journal: list[JournalEntry] = []
        after: _Records = {}
        try:
            for id_, pixels in gone.items():
                record = self.records.get(id_)
                if record is not None:
                    after[id_] = None
                    if record.view.committed:
                        patches.append(self._release(record))
                    journal.append(Released(id_, discarded=True))
                elif pixels is not None:
                    patches.append(self._lift(id_, pixels))
                    journal += [Started(id_, pixels), Released(id_, discarded=True)]
            if new is not None:
                written, patch = self._commit(new, rule)
                after[new.view.id] = written
                patches.append(patch)
                if new.mask_prompts is not None:
                    journal.append(self._committed(new, rule))
        except BaseException:
            self.store.undo([patch for patch in patches if patch is not None])
            raise
        current = self.current
        if current in after and after[current] is None:
            current = None if new is None else new.view.id
        return self._edit(
            after, current=current, patches=patches, journal=tuple(journal), group=group
        )

    def _lift(self, id_: int, pixels: MaskPrompt) -> Patch | None:
        """Take a label's pixels out of the labels, whoever painted them."""
        if self.store.numbers is not None:
            self.store.numbers.adopt(id_)
        if self.store.labels is None:
            return None
        before = self.store.read(pixels.bbox)
        after = np.where(pixels.crop & (before == id_), 0, before).astype(before.dtype)
        return self._write(pixels.bbox, before, after)

    def _commit(self, record: Record, rule: CommitRule) -> tuple[Record, Patch | None]:
        return self._write_mask(record.cleaned(self.cleaning), rule)

    def _write_mask(self, record: Record, rule: CommitRule) -> tuple[Record, Patch | None]:
        mask, id_ = record.view.mask, record.view.id
        self.store.check(id_)
        if mask is None or not mask.crop.size:
            raise ValueError(
                f"Object {id_} has no pixel to commit. Add a FG click on it, or discard it."
            )
        before = self.store.read(mask.bbox)
        after = committed_block(before, mask.crop, id_, rule)
        if not (after[mask.crop] == id_).any():
            raise ValueError(
                f"Object {id_} would get no pixel: other labels cover all of its mask. Commit it "
                "with the rule 'overwrite', or discard it."
            )
        patch = self._write(mask.bbox, before, after)
        self._orders += 1
        view = replace(record.view, committed=True)
        written = replace(record, view=view, footprint=patch, order=self._orders, steps=None)
        return written, patch

    def _commit_all(
        self, records: Sequence[Record], rule: CommitRule
    ) -> tuple[_Records, list[Patch | None], tuple[int, ...]]:
        """Write what gets a pixel: all objects as they are then, and which were written."""
        self.store.check(max((record.view.id for record in records), default=0))
        after: _Records = {}
        patches: list[Patch | None] = []
        written = []
        try:
            for record in records:
                after[record.view.id] = record
                with suppress(ValueError):
                    after[record.view.id], patch = self._commit(record, rule)
                    patches.append(patch)
                    written.append(record.view.id)
        except BaseException:
            self.store.undo([patch for patch in patches if patch is not None])
            raise
        return after, patches, tuple(written)

    def _release(self, record: Record) -> Patch | None:
        mask = record.view.mask
        if mask is None or self.store.labels is None:
            return None
        before = self.store.read(mask.bbox)
        id_, footprint = record.view.id, record.footprint
        after = released_block(before, mask.crop, id_, footprint, self._claims(mask.bbox))
        return self._write(mask.bbox, before, after)

    def _claims(self, bbox: Bbox) -> Callable[[int], NDArray[np.bool_] | None]:
        def claimed(id_: int) -> NDArray[np.bool_] | None:
            return claimed_pixels(self.records.get(id_), bbox) if id_ in self._numbers else None

        return claimed

    def _write(self, bbox: Bbox, before: NDArray[Any], after: NDArray[Any]) -> Patch | None:
        return self._put_patch(Patch.between(bbox, before, after), before, after)

    def _put_patch(
        self, patch: Patch | None, before: NDArray[Any], after: NDArray[Any]
    ) -> Patch | None:
        if patch is not None:
            self.store.write(patch.bbox, before, after)
            self.touched.touch(patch.bbox)
        return patch

    # -- undo and redo ------------------------------------------------------------------------

    def to_undo(self) -> Entry | None:
        """Return the current object's last prompt edit, or else what was done last of all."""
        own = None if self.current is None else self._steps(self.current)
        return self.history.last if own is None else own[0]

    def undo(self, group: object | None = None) -> Change:
        """Take back the current object's last prompt edit, or else what was done last of all.

        With a `group`, only an edit of it, if that is what was done last.
        """
        entry = self.to_undo() if group is None else self.history.last
        if entry is None or (group is not None and group is not entry.group):
            return Change()
        if isinstance(entry, PromptStep):
            record = self.known(entry.id)
            self._put_prompts(record, entry.before, record.steps[1] if record.steps else None)
            self.history.undo(entry)
            self.current = entry.id
            return Change((entry.id,))
        windows = self._touched(self.store.undo(entry.patches))
        self._swap(entry.before, entry.after)
        entry.undo_journal(self.journal)
        self.current, self._next_id = entry.current[0], entry.next_id[0]
        self._check_current()
        self.history.undo(entry)
        return Change(tuple(entry.before), tuple(windows), entry.group)

    def redo(self, group: object | None = None) -> Change:
        """Make again what was undone last, the current object's prompts first; see `undo`.

        Raises
        ------
        LabelOverflowError
            If the labels were replaced by narrower ones.
        """
        entry = self.history.next_redo(self.current)
        if entry is None or (group is not None and group is not entry.group):
            return Change()
        if isinstance(entry, PromptStep):
            record = self.known(entry.id)
            step = PromptStep(entry.id, entry.before, entry.after)
            self.history.redo(entry, step)
            self._put_prompts(record, entry.after, (step, record.steps))
            self.current = entry.id
            return Change((entry.id,))
        if entry.patches and self.store.labels is not None:
            self.store.check(max(entry.after, default=0))
            self._check_free(entry)
        windows = self._touched(self.store.redo(entry.patches))
        self.history.redo(entry, entry)
        self._swap(entry.after, entry.before)
        entry.redo_journal(self.journal)
        self.current, self._next_id = entry.current[1], entry.next_id[1]
        self._check_current()
        return Change(tuple(entry.after), tuple(windows), entry.group)

    def _check_free(self, entry: Edit) -> None:
        numbers = self.store.numbers
        for id_, record in entry.after.items():
            is_written = record is not None and record.view.committed
            if is_written and numbers is not None and numbers.is_taken(id_, own=True):
                raise ValueError(
                    f"Object {id_} cannot be written again: its number was taken by hand since. "
                    "Commit it anew, and it gets another one."
                )

    def _touched(self, windows: list[Bbox]) -> list[Bbox]:
        for window in windows:
            self.touched.touch(window)
        return windows

    def _steps(self, id_: int) -> Steps:
        record = self.records.get(id_)
        return None if record is None else record.steps

    def _swap(self, wanted: _Records, kept: _Records) -> None:
        for id_, record in wanted.items():
            # What it is now and not what it was then: a preview may have come in between.
            kept[id_] = self.records.get(id_)
            self._put(id_, record)

    # -- the one place where objects change ---------------------------------------------------

    def _edit(
        self,
        after: _Records,
        *,
        current: int | None,
        patches: Sequence[Patch | None] = (),
        journal: tuple[JournalEntry, ...] = (),
        group: object | None = None,
        replaced: tuple[JournalEntry, ...] | None = None,
        same_epoch: bool = False,
    ) -> Change:
        before = {id_: self.records.get(id_) for id_ in after}
        last = max((id_ for id_ in after if id_ < LIMIT - 1), default=0)
        next_id = max(self._next_id, last + 1)
        made = tuple(patch for patch in patches if patch)
        edit = Edit(
            before,
            after,
            (self.current, current),
            (self._next_id, next_id),
            made,
            journal,
            group,
            replaced,
        )
        for id_, record in after.items():
            self._put(id_, record, same_epoch=same_epoch)
        self.current, self._next_id = current, next_id
        self.journal.extend(journal)
        self.history.add(edit)
        return Change(tuple(after), tuple(patch.bbox for patch in made))

    def _put_prompts(self, record: Record, prompts: Prompts | None, steps: Steps) -> None:
        # Without prompts, what is being predicted must not appear.
        changed = record.with_prompts(prompts, steps)
        self._put(record.view.id, changed, same_epoch=prompts is not None)

    def _put(self, id_: int, record: Record | None, *, same_epoch: bool = False) -> None:
        self._numbers.add(id_)
        self._tell_numbers(id_, record)
        if record is None:
            self.records.pop(id_, None)
            return
        if not same_epoch:
            self._epochs += 1
            record = replace(record, epoch=self._epochs)
        self.records[id_] = record.refreshed(self.model)

    def _tell_numbers(self, id_: int, record: Record | None) -> None:
        numbers = self.store.numbers
        if record is not None and record.view.committed:
            self._mine.add(id_)
            if numbers is not None:
                numbers.wrote(id_)
        elif numbers is not None:
            numbers.released(id_)

    def _check_current(self) -> None:
        if self.current not in self.records:
            self.current = None
