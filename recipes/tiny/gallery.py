"""Pictures of where a model succeeds and where it fails.

    python -m recipes.tiny.gallery ../shared/data quality.json docs/images --model tiny

Reads what `recipes.tiny.embedded_model --json` wrote, and draws the ten best and the ten worst
masks from the exact box, of as many sources as there are: ``tiny-successes.png`` and
``tiny-failures.png``. The true outline is white, the mask's is blue.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from napari_pisam.evaluate import protocols
from napari_pisam.images.files import replacing
from napari_pisam.predict.predictor import Predictor
from recipes.tiny.fixed_objects import FixedObject
from recipes.tiny.scoring import load
from recipes.tiny.sets import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Row = dict[str, Any]

SHOWN = 10
_SIDE = 300
_TRUTH, _FOUND = (255, 255, 255), (0, 160, 255)


def chosen_rows(rows: Sequence[Row], count: int = SHOWN, *, best: bool) -> list[Row]:
    """Choose the best or the worst masks from the box, one of a source where there are enough."""
    order = sorted(rows, key=lambda row: row["iou_0"], reverse=best)
    first: dict[str, Row] = {}
    for row in order:
        first.setdefault(row["source"], row)
    others = [row for row in order if row is not first[row["source"]]]
    return [*first.values(), *others][:count]


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    return np.asarray(mask ^ ndimage.binary_erosion(mask, iterations=width))


def drawn(pixels: NDArray[np.uint8], truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> Any:
    """Draw the surroundings of an object, with both outlines, as a square picture."""
    row0, col0, row1, col1 = protocols.box_of(truth)
    side = max(row1 - row0, col1 - col0) * 1.3 + 8
    rows, cols = (
        slice(max(0, round(middle - side / 2)), round(middle + side / 2))
        for middle in ((row0 + row1) / 2, (col0 + col1) / 2)
    )
    cut = pixels[rows, cols]
    picture = Image.fromarray(cut).convert("RGB")
    picture = picture.resize(
        (
            round(_SIDE * cut.shape[1] / max(cut.shape[:2])),
            round(_SIDE * cut.shape[0] / max(cut.shape[:2])),
        )
    )
    canvas = np.array(picture)
    for mask, color in ((truth, _TRUTH), (found, _FOUND)):
        whole = Image.fromarray(mask[rows, cols]).resize(picture.size)
        canvas[_outline(np.asarray(whole), 2 if color == _FOUND else 1)] = color
    return Image.fromarray(canvas)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("quality", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    rows = json.loads(options.quality.read_text(encoding="utf-8"))["rows"]
    predictor = Predictor(load(options.model)[0])
    for name, best in (("successes", True), ("failures", False)):
        canvas = Image.new("RGB", (5 * (_SIDE + 8), 2 * (_SIDE + 30)), (255, 255, 255))
        for i, row in enumerate(chosen_rows(rows, best=best)):
            item = load_image(options.data, row["source"], row["image"])
            FixedObject(
                *(row[key] for key in ("source", "image", "object", "part", "area", "rank"))
            ).index_in(item)
            truth = item.mask(row["object"], slice(None), slice(None))
            predictor.set_image(item.pixels)
            found = predictor.predict(box=protocols.box_of(truth)).to_array()
            left, top = (i % 5) * (_SIDE + 8), (i // 5) * (_SIDE + 30)
            canvas.paste(drawn(item.pixels, truth, found), (left, top + 22))
            text = f"{row['source']}, {row['part']}: {row['iou_0']:.2f}"
            ImageDraw.Draw(canvas).text((left, top + 4), text, (40, 40, 40))
        with replacing(options.folder / f"tiny-{name}.png") as part:
            canvas.quantize(128).save(part, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
