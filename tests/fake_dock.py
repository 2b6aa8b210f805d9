"""What the dock's controller needs from outside: a predictor that draws, executors, drawing."""

from __future__ import annotations

import threading

import numpy as np

from fake_session import FakePredictor, drawn
from napari_pisam.predict.prompts import Prompts


class ImagePredictor(FakePredictor):
    """A fake that, as the real one, has to be given an image; it remembers which.

    While `gate` is closed (``gate.clear()``) it computes on and on.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.gate = threading.Event()
        self.gate.set()
        self.images = []

    def set_image(self, source) -> None:
        self.images.append(source)
        self.shape = source.shape

    def predict(self, box=None, points=None, labels=None, mask=None):
        self.gate.wait(60)
        return super().predict(box, points, labels, mask)


def expected(shape, box=None, points=(), labels=()):
    """The (H, W) bool pixels that the fake answers with."""
    return drawn(shape, Prompts(box, list(points), list(labels)))


def draw_box(layer, box):
    """Do what a hand does to a Shapes layer in two dimensions."""
    r0, c0, r1, c1 = box
    layer.add(np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]]), shape_type="rectangle")


def click(layer, row, col):
    """Do what a hand does to a Points layer in two dimensions."""
    layer.add([row, col])
