"""What the demo segments: pictures inside scikit-image, boxes drawn by hand, and a reference.

The reference is made without a network; it stands for the person who sees where a mask is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_pisam.predict.areas import Box
    from napari_pisam.predict.mask import Mask
    from napari_pisam.predict.prompts import Prompts


@dataclass(frozen=True)
class Scene:
    """A picture and the boxes of its objects.

    ``reference`` gives an object's pixels by its box; ``reference_name`` says how it does.
    """

    name: str
    file: str
    boxes: tuple[Box, ...]
    reference: Callable[[NDArray[Any], Box], NDArray[np.bool_]]
    reference_name: str


@dataclass
class DemoObject:
    """One object's way from a box to its last click; IoU is against the scene's reference."""

    box: Box
    truth: NDArray[np.bool_]
    masks: list[Mask] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    clicks: list[tuple[float, float, bool]] = field(default_factory=list)

    def iou(self, step: int) -> float:
        """IoU of the mask after a number of clicks (-1: the last one)."""
        from napari_pisam.measure.metrics import iou

        return iou(self.masks[step].to_array(), self.truth)

    def prompts(self) -> Prompts:
        """Return all prompts that the last mask came from."""
        from napari_pisam.predict.prompts import Prompts

        return Prompts(self.box, [c[:2] for c in self.clicks], [c[2] for c in self.clicks])


def load(scene: Scene) -> NDArray[np.uint8]:
    """Read a scene's picture from scikit-image's own folder; nothing is ever downloaded.

    Returns
    -------
    (H, W) or (H, W, 3) uint8 array

    Raises
    ------
    ValueError
        If this scikit-image does not have it.
    """
    import skimage
    from PIL import Image

    path = Path(skimage.__file__).parent / "data" / scene.file
    if not path.is_file():
        raise ValueError(
            f"This scikit-image has no picture {scene.file}. Choose another with --image: "
            f"{', '.join(SCENES)}."
        )
    with Image.open(path) as picture:
        return np.asarray(picture)


def _bright(image: NDArray[Any], box: Box) -> NDArray[np.bool_]:
    """Otsu's threshold in and around the box, holes filled, the largest piece."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    rows, cols = _around(image, box)
    values = ndimage.gaussian_filter(image[rows, cols].astype(np.float64), sigma=1.0)
    found = values > threshold_otsu(values)  # type: ignore[no-untyped-call]
    found = ndimage.binary_opening(ndimage.binary_fill_holes(found), iterations=2)
    return _largest(image.shape[:2], found, rows, cols)


def _around(image: NDArray[Any], box: Box, margin: int = 4) -> tuple[slice, slice]:
    height, width = image.shape[:2]
    return (
        slice(max(0, int(box[0]) - margin), min(height, int(box[2]) + margin + 1)),
        slice(max(0, int(box[1]) - margin), min(width, int(box[3]) + margin + 1)),
    )


def _largest(
    shape: tuple[int, ...], found: NDArray[np.bool_], rows: slice, cols: slice
) -> NDArray[np.bool_]:
    from scipy import ndimage

    pieces, count = ndimage.label(found)
    result = np.zeros(shape, dtype=np.bool_)
    if count:
        sizes = np.bincount(pieces.ravel())[1:]
        result[rows, cols] = pieces == 1 + int(sizes.argmax())
    return result


def _photographer(image: NDArray[Any], box: Box) -> NDArray[np.bool_]:
    """Take what is darker than Otsu's threshold, and the face, which is drawn by eye."""
    from PIL import Image, ImageDraw
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    rows, cols = _around(image, box, margin=0)
    values = ndimage.gaussian_filter(image.astype(np.float64), sigma=1.0)[rows, cols]
    found = values < threshold_otsu(values)  # type: ignore[no-untyped-call]
    canvas = Image.new("1", (image.shape[1], image.shape[0]))
    ImageDraw.Draw(canvas).polygon(_FACE, fill=1)
    found |= np.asarray(canvas)[rows, cols]
    return _largest(image.shape[:2], ndimage.binary_opening(found, iterations=2), rows, cols)


_FACE = (
    *((180, 125), (240, 124), (243, 140), (240, 150), (246, 160), (240, 170), (241, 190)),
    *((215, 200), (190, 212), (172, 180)),
)
"""(x, y) px around the face and the collar."""


def _dark_ridges(image: NDArray[Any], box: Box) -> NDArray[np.bool_]:
    """Take what is darker in green than its surroundings, by Otsu's threshold on the difference."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    rows, cols = _around(image, box, margin=0)
    green = ndimage.gaussian_filter(image[..., 1].astype(np.float64), sigma=1.5)
    # Wider than a vessel, narrower than the fovea, which is dark and none.
    darker = (ndimage.gaussian_filter(green, sigma=8) - green)[rows, cols]
    pieces, _ = ndimage.label(darker > threshold_otsu(darker))  # type: ignore[no-untyped-call]
    large = np.bincount(pieces.ravel()) >= _SPECK
    result = np.zeros(image.shape[:2], dtype=np.bool_)
    result[rows, cols] = large[pieces] & (pieces > 0)
    return result


_SPECK = 300
"""Smaller pieces of a vessel are no vessels, px."""


def _ellipse(image: NDArray[Any], box: Box) -> NDArray[np.bool_]:
    """Fill the ellipse in the box, for an outline that was drawn by eye."""
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    radii = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    rows, cols = np.ogrid[: image.shape[0], : image.shape[1]]
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2 <= 1
    return np.asarray(inside)


SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            "coins",
            "coins.png",
            (
                (32, 21, 75, 68),
                (37, 79, 76, 122),
                (14, 302, 74, 367),
                (93, 243, 146, 298),
                (168, 187, 219, 238),
                (154, 313, 220, 381),
                (231, 17, 290, 76),
                (235, 142, 289, 203),
            ),
            _bright,
            "Otsu's threshold in the box",
        ),
        Scene(
            "cell",
            "cell.png",
            ((304, 358, 446, 499),),
            _bright,
            "Otsu's threshold in the box",
        ),
        Scene(
            "retina",
            "retina.jpg",
            ((550, 122, 757, 318),),
            _ellipse,
            "an ellipse drawn by eye",
        ),
        Scene(
            "photographer",
            "camera.png",
            ((66, 0, 511, 308),),
            _photographer,
            "Otsu's threshold and a face drawn by eye",
        ),
        Scene(
            "vessels",
            "retina.jpg",
            ((405, 330, 830, 880),),
            _dark_ridges,
            "a local threshold on green",
        ),
    )
}

OVERVIEW = ("coins", "photographer", "vessels")
"""Many objects, a large one with a fine outline, and a network of thin lines."""
