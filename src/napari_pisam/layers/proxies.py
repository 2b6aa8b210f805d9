"""napari hands plugins its objects in wrappers; here they are taken out."""

from __future__ import annotations

from typing import Any


def unwrapped(given: Any) -> Any:
    """Return the viewer, layer or list itself where napari handed out a wrapper of it.

    A dock that was opened by ``napari -w`` or by `add_plugin_dock_widget` gets its viewer, and
    through it every layer, as a new ``PublicOnlyProxy`` each time: such are never identical to
    each other, nor to what events carry.
    """
    return getattr(given, "__wrapped__", given)
