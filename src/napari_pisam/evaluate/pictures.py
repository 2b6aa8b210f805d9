"""Pictures of the worst objects: the truth, the masks, the box and the clicks."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from napari_pisam.images.crops import extent
from napari_pisam.images.drawing import WHITE, draw_click, enlarged
from napari_pisam.images.image_source import ImageSource
from napari_pisam.measure.metrics import iou

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_pisam.measure.click_rule import Click

TRUTH = (230, 159, 0)
MASK = (86, 180, 233)
_LONGEST = 360
_GAP = 6
# Pixels are not read closer than this: a picture of an object in a huge image stays small.
_READ = 2 * _LONGEST


@dataclass(frozen=True)
class Case:
    """One object as a picture.

    Attributes
    ----------
    title : str
        Which it is.
    ious : tuple of float
        Of each mask: the first by which cases are ordered.
    png : bytes
        A panel for each mask.
    """

    title: str
    ious: tuple[float, ...]
    png: bytes


def keep_worst(
    kept: list[Case],
    limit: int,
    make: Callable[[], Case],
    masks: Sequence[NDArray[np.bool_]],
    truth: NDArray[np.bool_],
) -> None:
    """Add a case to those kept, the worst first, if it belongs there; drawn only then.

    Parameters
    ----------
    kept : list of Case
        Changed in place.
    limit : int
        Most that are kept.
    make : callable
        Draws the case.
    masks : sequence of (H, W) bool
        The first decides.
    truth : (H, W) bool
    """
    value = iou(masks[0], truth)
    if len(kept) >= limit and value >= kept[-1].ious[0]:
        return
    kept.append(make())
    kept.sort(key=lambda case: case.ious[0])
    del kept[limit:]


def make_case(
    title: str,
    image: Any,
    truth: NDArray[np.bool_],
    masks: Sequence[NDArray[np.bool_]],
    *,
    clicks: Sequence[Click] = (),
    with_box: bool = True,
) -> Case:
    """Draw an object and its surroundings.

    Parameters
    ----------
    title : str
    image : ImageSource, array-like or None
        None: grey.
    truth : (H, W) bool
        Not empty.
    masks : sequence of (H, W) bool
        A panel each; clicks are drawn in the last.
    clicks : sequence of (row, col, is foreground)
    with_box : bool
        Draw the box of the truth.

    Returns
    -------
    Case
    """
    rows, cols = _surroundings(truth, clicks)
    step = max(1, max(rows.stop - rows.start, cols.stop - cols.start) // _READ)
    thin = (slice(rows.start, rows.stop, step), slice(cols.start, cols.stop, step))
    outline = truth[thin]
    pixels = np.full((*outline.shape, 3), 128, dtype=np.uint8)
    if image is not None:
        pixels = ImageSource.of(image).read_rgb(thin).round().astype(np.uint8)
    scale = _LONGEST / max(outline.shape)
    size = (max(1, round(outline.shape[1] * scale)), max(1, round(outline.shape[0] * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    panels = []
    for number, mask in enumerate(masks):
        panel = _outlined(picture, ((mask[thin], MASK), (outline, TRUTH)))
        draw = ImageDraw.Draw(panel)
        window = extent(truth)
        if with_box and window is not None:
            corners = [
                (
                    (part.start - rows_or_cols.start) / step * scale,
                    (part.stop - rows_or_cols.start) / step * scale,
                )
                for part, rows_or_cols in zip(window, (rows, cols), strict=True)
            ]
            (top, bottom), (left, right) = corners
            draw.rectangle((left, top, right - 1, bottom - 1), outline=WHITE)
        if number == len(masks) - 1:
            for row, col, sign in clicks:
                place = (
                    ((col - cols.start) / step + 0.5) * scale,
                    ((row - rows.start) / step + 0.5) * scale,
                )
                draw_click(draw, place, is_foreground=sign)
        panels.append(panel)
    return Case(title, tuple(iou(mask, truth) for mask in masks), _png(panels))


def _surroundings(truth: NDArray[np.bool_], clicks: Sequence[Click]) -> tuple[slice, slice]:
    window = extent(truth) or (slice(0, truth.shape[0]), slice(0, truth.shape[1]))
    spans = []
    for axis, part in enumerate(window):
        places = [click[axis] for click in clicks]
        low, high = min([part.start, *places]), max([part.stop, *(p + 1 for p in places)])
        pad = max(4, max(s.stop - s.start for s in window) // 4)
        spans.append(slice(max(0, low - pad), min(truth.shape[axis], high + pad)))
    return spans[0], spans[1]


def _outlined(
    picture: Image.Image, masks: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]]
) -> Image.Image:
    canvas = np.asarray(picture).copy()
    for mask, colour in masks:
        _, edge = enlarged(mask, picture.size)
        canvas[edge] = colour
    return Image.fromarray(canvas)


def _png(panels: Sequence[Image.Image]) -> bytes:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, panels[0].height), WHITE)
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + _GAP
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
