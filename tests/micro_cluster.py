"""Workers of a cluster with the micro model, which other processes can import."""

from __future__ import annotations

import time

from micro import micro_model
from napari_pisam.predict.cluster import ModelPlugin
from napari_pisam.predict.predictor import Predictor


class MicroPlugin(ModelPlugin):
    """Loads the micro model, changed, which needs `delay` more seconds for every prediction."""

    def __init__(self, model="tiny", device="cpu", precision="fp32", delay=0.0, **changes):
        super().__init__(model, device, precision)
        self.delay, self.changes = delay, changes

    def load(self):
        predictor = Slow(micro_model(**self.changes), "cpu", "fp32")
        predictor.delay = self.delay
        return predictor, "0" * 64, "micro"


class BrokenPlugin(ModelPlugin):
    """Finds no model."""

    def load(self):
        raise ValueError("there is no such model here")


class Slow(Predictor):
    """Takes its time."""

    delay = 0.0

    def predict(self, *arguments, **options):
        time.sleep(self.delay)
        return super().predict(*arguments, **options)
