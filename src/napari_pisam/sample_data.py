"""napari's sample images of this plugin; nothing is downloaded for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    LayerData: TypeAlias = tuple[NDArray[Any], dict[str, Any], str]

# Seeds whose images look like what they are called.
_SEEDS = {"filaments": 0, "cells": 5}
_SIDE = 512


def coins() -> list[LayerData]:
    """Return scikit-image's photograph of Greek coins, (303, 384) uint8, as an image layer."""
    from napari_pisam.cli.demo_scenes import SCENES, load

    return [(load(SCENES["coins"]), {"name": "coins"}, "image")]


def filaments() -> list[LayerData]:
    """Return a generated image of filaments, 512 x 512 uint8, as an image layer."""
    return _generated("filaments")


def cells() -> list[LayerData]:
    """Return a generated image of cells in contact, 512 x 512 uint8, as an image layer."""
    return _generated("cells")


def _generated(kind: str) -> list[LayerData]:
    import numpy as np

    from napari_pisam.learn.synthetic import generate

    image, _labels = generate(kind, _SIDE, np.random.default_rng(_SEEDS[kind]))
    return [(image, {"name": kind, "rgb": image.ndim == 3}, "image")]
