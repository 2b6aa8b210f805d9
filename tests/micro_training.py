"""``python -m micro_training``: the process of a fine-tuning that knows the micro model, too."""

from __future__ import annotations

import sys
from dataclasses import replace

from micro import MICRO, micro_model
from napari_pisam.learn.finetune.__main__ import main
from napari_pisam.model import variants
from napari_pisam.weights import loading as weights

variants.VARIANTS["micro"] = replace(MICRO, residual=True)
load_model = weights.load_model


def load(name, **options):
    """Return the micro model for its name, and every other one as ever."""
    if str(name) != "micro":
        return load_model(name, **options)
    return weights.LoadedModel(micro_model(residual=True), "ab" * 32, "MIT", "embedded")


if __name__ == "__main__":
    weights.load_model = load
    sys.exit(main())
