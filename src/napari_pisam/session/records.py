"""What a session keeps: its objects, and the journal of what was done to the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.predict.mask import Mask
from napari_pisam.session.merge import paste_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_pisam.images.crops import Bbox
    from napari_pisam.predict.prompts import MaskPrompt, Prompts
    from napari_pisam.session.merge import CommitRule, Patch
    from napari_pisam.session.tiles import LabelTile


@dataclass(eq=False)
class PromptStep:
    """One object's prompts were replaced; `is_done` is False once it has been undone."""

    id: int
    before: Prompts | None
    after: Prompts | None
    is_done: bool = True
    group: None = None


Steps: TypeAlias = "tuple[PromptStep, Steps] | None"
"""An object's prompt edits, the last one first: sharing, so that a snapshot costs nothing."""


@dataclass(frozen=True)
class ModelRef:
    """Which model made a mask, and how it saw the image.

    Attributes
    ----------
    name : str
    sha256 : str
        Of its weights, 64 hex digits.
    device : str
        Where it ran.
    contrast_limits : tuple of (float, float), or None
        For each channel the values that were black and white; None: chosen from the image itself.
    """

    name: str
    sha256: str = ""
    device: str = ""
    contrast_limits: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True, eq=False)
class SessionObject:
    """One object as the outside sees it; never changed, replaced by another one.

    Attributes
    ----------
    id : int
        Its number in the labels, 1 or more.
    prompts : Prompts or None
        What was asked for, (row, col) px.
    mask : Mask or None
        The newest that is known; without logits.
    committed : bool
        Whether it has been written into the labels.
    stale : bool
        Whether the mask was made from earlier prompts or by another model.
    class_name : str
        What kind of thing it is; empty where nobody said.
    source : tuple of int
        Where the mask was carried here from another slice: from which, see `FollowedSlice`.
    """

    id: int
    prompts: Prompts | None
    mask: Mask | None
    committed: bool
    stale: bool
    class_name: str = ""
    source: tuple[int, ...] = ()

    @property
    def is_carried(self) -> bool:
        """Whether it came from another slice as it is, and nobody corrected or confirmed it."""
        prompts = self.prompts
        is_start = prompts is not None and prompts.is_only_start and not prompts.areas
        return bool(self.source) and is_start

    @property
    def is_only_box(self) -> bool:
        """Whether it is open and of a box alone: what *Segment all* may finish unseen."""
        return not self.committed and self.prompts is not None and self.prompts.is_only_box


@dataclass(frozen=True, eq=False)
class Record:
    """An object with what only the session needs to know.

    Attributes
    ----------
    view : SessionObject
        What the outside sees.
    mask_prompts : Prompts or None
        What the mask was made from.
    model : ModelRef or None
        What predicted the mask; None where it is one of the prompts.
    footprint : Patch or None
        What its commit changed in the labels.
    order : int
        Commits are counted; which one its own was.
    steps : Steps
        Its prompt edits since the session last changed it.
    epoch : int
        A prediction that was asked for in another epoch is not for this object any more.
    cleaning : Cleaning or None
        By what its mask was cleaned when it was committed: it is not cleaned again.
    """

    view: SessionObject
    mask_prompts: Prompts | None = None
    model: ModelRef | None = None
    footprint: Patch | None = None
    order: int = 0
    steps: Steps = None
    epoch: int = 0
    cleaning: Cleaning | None = None

    @property
    def is_current_mask(self) -> bool:
        """Whether there is a mask and it was made from the prompts as they are."""
        return self.view.mask is not None and same_prompts(self.mask_prompts, self.view.prompts)

    def without_steps(self) -> Record:
        """Return the record as it is kept."""
        return self if self.steps is None else replace(self, steps=None)

    def refreshed(self, model: ModelRef | None) -> Record:
        """Return the record with `stale` as it is with the session's model of now."""
        other = self.model is not None and model is not None and self.model != model
        stale = self.view.mask is not None and (not self.is_current_mask or other)
        if stale == self.view.stale:
            return self
        return replace(self, view=replace(self.view, stale=stale))

    def with_prompts(self, prompts: Prompts | None, steps: Steps) -> Record:
        """Return the record with other prompts; a mask of no prompts at all is none."""
        mask = None if prompts is None else self.view.mask
        return replace(self, view=replace(self.view, prompts=prompts, mask=mask), steps=steps)

    def as_own(self) -> Record:
        """Return the record as one that the user stands for."""
        return replace(self, view=replace(self.view, source=()))

    def with_mask(self, mask: Mask, prompts: Prompts, model: ModelRef | None) -> Record:
        """Return the record with a predicted mask."""
        view = replace(self.view, mask=mask)
        return replace(self, view=view, mask_prompts=prompts, model=model, cleaning=None)

    def cleaned(self, cleaning: Cleaning) -> Record:
        """Return the record with its mask cleaned, unless it is."""
        mask = self.view.mask
        if not cleaning or self.cleaning is not None or mask is None:
            return self
        tidy = mask.cleaned(cleaning)
        return replace(self, view=replace(self.view, mask=tidy), cleaning=cleaning)


def same_prompts(first: Prompts | None, second: Prompts | None) -> bool:
    """Whether two objects' prompts ask for the same."""
    return first is second or (first is not None and first == second)


def mask_from_label(mask: MaskPrompt, shape: tuple[int, int]) -> Mask:
    """Take an existing label's pixels as a mask of an image of `shape`."""
    return Mask(shape, mask.bbox, mask.crop, 1.0, mask.bbox)


def mask_of_start(prompts: Prompts, shape: tuple[int, int]) -> Mask | None:
    """Return the mask that prompts are by themselves; None where it has to be predicted.

    Raises
    ------
    ValueError
        If no pixel lies in it.
    """
    if not prompts.is_only_start:
        return None
    start = prompts.validated_for(shape).with_start().mask
    return None if start is None else mask_from_label(start, shape)


def claimed_pixels(record: Record | None, bbox: Bbox) -> NDArray[np.bool_]:
    """Return the (h, w) pixels of a window that a committed object claims; none of others."""
    claimed = np.zeros((bbox[2] - bbox[0], bbox[3] - bbox[1]), dtype=np.bool_)
    if record is not None and record.view.committed and record.view.mask is not None:
        paste_mask(claimed, bbox, record.view.mask)
    return claimed


NO_CLEANING = Cleaning()

# -- the journal: enough to make the same labels again -----------------------------------------


@dataclass(frozen=True, eq=False)
class Committed:
    """An object was written: by which prompts, rule and model (None: nothing was predicted)."""

    id: int
    prompts: Prompts
    rule: CommitRule
    model: ModelRef | None
    cleaning: Cleaning = NO_CLEANING


@dataclass(frozen=True, eq=False)
class BatchCommitted:
    """Boxes were predicted in one call; the objects in `written` were written, in this order."""

    ids: tuple[int, ...]
    boxes: tuple[Prompts, ...]
    written: tuple[int, ...]
    rule: CommitRule
    model: ModelRef | None
    cleaning: Cleaning = NO_CLEANING


@dataclass(frozen=True, eq=False)
class Released:
    """An object took its pixels back; `discarded`: it is gone."""

    id: int
    discarded: bool


@dataclass(frozen=True, eq=False)
class Started:
    """A label that was there became an object and left the labels."""

    id: int
    mask: MaskPrompt


JournalEntry: TypeAlias = Committed | BatchCommitted | Released | Started


@dataclass(frozen=True, eq=False)
class SessionState:
    """A session at one moment; what `to_state` gives and `from_state` takes.

    Attributes
    ----------
    shape : (int, int)
        (H, W) of the image, px.
    signature : str
        Of the image, see `image_signature`.
    rule : CommitRule
        For the commits to come.
    next_id, current
        The next new object's number; the current object's, or None.
    records : tuple of Record
        By number, without their undo steps.
    journal : tuple of JournalEntry
        What was done to the labels, in order.
    tiles : tuple of LabelTile, or None
        The labels wherever they were written or painted; None in files of version 1, which kept
        none.
    """

    shape: tuple[int, int]
    signature: str
    rule: CommitRule
    next_id: int
    current: int | None
    records: tuple[Record, ...]
    journal: tuple[JournalEntry, ...]
    tiles: tuple[LabelTile, ...] | None = None
