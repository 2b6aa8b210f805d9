"""How much better crude masks become: ``segment --start crude.tif --refine`` with ``tiny``.

``python benchmarks/refine.py``: a photograph of coins; crude masks are the true ones
grown, shrunk, shifted, as polygons of eight corners and as boxes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from skimage import data, draw, filters, measure, morphology

from napari_pisam.cli.segment import SegmentRequest, segment


def coins() -> tuple[np.ndarray, np.ndarray]:
    """Return the photograph, and its coins by a threshold with holes filled."""
    image = data.coins()
    mask = image > filters.threshold_otsu(filters.gaussian(image, 1, preserve_range=True))
    mask = morphology.remove_small_objects(ndimage.binary_fill_holes(mask), max_size=600)
    mask = ndimage.binary_opening(mask, iterations=3)
    return image, measure.label(mask)


def crude_masks(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Spoil labels in several ways; objects stay apart."""
    polygons, boxes = np.zeros_like(labels), np.zeros_like(labels)
    for one in measure.regionprops(labels):
        row0, col0, row1, col1 = one.bbox
        boxes[row0:row1, col0:col1] = one.label
        outline = max(measure.find_contours(np.pad(labels == one.label, 1), 0.5), key=len) - 1
        corners = outline[np.linspace(0, len(outline) - 1, 8, endpoint=False).astype(int)]
        rows, cols = draw.polygon(corners[:, 0], corners[:, 1], labels.shape)
        polygons[rows, cols] = one.label
    return {
        "grown by 5 px": morphology.dilation(labels, morphology.disk(5)),
        "shrunk by 5 px": labels * ndimage.binary_erosion(labels > 0, iterations=5),
        "shifted by 6 px": np.roll(labels, (4, 4), (0, 1)),
        "8 corners": polygons,
        "boxes": boxes,
    }


def scores(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of every true object."""
    return np.array(
        [
            np.logical_and(found == n, truth == n).sum()
            / np.logical_or(found == n, truth == n).sum()
            for n in np.unique(truth)[1:]
        ]
    )


def main() -> None:
    """Print the mean IoU before and after."""
    image, truth = coins()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tifffile.imwrite(work / "image.tif", image)
        for name, crude in crude_masks(truth).items():
            tifffile.imwrite(work / "crude.tif", crude.astype(np.uint16))
            request = SegmentRequest(
                work / "image.tif", work / "out.tif", start=work / "crude.tif", refine=True
            )
            started = time.process_time()
            segment(request)
            used = time.process_time() - started
            before, after = (
                scores(one, truth) for one in (crude, tifffile.imread(work / "out.tif"))
            )
            print(
                f"coins, {name}: IoU {before.mean():.3f} -> {after.mean():.3f}, worst "
                f"{before.min():.3f} -> {after.min():.3f}, {used / len(before):.2f} s an object"
            )


if __name__ == "__main__":
    main()
