"""Sizes in words, for both docks."""

from __future__ import annotations


def memory_text(nbytes: int) -> str:
    """Write bytes for people: ``"48 MB"``, ``"2.6 GB"``."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
