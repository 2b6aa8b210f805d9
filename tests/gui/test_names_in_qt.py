"""Names of layers, files and runs as Qt shows them: as they are, whatever they hold."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from qtpy.QtCore import Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QLabel

from napari_pisam.docks.wording import printable
from napari_pisam.widgets.text import PlainLabel, tip, untagged

NAMES = (
    "<b>bold</b>",
    "<img src='/etc/passwd' width='4000'>",
    "cells & nuclei <3",
    "&lt;i&gt; <u>",
    "plain.tif",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_label_shows_every_name_as_it_is(qtbot, name):
    label, plain = PlainLabel(name), QLabel(name)
    plain.setTextFormat(Qt.TextFormat.PlainText)
    qtbot.addWidget(label)
    qtbot.addWidget(plain)
    assert label.text() == name
    plain.setWordWrap(True)
    assert label.grab().toImage() == plain.grab().toImage()


@pytest.mark.parametrize("name", NAMES)
def test_a_tip_shows_every_name_as_it_is(qtbot, name):
    document = QTextDocument()
    document.setHtml(tip(f"{name}\nsecond line"))
    assert document.toPlainText() == f"{name}\nsecond line"


@pytest.mark.parametrize("name", NAMES)
def test_where_qt_guesses_no_name_is_taken_for_rich_text(name):
    assert not Qt.mightBeRichText(untagged(name))
    assert untagged(name).replace("\N{WORD JOINER}", "") == name


@pytest.mark.parametrize("order", ["\x1b[2J", "\x07", "\r", "\u202e", "\u2066", "\x9b"])
def test_orders_to_a_screen_are_replaced(order):
    assert printable(f"a{order}b").startswith("a\N{REPLACEMENT CHARACTER}")
    assert order not in printable(f"a{order}b")


@pytest.mark.parametrize("name", ["Zellen äöü", "細胞", "תאים", "a\u200db", "line\nline"])
def test_ordinary_letters_are_left_alone(name):
    assert printable(name) == name
