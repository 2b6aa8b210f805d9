"""A stack with an object that moves, and a predictor that finds what is bright."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fake_dock import ImagePredictor
from fake_session import drawn, mask_of
from napari_pisam.predict.prompts import Prompts

SIDE = 64


class BrightPredictor(ImagePredictor):
    """Finds what is bright and touches the box, near it only; clicks add and take away discs."""

    def predict(self, box=None, points=None, labels=None, mask=None):
        self.gate.wait(60)
        prompts = box if isinstance(box, Prompts) else Prompts(box, points, labels, mask)
        self.calls.append(prompts)
        result, box = np.zeros(self.shape, bool), prompts.box
        if prompts.mask is not None:
            result = drawn(self.shape, Prompts(mask=prompts.mask))
        elif box is not None:
            low = [max(0, round(box[axis]) - 9) for axis in (0, 1)]
            high = [min(self.shape[axis], round(box[axis + 2]) + 10) for axis in (0, 1)]
            part = np.s_[low[0] : high[0], low[1] : high[1]]
            parts, _ = ndimage.label(self.images[-1].read(part)[..., 0] > 0)
            inside = parts[9 if low[0] else 0 :, 9 if low[1] else 0 :]
            touched = np.unique(inside[: round(box[2] - box[0]), : round(box[3] - box[1])])
            result[part] = np.isin(parts, touched[touched > 0])
        rows, cols = np.mgrid[: self.shape[0], : self.shape[1]]
        for (row, col), label in zip(prompts.points, prompts.labels, strict=True):
            result[(rows - row) ** 2 + (cols - col) ** 2 <= 9] = label
        return mask_of(result, 0.9)


def disc(row, col, radius=8.0):
    down, across = np.mgrid[:SIDE, :SIDE]
    return (down - row) ** 2 + (across - col) ** 2 <= radius**2


def moving(count=10, col=15):
    """A disc that moves, at most 22 px in all."""
    return np.stack([disc(20 + 2 * k, col + 2 * k) for k in range(count)]).astype(np.uint8)
