"""Sizes and names in words, for both docks."""

from __future__ import annotations

import unicodedata

# They turn the direction of what follows: a name could pass for another one.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def memory_text(nbytes: int) -> str:
    """Write bytes for people: ``"48 MB"``, ``"2.6 GB"``."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def printable(text: str) -> str:
    """Replace the characters that are orders to a screen, as in a file name with escape codes."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_order(one) else one for one in text)


def _is_order(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _TURNING or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
