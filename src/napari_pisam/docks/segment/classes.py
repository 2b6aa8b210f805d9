"""Giving objects their classes, and showing these as a layer of their own. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_pisam.docks.segment.preview import keeping_selection, put_below_prompts
from napari_pisam.docks.segment.stack_run import InSlices
from napari_pisam.layers.label_drawing import refresh_labels_windows
from napari_pisam.layers.labels import LabelsPlane, new_labels_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_pisam.docks.segment.workspace import Workspace
    from napari_pisam.images.crops import Bbox
    from napari_pisam.session.classes import ObjectClass
    from napari_pisam.session.session import Session, SessionObject

_MOST_CLASSES = 255


class Classes:
    """The classes of a viewer's objects.

    Parameters
    ----------
    workspace : Workspace
        Whose objects.

    Attributes
    ----------
    active : str
        Class of the objects to come; empty for none.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._work = workspace
        self.active = ""
        self._layer: Any = None
        self._image: Any = None
        self._windows: list[Bbox] = []
        self._drawn: WeakKeyDictionary[Session, dict[int, int]] = WeakKeyDictionary()
        self._colors: list[str] = []

    # -- giving them --------------------------------------------------------------------------

    def give(self, name: str, numbers: Sequence[int] = ()) -> None:
        """Give objects a class, without numbers the current one; and the objects to come."""
        work = self._work
        work.sync.flush()
        self.active = name
        session = work.session
        if session is None:
            return
        session.class_name = name
        current = [] if session.current is None else [session.current.id]
        chosen = [number for number in numbers if session.get(number) is not None] or current
        self._give_in_all_slices(session, chosen, name)
        of = f"{len(chosen)} object(s)" if len(chosen) > 1 else "The object"
        what = f"are {name!r}" if name else "have no class"
        told = f"{of}: {name or 'no class'}. " if chosen else ""
        work.hinted.emit(f"{told}Objects to come {what}.")
        work.changed.emit()

    def _give_in_all_slices(self, session: Session, numbers: Sequence[int], name: str) -> None:
        """Give it wherever the objects go on: one step to undo."""
        planes = self._work.planes
        there = {
            one: [id_ for id_ in numbers if _is_other(one.get(id_), name)]
            for one in planes.sessions.get(planes.image, {}).values()
        }
        own = there.pop(session, [])
        others = {one: members for one, members in there.items() if members}
        group = InSlices(sessions=[session, *others]) if others else None
        if own:
            session.set_class(own, name, group)
        elif group is not None:
            # For undo to find it from here.
            session.mark(group)
        for one, members in others.items():
            one.set_class(members, name, group)

    def give_by_key(self, place: int, numbers: Sequence[int] = ()) -> None:
        """Give the class of a place in the list, from 1; 0 for none."""
        names = ["", *(one.name for one in self._work.planes.classes)]
        if place < len(names):
            self.give(names[place], numbers)
        else:
            self._work.hinted.emit(
                f"There is no class {place}. Add one under Class > Edit classes."
            )

    def edit(self, wanted: Sequence[tuple[str, ObjectClass]]) -> None:
        """Have these classes: of each the name that it had, empty for a new one, and what it is.

        Objects of a class that has another name now follow; those of one that is gone have none.

        Raises
        ------
        ValueError
            If two have one name.
        """
        planes = self._work.planes
        renamed = {old: new.name for old, new in wanted if old}
        before = [one.name for one in planes.classes]
        planes.classes.replace(new for _, new in wanted)
        self.active = renamed.get(self.active, "")
        sessions = list(planes.sessions.get(planes.image, {}).values())
        changes = [(old, renamed.get(old, "")) for old in before if renamed.get(old) != old]
        for session in sessions:
            # All looked at before any is changed: two names may have been swapped.
            members = [
                ([one.id for one in session.objects if one.class_name == old], new)
                for old, new in changes
            ]
            for numbers, new in members:
                session.set_class(numbers, new)
        self._work.changed.emit()

    def follow(self) -> None:
        """Know the classes that objects have, after a session was opened for example."""
        session = self._work.session
        if session is None:
            return
        session.class_name = self.active
        known = {one.name for one in self._work.planes.classes}
        new = dict.fromkeys(one.class_name for one in session.objects if one.class_name)
        self._work.planes.classes.add(name for name in new if name not in known)
        self._draw()

    # -- the layer ----------------------------------------------------------------------------

    @property
    def is_shown(self) -> bool:
        """Whether the classes are a layer."""
        return self._layer is not None and self._layer in self._work.viewer.layers

    def show(self, shown: bool) -> None:
        """Add the layer of classes, or take it away."""
        work = self._work
        image = work.planes.image
        if not shown and self.is_shown:
            with keeping_selection(work.viewer):
                work.viewer.layers.remove(self._layer)
        elif shown and not self.is_shown and image is not None:
            self._drawn.clear()
            self._colors = []
            with keeping_selection(work.viewer):
                name = f"{image.name} classes"
                self._layer = new_labels_layer(work.viewer, image, name=name, dtype=np.uint8)
                put_below_prompts(work.viewer, self._layer)
            self._image = image
            self._draw()

    def touch(self, window: Bbox | None) -> None:
        """Note that a window of the labels was written."""
        if window is not None and self.is_shown:
            self._windows.append(window)

    def _draw(self) -> None:
        """Write what changed into the layer, in the objects' windows only."""
        work = self._work
        labels, session = work.planes.labels, work.session
        windows, self._windows = self._windows, []
        if not self.is_shown or labels is None or session is None:
            return
        if self._image is not work.planes.image or self._layer.ndim != labels.layer.ndim:
            return
        self._color()
        places = {one.name: n for n, one in enumerate(work.planes.classes, 1) if n <= _MOST_CLASSES}
        objects = {one.id: one for one in session.objects if one.committed}
        now = {id_: place for id_, one in objects.items() if (place := places.get(one.class_name))}
        before = self._drawn.get(session, {})
        changed = [id_ for id_ in now.keys() | before.keys() if now.get(id_) != before.get(id_)]
        self._drawn[session] = now
        masks = (objects[id_].mask for id_ in changed if id_ in objects)
        windows += [mask.bbox for mask in masks if mask is not None]
        if windows:
            plane = labels.of_layer(self._layer)
            _write(labels, plane, now, windows)
            refresh_labels_windows(plane, windows)

    def _color(self) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        colors = [one.color for one in self._work.planes.classes]
        if colors != self._colors:
            self._colors = colors
            nothing: dict[int | None, str] = {None: "transparent", 0: "transparent"}
            table = nothing | dict(enumerate(colors, 1))
            self._layer.colormap = DirectLabelColormap(color_dict=table)


def _is_other(one: SessionObject | None, name: str) -> bool:
    return one is not None and one.class_name != name


def _write(
    labels: LabelsPlane, plane: LabelsPlane, now: dict[int, int], windows: Iterable[Bbox]
) -> None:
    """Write the place of each label's class."""
    numbers = np.array([0, *sorted(now)])
    places = np.array([0, *(now[number] for number in numbers[1:].tolist())], dtype=np.uint8)
    for row0, col0, row1, col1 in windows:
        window = slice(row0, row1), slice(col0, col1)
        block = np.asarray(labels[window])
        found = np.minimum(np.searchsorted(numbers, block), len(numbers) - 1)
        plane[window] = np.where(numbers[found] == block, places[found], 0)
