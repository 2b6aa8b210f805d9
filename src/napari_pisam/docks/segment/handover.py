"""What a closed dock leaves to the next one of the same viewer: sessions and chosen layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from napari_pisam.docks.segment.planes import Planes
from napari_pisam.docks.segment.preview import PreviewLook
from napari_pisam.docks.segment.rows import FIRST_COLUMNS
from napari_pisam.measure.cleaning import Cleaning
from napari_pisam.predict.propagation import EndOfObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_pisam.session.session import Execute


class Relay:
    """Runs jobs where the dock that is open runs them: sessions live longer than docks."""

    def __init__(self) -> None:
        self._execute: Execute | None = None
        self._pending: dict[object, Callable[[BaseException], None]] = {}

    def __call__(
        self,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Run a job; see `Execute`.

        Raises
        ------
        RuntimeError
            If no dock is open.
        """
        if self._execute is None:
            raise RuntimeError("The dock is closed.")
        token = object()
        self._pending[token] = failed

        def deliver(call: Callable[[Any], None], value: Any) -> None:
            if self._pending.pop(token, None) is not None:
                call(value)

        self._execute(job, partial(deliver, done), partial(deliver, failed))

    def open(self, execute: Execute) -> None:
        """Run jobs there from now on."""
        self._execute = execute

    def close(self) -> None:
        """End what runs, for those who wait for it: its dock will not deliver any more."""
        self._execute = None
        pending, self._pending = self._pending, {}
        for failed in pending.values():
            failed(RuntimeError("The dock was closed."))


@dataclass(eq=False)
class Handover:
    """Everything that outlives a dock.

    Attributes
    ----------
    relay : Relay
        Runs the sessions' jobs.
    planes : Planes
        The sessions.
    layers : mapping of str to weakref
        Which layers played which role.
    live : bool
        Whether prompts are predicted at once.
    rule : str
        Whose a pixel is when an object is committed, see `CommitRule`.
    switches_tools : bool
        Whether tools are taken by themselves.
    look : PreviewLook
        Of the preview.
    columns : (tuple of str, bool)
        Of the object list, and whether lengths are in px.
    class_name : str
        Of the objects to come.
    cleaning : Cleaning
        What is done to every mask when it is committed.
    end : EndOfObject
        When an object is taken to have ended in a stack.
    is_new : bool
        Whether no dock has left it yet.
    series : Any
        What is shown of a series of images, see `SeriesWork`; None without one.
    """

    relay: Relay
    planes: Planes
    layers: dict[str, ref[Any]] = field(default_factory=dict)
    live: bool = True
    rule: str = "keep"
    switches_tools: bool = True
    look: PreviewLook = field(default_factory=PreviewLook)
    columns: tuple[tuple[str, ...], bool] = FIRST_COLUMNS, False
    class_name: str = ""
    cleaning: Cleaning = field(default_factory=Cleaning)
    end: EndOfObject = field(default_factory=EndOfObject)
    series: Any = None
    is_new: bool = True


# By viewer, which none of it holds: it goes with the viewer.
_left: WeakKeyDictionary[Any, Handover] = WeakKeyDictionary()


def take_up(viewer: Any) -> Handover:
    """Return what the last dock of a viewer left, or a new beginning."""
    kept = _left.pop(viewer, None)
    if kept is None:
        relay = Relay()
        kept = Handover(relay, Planes(relay))
    return kept


def leave(viewer: Any, kept: Handover) -> None:
    """Keep it for the next dock of a viewer."""
    kept.is_new = False
    _left[viewer] = kept
