"""What pictures of masks are drawn with: smooth outlines, and clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageDraw import ImageDraw

WHITE = (255, 255, 255)
# Okabe and Ito's green and vermilion: told apart by colour-blind people too.
FOREGROUND, BACKGROUND = (0, 158, 115), (213, 94, 0)


def enlarged(
    mask: NDArray[np.bool_], size: tuple[int, int], edge: int = 2
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Enlarge a mask smoothly.

    Parameters
    ----------
    mask : (H, W) bool
    size : tuple of int
        Width and height.
    edge : int
        Width of the outline.

    Returns
    -------
    tuple of (height, width) bool
        The inside, and its outline; where the picture cuts the object, there is an outline too.
    """
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(grey) > 127
    return inside, inside & ~ndimage.binary_erosion(inside, iterations=edge)


def draw_click(
    draw: ImageDraw, place: tuple[float, float], radius: int = 5, *, is_foreground: bool
) -> None:
    """Draw a green disc for a foreground click, a red cross for a background one.

    Parameters
    ----------
    draw : ImageDraw
    place : tuple of float
        x and y.
    radius : int
    is_foreground : bool
    """
    x, y = place
    if is_foreground:
        disc = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(disc, fill=FOREGROUND, outline=WHITE, width=max(1, radius // 4))
        return
    for colour, width in ((WHITE, radius), (BACKGROUND, round(0.55 * radius))):
        draw.line((x - radius, y - radius, x + radius, y + radius), fill=colour, width=width)
        draw.line((x - radius, y + radius, x + radius, y - radius), fill=colour, width=width)
