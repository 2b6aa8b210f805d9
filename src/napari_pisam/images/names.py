"""File names as text for people: nothing in them gives orders to a screen."""

from __future__ import annotations

import unicodedata

# They turn the direction of what follows: a name could pass for another one.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Replace the characters that are orders to a screen, as in a file name with escape codes."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_order(one) else one for one in text)


def _is_order(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
