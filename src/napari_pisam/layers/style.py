"""How prompts look. Colour and symbol both say FG or BG: not everybody tells red from green.

Clicks and box lines are as large on the screen as they are easy to hit and never much larger: one
that grew with the picture would hide the nucleus that it is on.
"""

from __future__ import annotations

from typing import Any

COLORS = {"FG": "#009e73", "BG": "#d55e00"}
SYMBOLS = {"FG": "disc", "BG": "cross"}
BOX_COLOR = "#56b4e9"

CLICK_LIMITS = (6.0, 16.0)
"""The least and the largest size of a click, px of the screen."""

LINE_WIDTH = 2.0
"""Of a box, px of the screen."""

# Lines are drawn anew when their width differs by more than this share.
_UNSEEN = 0.05
# A ring of this share of a click's size is coloured; its centre is left open.
_RING = 0.25


def click_look(side: int) -> dict[str, Any]:
    """Return the size and the see-through centre of clicks, as keywords of a Points layer.

    Parameters
    ----------
    side : int
        The longer side of the image, px. Zoomed out to all of it, a click is a sixtieth of that.
    """
    return {
        "size": max(CLICK_LIMITS[0], side / 60),
        "canvas_size_limits": CLICK_LIMITS,
        "border_width": _RING,
        "face_color": "transparent",
    }


def keep_lines_thin(shapes: Any) -> None:
    """Keep the lines of a Shapes layer `LINE_WIDTH` on the screen, however far it is zoomed."""

    # A function, not a method: napari forgets methods whose object nobody else holds.
    def follow(_event: Any = None) -> None:
        # napari's widths are in the layer's own px.
        width = LINE_WIDTH * shapes.scale_factor / abs(shapes.scale[-1])
        widths = [shapes.current_edge_width, *shapes.edge_width]
        if max(abs(one - width) for one in widths) > _UNSEEN * width:
            shapes.edge_width = width
            shapes.current_edge_width = width
            shapes.refresh(extent=False, thumbnail=False)

    follow()
    shapes.events.scale_factor.connect(follow)
