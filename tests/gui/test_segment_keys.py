"""The dock's keys take none that napari or its layers need."""

from __future__ import annotations

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.shortcuts import default_shortcuts

from napari_pisam.docks.segment.keys import ALL_KEYS, bind_keys, keys_table

OURS = [(key.action, name) for key in ALL_KEYS for name in key.keys]


@pytest.mark.parametrize(("action", "name"), OURS)
def test_key_is_not_one_of_naparis(action, name):
    binding = KeyBinding.from_str(name.replace("Control", "Ctrl").replace("-", "+"))
    taken = {key for keys in default_shortcuts.values() for key in keys}
    assert binding not in taken
    for kind in (Points, Shapes, Image):
        assert binding not in kind.class_keymap
    # Labels have an undo of their own for what was painted; it stays theirs.
    assert binding not in Labels.class_keymap or action in {"undo", "redo"}


def test_no_key_is_listed_twice():
    names = [name for _, name in OURS]
    assert len(set(names)) == len(names)


def test_keys_are_bound_and_unbound():
    viewer, done = ViewerModel(), []
    actions = {key.action: (lambda name=key.action: done.append(name)) for key in ALL_KEYS}
    unbind = bind_keys(viewer, actions)
    for call in list(viewer.keymap.values()):
        call(viewer)
    assert set(done) == set(actions)
    unbind()
    assert not viewer.keymap


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_keys_of_two_docks_are_the_last_ones_and_go_back(order):
    viewer, done = ViewerModel(), []
    unbinds = [
        bind_keys(viewer, {key.action: (lambda dock=dock: done.append(dock)) for key in ALL_KEYS})
        for dock in range(2)
    ]
    for dock in order:
        for call in list(viewer.keymap.values()):
            call(viewer)
        # Both: the second has them; only one is open: that one.
        assert set(done) == ({1} if dock == order[0] else {order[1]})
        done.clear()
        unbinds[dock]()
    assert not viewer.keymap


def test_every_key_is_in_the_table_and_in_the_docs(root):
    docs = (root / "docs" / "segment.md").read_text(encoding="utf-8")
    for _, name in OURS:
        assert f"<b>{name}</b>" in keys_table()
        assert f"`{name}`" in docs
