"""Scribbles against clicks at the same time of a user's hand, on thin networks held out.

    python benchmarks/scribbles.py ../shared/data --objects 10

Both begin with the object's box and go on for `--budget` seconds. A click is RITM's: the pixel
furthest from the edge of its error. A scribble goes along the largest part of the error, the
longest way through its skeleton; what is missing is followed along the object, over what is there.
A click takes 1.5 s; a scribble those and the time to draw it, once at 2 ms a pixel (a slow hand)
and once at 2 pixels a ms (a fast one).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra
from skimage.morphology import skeletonize

from napari_pisam.evaluate.protocols import box_of
from napari_pisam.images.image_files import open_plane
from napari_pisam.images.mask_files import foreground, read_mask
from napari_pisam.measure.click_rule import evaluation_click
from napari_pisam.measure.metrics import iou
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

Line: TypeAlias = "tuple[list[tuple[int, int]], bool]"
"""Places of a click or a scribble, and whether it is FG."""

CLICK = 1.5
"""Seconds to find a place and to click on it."""

HANDS = {"2 ms a px": 0.002, "2 px a ms": 0.0005}
HELD_OUT = ("uav_cracks", "pavement_cracks", "minirhizotron_roots")
_EVERY = 6


def longest_way(region: Mask, ends: Mask) -> list[tuple[int, int]]:
    """Return the longest of the shortest ways through a region's skeleton between `ends`, px."""
    places = np.argwhere(skeletonize(region))
    if len(places) < 2:
        return [tuple(place) for place in places.tolist()]
    numbers = np.full(np.array(region.shape) + 2, -1)
    numbers[places[:, 0] + 1, places[:, 1] + 1] = np.arange(len(places))
    rows, cols, lengths = [], [], []
    for step in ((0, 1), (1, -1), (1, 0), (1, 1)):
        other = numbers[places[:, 0] + 1 + step[0], places[:, 1] + 1 + step[1]]
        found = np.flatnonzero(other >= 0)
        rows.append(found)
        cols.append(other[found])
        lengths.append(np.full(len(found), np.hypot(*step)))
    edges = (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(cols)))
    graph = sparse.csr_array(edges, shape=(len(places), len(places)))
    is_end = ends[places[:, 0], places[:, 1]]
    if not is_end.any():
        return []

    def furthest(start: int) -> tuple[int, NDArray[np.integer]]:
        far, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        return int(np.where(np.isfinite(far) & is_end, far, -1).argmax()), before

    start, _ = furthest(int(np.flatnonzero(is_end)[0]))
    at, before = furthest(start)
    way = [at]
    while at != start:
        at = int(before[at])
        way.append(at)
    return [tuple(places[number].tolist()) for number in way]


def click_for(predicted: Mask, truth: Mask, clicked: Mask) -> Line | None:
    """Return the next click."""
    click = evaluation_click(predicted, truth, clicked)
    if click is None:
        return None
    row, col, sign = click
    clicked[row, col] = True
    return [(row, col)], sign


def scribble_for(predicted: Mask, truth: Mask, clicked: Mask) -> Line | None:
    """Return the next scribble, along the largest error; a click where that has no length."""
    best: tuple[int, bool, Mask] | None = None
    for sign in (True, False):
        error = truth & ~predicted if sign else predicted & ~truth
        numbers, count = ndimage.label(error, np.ones((3, 3)))
        if count:
            sizes = np.bincount(numbers.ravel())[1:]
            if best is None or sizes.max() > best[0]:
                best = int(sizes.max()), sign, numbers == int(sizes.argmax()) + 1
    if best is None:
        return None
    _, sign, part = best
    # What is missing is followed along the object itself, over what is there already.
    way = longest_way(truth if sign else part, (truth & ~predicted) if sign else part)
    if len(way) < 2 * _EVERY:
        return click_for(predicted, truth, clicked)
    return [*way[:-1:_EVERY], way[-1]], sign


def run(
    predictor: Predictor, truth: Mask, budget: float, hand: float, *, scribbles: bool
) -> tuple[float, float, int]:
    """Return the IoU of the box, that after all the time, and how many strokes were made."""
    prompts = Prompts(box_of(truth))
    mask = predictor.predict(prompts).to_array()
    first, left, count = iou(mask, truth), budget, 0
    clicked = np.zeros_like(truth)
    while True:
        stroke = (scribble_for if scribbles else click_for)(mask, truth, clicked)
        if stroke is None:
            break
        line, sign = stroke
        length = float(np.hypot(*np.diff(np.array(line), axis=0).T).sum())
        left -= CLICK + (hand * length if len(line) > 1 else 0)
        if left < 0:
            break
        prompts = prompts.with_clicks(line, [sign] * len(line), np.arange(len(line)) > 0)
        mask, count = predictor.predict(prompts).to_array(), count + 1
    return first, iou(mask, truth), count


def objects(data: Path, listed: Path, count: int) -> Iterator[tuple[str, Path, Mask]]:
    """Find the networks of the sets that were held out, by turns."""
    with listed.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "network"]
    of_set = [[row for row in rows if row["source"] == name] for name in HELD_OUT]
    turns = [row for place in range(count) for own in of_set for row in own[place : place + 1]]
    for row in turns[:count]:
        folder = data / "sets" / row["source"]
        [image] = (folder / "images").glob(f"{row['image']}.*")
        mask = read_mask(folder / "masks" / f"{row['image']}.png")
        # Class 1 of the set that has classes.
        truth = mask == 1 if mask.max() < 255 else foreground(mask)
        yield f"{row['source']}/{row['image']}", image, truth


def main() -> None:
    """Print a row for each object, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--budget", type=float, default=9.0, help="Seconds.")
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    predictor = Predictor(given.model, "cpu")
    results = []
    names = ["box", "clicks", *(f"scribbles, {hand}" for hand in HANDS)]
    print("object;" + ";".join(names))
    listed = Path(__file__).with_name("objects.csv")
    for name, path, truth in objects(given.data, listed, given.objects):
        with open_plane(path) as plane:
            predictor.set_image(plane)
            box, clicks, made = run(predictor, truth, given.budget, 0, scribbles=False)
            row, counts = [box, clicks], [made]
            for hand in HANDS.values():
                _, after, made = run(predictor, truth, given.budget, hand, scribbles=True)
                row.append(after)
                counts.append(made)
        results.append(row)
        print(f"{name};" + ";".join(f"{v:.3f}" for v in row) + f";{counts}", flush=True)
    print("mean;" + ";".join(f"{v:.3f}" for v in np.mean(results, axis=0)))


if __name__ == "__main__":
    main()
