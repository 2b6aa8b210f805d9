"""The demo's picture: masks from the boxes alone beside masks after the clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_pisam.images.drawing import WHITE, draw_click, enlarged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.cli.demo_scenes import DemoObject

Color: TypeAlias = tuple[int, int, int]

# Okabe and Ito's colours, told apart by colour-blind people too; green and red are the clicks'.
_OBJECTS: tuple[Color, ...] = ((86, 180, 233), (230, 159, 0), (240, 228, 66), (204, 121, 167))
_TEXT: Color = (40, 40, 40)
_SIDE = 960
_GAP = 24
_HEAD = 56
_FOOT = 56


class _Viewport:
    """The part of the image that is shown, and how much larger."""

    def __init__(self, shape: tuple[int, ...], objects: Sequence[DemoObject]) -> None:
        boxes = np.array([one.box for one in objects])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        margin = max(0.6 * float((high - low).max()) - 60, 40)
        row0, col0 = np.maximum(low - margin, 0).astype(int).tolist()
        row1, col1 = np.minimum(high + margin, shape[:2]).astype(int).tolist()
        self.rows, self.cols = slice(row0, row1), slice(col0, col1)
        self.scale = _SIDE / max(row1 - row0, col1 - col0)
        self.size = round((col1 - col0) * self.scale), round((row1 - row0) * self.scale)

    def place(self, row: float, col: float) -> tuple[float, float]:
        """(x, y) px of the panel; a pixel's centre lies half a pixel inside its first edge."""
        return (
            (col + 0.5 - self.cols.start) * self.scale,
            (row + 0.5 - self.rows.start) * self.scale,
        )


def draw_preview(
    image: NDArray[Any], objects: Sequence[DemoObject], reference_name: str
) -> Image.Image:
    """Draw two panels: after the boxes, and after the clicks.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8 array
        The picture.
    objects : sequence of DemoObject
        With their masks.
    reference_name : str
        What the IoU is against.
    """
    view = _Viewport(image.shape, objects)
    width, height = view.size
    canvas = Image.new("RGB", (2 * width + 3 * _GAP, height + _HEAD + _FOOT), WHITE)
    count = sum(len(one.clicks) for one in objects)
    boxes = "Boxes" if len(objects) > 1 else "Box"
    titles = (boxes, f"{boxes} and {count} click{'' if count == 1 else 's'}")
    what = "mean IoU" if len(objects) > 1 else "IoU"
    for step, title in zip((0, -1), titles, strict=True):
        left = _GAP if step == 0 else width + 2 * _GAP
        canvas.paste(_panel(image, objects, view, step), (left, _HEAD))
        mean = sum(one.iou(step) for one in objects) / len(objects)
        ImageDraw.Draw(canvas).text(
            (left, _HEAD / 2), f"{title}: {what} {mean:.2f}", _TEXT, _font(28), anchor="lm"
        )
    _legend(ImageDraw.Draw(canvas), height + _HEAD + _FOOT / 2, reference_name)
    return canvas


def _panel(
    image: NDArray[Any], objects: Sequence[DemoObject], view: _Viewport, step: int
) -> Image.Image:
    shown = Image.fromarray(image[view.rows, view.cols]).convert("RGB")
    canvas = np.asarray(shown.resize(view.size, Image.Resampling.BICUBIC)).astype(np.float32)
    colors = [_OBJECTS[number % len(_OBJECTS)] for number in range(len(objects))]
    for one, color in zip(objects, colors, strict=True):
        inside, edge = enlarged(one.masks[step].to_array()[view.rows, view.cols], view.size, edge=3)
        canvas[inside] += 0.22 * (np.array(color) - canvas[inside])
        canvas[edge] = color
    panel = Image.fromarray(canvas.round().astype(np.uint8))
    draw = ImageDraw.Draw(panel)
    for number, (one, color) in enumerate(zip(objects, colors, strict=True), 1):
        corners = (*view.place(*one.box[:2]), *view.place(*one.box[2:]))
        draw.rectangle(corners, outline=WHITE, width=1)
        text = f"{number}: {one.iou(step):.2f}"
        spot = (corners[0], corners[1] - 4)
        draw.text(spot, text, color, _font(20), anchor="lb", stroke_width=2, stroke_fill=(0, 0, 0))
    if step != 0:
        for one in objects:
            for row, col, is_foreground in one.clicks:
                draw_click(draw, view.place(row, col), 8, is_foreground=is_foreground)
    return panel


def _legend(draw: ImageDraw.ImageDraw, y: float, reference_name: str) -> None:
    font, x = _font(20), float(_GAP)

    def write(text: str, after: float = 36) -> None:
        nonlocal x
        draw.text((x, y), text, _TEXT, font, anchor="lm")
        x += draw.textlength(text, font) + after

    draw.rectangle((x, y - 10, x + 28, y + 10), outline=(120, 120, 120), width=1)
    x += 38
    write("box")
    draw.line((x, y, x + 28, y), fill=_OBJECTS[0], width=4)
    x += 38
    write("mask")
    draw_click(draw, (x + 10, y), 8, is_foreground=True)
    x += 30
    write("FG click")
    draw_click(draw, (x + 10, y), 8, is_foreground=False)
    x += 30
    write("BG click")
    write(f"numbers: object, IoU with {reference_name}")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below each other, each as wide as the narrowest of them."""
    width = min(picture.width for picture in pictures)
    scaled = [
        picture.resize((width, round(picture.height * width / picture.width)))
        for picture in pictures
    ]
    canvas = Image.new("RGB", (width, sum(picture.height for picture in scaled)), WHITE)
    top = 0
    for picture in scaled:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas
