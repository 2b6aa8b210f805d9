"""Sizes and names in words, for both docks."""

from __future__ import annotations

from napari_pisam.images.names import printable

__all__ = ["memory_text", "printable"]


def memory_text(nbytes: int) -> str:
    """Write bytes for people: ``"48 MB"``, ``"2.6 GB"``."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
