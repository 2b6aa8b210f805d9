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
    Key("toggle", ("Q",), "switch the next clicks between FG and BG"),
    Key("commit", ("W",), "commit the object to the labels, begin the next"),
    Key("next", ("N",), "begin the next object, leave this one open"),
    Key("discard", ("Shift-D",), "discard the current object"),
    Key("pick", ("J",), "pick up the object under the mouse again"),
    Key("predict", ("G",), "predict now (where Live is off)"),
    Key("hide", ("H",), "show or hide the preview"),
    Key("undo", ("U", "Control-Z"), "undo"),
    Key("redo", ("Shift-U", "Control-Shift-Z"), "redo"),
)
"""Control-Z stays napari's own where a Labels layer is selected: its layer keys come first."""

KEYS = {key.action: key.keys[0] for key in ALL_KEYS}


def bind_keys(target: Any, actions: Mapping[str, Callable[[], object]]) -> None:
    """Bind the keys on a viewer or a layer.

    Parameters
    ----------
    target : napari.Viewer or napari layer
        A layer's keys come before the viewer's, so the prompt layers need their own.
    actions : mapping of str to callable
        What each action of `ALL_KEYS` does.
    """
    for key in ALL_KEYS:
        for name in key.keys:
            target.bind_key(name, _ignoring_argument(actions[key.action]), overwrite=True)


def unbind_keys(target: Any) -> None:
    """Take the keys away again."""
    for key in ALL_KEYS:
        for name in key.keys:
            target.bind_key(name, None)


def keys_table() -> str:
    """Return the keys as a rich-text table."""
    rows = "".join(
        f"<tr><td><b>{'</b> or <b>'.join(key.keys)}</b>&nbsp;&nbsp;</td><td>{key.text}</td></tr>"
        for key in ALL_KEYS
    )
    return f"<table>{rows}</table>"


def _ignoring_argument(action: Callable[[], object]) -> Callable[[Any], None]:
    def run(_target: Any) -> None:
        action()

    return run
