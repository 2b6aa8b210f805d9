"""napari's sample images of this plugin; nothing is downloaded for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    LayerData: TypeAlias = tuple[NDArray[Any], dict[str, Any], str]


def coins() -> list[LayerData]:
    """Return scikit-image's photograph of Greek coins, (303, 384) uint8, as an image layer."""
    from napari_pisam.cli.demo_scenes import SCENES, load

    return [(load(SCENES["coins"]), {"name": "coins"}, "image")]


def filaments() -> list[LayerData]:
    """Return a generated image of filaments, 512 x 512 uint8, as an image layer."""
    return _shipped("filaments")


def cells() -> list[LayerData]:
    """Return a generated image of cells in contact, 512 x 512 uint8, as an image layer."""
    return _shipped("cells")


def _shipped(name: str) -> list[LayerData]:
    from importlib.resources import files

    import numpy as np
    from PIL import Image

    with (
        (files("napari_pisam.images") / "samples" / f"{name}.png").open("rb") as file,
        Image.open(file, formats=["PNG"]) as picture,
    ):
        image = np.asarray(picture)
    return [(image, {"name": name, "rgb": False}, "image")]
