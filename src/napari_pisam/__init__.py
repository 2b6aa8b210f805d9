"""Boxes and clicks in, masks out: Segment Anything with Precise Interaction for napari.

The public names are imported when they are first used: napari imports this package at start-up to
read its manifest, and must not pay seconds for torch then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pisam.images.track_files import write_tracks
    from napari_pisam.layers.scripting import segment_layers
    from napari_pisam.measure.tracks import tracks
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.predict.prompts import Prompts
    from napari_pisam.predict.propagation import propagate
    from napari_pisam.session.series import Series

    __version__: str

__all__ = [
    "Mask",
    "Predictor",
    "Prompts",
    "Series",
    "__version__",
    "propagate",
    "segment_layers",
    "tracks",
    "write_tracks",
]

_HOMES = {
    "Mask": "napari_pisam.predict.mask",
    "Predictor": "napari_pisam.predict.predictor",
    "Prompts": "napari_pisam.predict.prompts",
    "Series": "napari_pisam.session.series",
    "propagate": "napari_pisam.predict.propagation",
    "segment_layers": "napari_pisam.layers.scripting",
    "tracks": "napari_pisam.measure.tracks",
    "write_tracks": "napari_pisam.images.track_files",
}


def __getattr__(name: str) -> object:
    """Import a public name on its first use, and keep it.

    Raises
    ------
    AttributeError
        If this package has no such name.
    """
    value: object
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("napari-pisam")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what is here and what can be imported lazily, for completion in a console."""
    return sorted({*globals(), *__all__})
