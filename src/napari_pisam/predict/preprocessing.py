"""From an image and prompts to the network's frame, and the one place that maps coordinates.

Public coordinates are (row, col), pixel centres at integers; the network's are (x, y) px of its
square frame, pixel centres at +0.5. The flip, the half pixel, the scale, the level of a pyramid and
the offset of the window are here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_pisam.predict.windows import MEAN_SAMPLES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_pisam.images.image_source import ImageSource
    from napari_pisam.predict.prompts import MaskPrompt
    from napari_pisam.predict.windows import Window

# Values read and converted to float at a time.
_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class FrameTransform:
    """Maps between an image and the part of the frame that shows a window of it.

    Attributes
    ----------
    edge : (float, float)
        (row, col) of the window's first edge, level-0 px counted from the image's first edge.
    scale : (float, float)
        Frame px per level-0 px, along rows and columns.
    size : (int, int)
        (height, width) of the valid part of the frame, px; the longer one is the frame.
    """

    edge: tuple[float, float]
    scale: tuple[float, float]
    size: tuple[int, int]

    @classmethod
    def of(cls, window: Window, frame: int = 1024) -> FrameTransform:
        """Return the transform of a window whose longer side fills its frame, or `frame` px."""
        frame = window.frame or frame
        reduced = window.reduced_shape
        longest = max(reduced)
        # In whole numbers: no float may turn the frame into frame + 1.
        height, width = (max(1, (2 * n * frame + longest) // (2 * longest)) for n in reduced)
        scale_r, scale_c = window.level_scale
        return cls(
            (window.row0 * scale_r, window.col0 * scale_c),
            (
                height / (reduced[0] * window.step * scale_r),
                width / (reduced[1] * window.step * scale_c),
            ),
            (height, width),
        )

    def points_to_frame(self, points: ArrayLike) -> NDArray[np.float64]:
        """(n, 2) (row, col) px of the image -> (n, 2) (x, y) px of the frame."""
        rc = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        yx: NDArray[np.float64] = (rc + 0.5 - np.array(self.edge)) * np.array(self.scale)
        return yx[:, ::-1]

    def from_frame(self, points: ArrayLike) -> NDArray[np.float64]:
        """(n, 2) (x, y) px of the frame -> (n, 2) (row, col) px of the image."""
        yx = np.asarray(points, dtype=np.float64).reshape(-1, 2)[:, ::-1]
        rc: NDArray[np.float64] = yx / np.array(self.scale) + np.array(self.edge) - 0.5
        return rc

    def box_to_frame(self, box: ArrayLike) -> NDArray[np.float64]:
        """(4,) box of the image -> (x0, y0, x1, y1) px, clipped to the valid part of the frame."""
        corners = self.points_to_frame(np.reshape(np.asarray(box, dtype=np.float64), (2, 2)))
        height, width = self.size
        return np.clip(corners, 0, [width, height]).reshape(4)

    def mask_to_logits(self, mask: MaskPrompt, frame: int = 1024, cell: int = 4) -> NDArray[Any]:
        """Turn a mask into the logits that SAM's prompt encoder expects.

        Returns
        -------
        (1, frame/cell, frame/cell) float32 array
            +10 where a cell is covered by the mask, -10 where it is not, in between by the share
            that is.
        """
        side = frame // cell
        weights = []
        for axis, length in enumerate(mask.crop.shape):
            # The cells' edges, in px of the crop.
            edges = np.arange(side + 1) * cell / self.scale[axis] + self.edge[axis]
            weights.append(_coverage(edges - mask.origin[axis], length))
        share = np.zeros((side, side))
        rows = max(1, _BLOCK_VALUES // mask.crop.shape[1])
        for start in range(0, mask.crop.shape[0], rows):
            part = mask.crop[start : start + rows].astype(np.float64)
            share += weights[0][:, start : start + rows] @ (weights[1] @ part.T).T
        return (share * 20 - 10).astype(np.float32)[np.newaxis]


def _coverage(edges: NDArray[np.float64], length: int) -> Any:
    """(cells, length) sparse: which share of each cell every pixel 0..length-1 covers."""
    first = np.clip(np.floor(edges[:-1]), 0, length).astype(int)
    last = np.clip(np.ceil(edges[1:]), 0, length).astype(int)
    counts = np.maximum(last - first, 0)
    cells = np.repeat(np.arange(len(counts)), counts)
    offsets = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    pixels = first[cells] + offsets
    overlap = np.minimum(edges[cells + 1], pixels + 1) - np.maximum(edges[cells], pixels)
    share = np.maximum(overlap, 0) / (edges[cells + 1] - edges[cells])
    return sparse.csr_array((share, (cells, pixels)), shape=(len(counts), length))


def _read_reduced(source: ImageSource, window: Window) -> NDArray[np.float32]:
    """Read a window in bounded blocks, each averaged before the next is read."""
    step = window.step
    # It divides the step, so that no block, a partial one neither, goes without a sample.
    stride = max(n for n in range(1, max(1, step // MEAN_SAMPLES) + 1) if step % n == 0)
    height, width = window.reduced_shape
    rgb = np.zeros((height, width, 3), dtype=np.float32)
    samples = -(-step // stride)
    across = max(1, min(width, _BLOCK_VALUES // samples**2))
    down = max(1, _BLOCK_VALUES // (across * samples**2))
    for top in range(0, height, down):
        row = window.row0 + top * step
        rows = slice(row, min(row + down * step, window.row1), stride)
        for left in range(0, width, across):
            col = window.col0 + left * step
            cols = slice(col, min(col + across * step, window.col1), stride)
            part = _block_means(source.read_rgb((rows, cols), window.level), step, stride)
            rgb[top : top + down, left : left + across] = part
    return rgb


def _block_means(pixels: NDArray[np.float32], step: int, stride: int) -> NDArray[np.float32]:
    for axis in (0, 1):
        size = pixels.shape[axis]
        # Sample k lies at pixel k * stride of the block; the last block may be a partial one.
        blocks = np.arange(size) * stride // step
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        counts = np.diff(starts, append=size).astype(np.float32)
        sums: NDArray[np.float32] = np.add.reduceat(pixels, starts, axis=axis)
        pixels = sums / counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return pixels


class MissingFrame(LookupError):
    """A window of an image that is elsewhere, and was not sent."""

    def __init__(self, window: Window) -> None:
        super().__init__(f"The window {window} was not sent.")
        self.window = window


@dataclass(frozen=True)
class SentImage:
    """What was sent of an image that is elsewhere: the frames of some windows of it.

    Attributes
    ----------
    levels : list of (int, int)
        (H, W) of the levels of the image, px.
    frames : dict of Window to (3, h, w) float32 array
        From `to_frame`.
    """

    levels: list[tuple[int, int]]
    frames: dict[Window, NDArray[np.float32]]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0, px."""
        return self.levels[0]


def to_frame(
    source: ImageSource | SentImage, window: Window, frame: int = 1024
) -> NDArray[np.float32]:
    """Read a window and make it what the network expects.

    Parameters
    ----------
    source : ImageSource
        Grey images become grey RGB; a missing third channel is black.
    window : Window
        From `windows.choose_window`.
    frame : int
        Side of the network's frame, px.

    Returns
    -------
    (3, h, w) float32 array
        RGB in 0..255, the longer side `frame` px, resized by anti-aliased bilinear interpolation.

    Raises
    ------
    MissingFrame
        If the image is elsewhere, and the window was not sent.
    """
    if isinstance(source, SentImage):
        if window not in source.frames:
            raise MissingFrame(window)
        return source.frames[window]
    if window.step > 1:
        rgb = _read_reduced(source, window)
    else:
        rgb = source.read_rgb((window.rows, window.cols), window.level)
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    size = FrameTransform.of(window, frame).size
    if planes.shape[1:] == size:
        return planes
    # Imported late: prompts and windows are used where torch must not be loaded.
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], size, mode="bilinear", align_corners=False, antialias=True
    )
    result: NDArray[np.float32] = resized[0].numpy()
    return result
