"""The dock's keys: one list that is bound, shown in the dock and checked against napari's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Key(NamedTuple):
    """An action's name, the keys that start it, and what it does."""

    action: str
    keys: tuple[str, ...]
    text: str


ALL_KEYS = (
    Key("box", ("K",), "draw a box (rectangle tool)"),
    Key("part", ("Shift-K",), "draw a further box of the same object"),
    Key("scribble", ("Shift-S",), "scribble along the object, FG or BG"),
    Key("outline", ("Shift-O",), "draw the object's outline (lasso)"),
    Key("toggle", ("Q",), "switch the next clicks and scribbles between FG and BG"),
    Key("other", ("Shift-T",), "thin lines in the box, or what is solid in it"),
    Key("commit", ("W",), "commit the object to the labels, begin the next"),
    Key("next", ("N",), "begin the next object, leave this one open"),
    Key("discard", ("Shift-D",), "discard the current object"),
    Key("pick", ("J",), "pick up the object under the mouse again"),
    Key("predict", ("G",), "predict now (where Live is off)"),
    Key("hide", ("H",), "show or hide the preview"),
    Key("undo", ("U", "Control-Z"), "undo"),
    Key("redo", ("Shift-U", "Control-Shift-Z"), "redo"),
    Key("next_image", ("PageDown", "Shift-N"), "the next image of a series"),
    Key("previous_image", ("PageUp", "Shift-B"), "the image before"),
    Key("done_image", ("Shift-W",), "the image is done, show the next one"),
    *(
        Key(f"class {place}", (f"Alt-{place}",), "class of the object, and of those to come")
        for place in range(1, 10)
    ),
    Key("class 0", ("Alt-0",), "no class"),
)
"""Control-Z stays napari's own where a Labels layer is selected: its layer keys come first."""

KEYS = {key.action: key.keys[0] for key in ALL_KEYS}


class _Binding:
    """What a key is bound to; napari asks for its name."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.__name__ = f"pisam_{name}"
        self._action = action
        self.is_over = False

    def __call__(self, _target: Any) -> None:
        self._action()


def bind_keys(target: Any, actions: Mapping[str, Callable[[], object]]) -> Callable[[], None]:
    """Bind the keys on a viewer or a layer.

    Parameters
    ----------
    target : napari.Viewer or napari layer
        A layer's keys come before the viewer's, so the prompt layers need their own.
    actions : mapping of str to callable
        What each action of `ALL_KEYS` does.

    Returns
    -------
    callable
        Takes the keys away again: those that another dock has bound since stay that one's, the
        others go back to whom they belonged.
    """
    bound: list[tuple[str, _Binding, Any]] = []
    for key in ALL_KEYS:
        for name in key.keys:
            ours = _Binding(key.action, actions[key.action])
            bound.append((name, ours, target.bind_key(name, ours, overwrite=True)))

    def unbind() -> None:
        for name, ours, before in bound:
            ours.is_over = True
            there = target.bind_key(name, None)
            back = before if there is ours else there
            if back is not None and not getattr(back, "is_over", False):
                target.bind_key(name, back)

    return unbind


def keys_table() -> str:
    """Return the keys as a rich-text table."""
    alike: dict[str, list[str]] = {}
    for key in ALL_KEYS:
        alike.setdefault(key.text, []).extend(key.keys)
    lines = [("</b> or <b>".join(names), text) for text, names in alike.items()]
    lines.append(("Delete", "in the list: remove the object"))
    # Without a width Qt gives half of the dock to the keys.
    rows = "".join(
        f"<tr><td width='35%'><b>{keys}</b></td><td>{text}</td></tr>" for keys, text in lines
    )
    return f"<table width='100%'>{rows}</table>"
