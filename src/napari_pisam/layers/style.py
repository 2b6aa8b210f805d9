"""How prompts look. Colour and symbol both say FG or BG: not everybody tells red from green."""

from __future__ import annotations

COLORS = {"FG": "#009e73", "BG": "#d55e00"}
SYMBOLS = {"FG": "disc", "BG": "cross"}
BOX_COLOR = "#56b4e9"
