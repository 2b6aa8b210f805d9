"""Propagation through a generated stack with known truth: how good, how fast, how many clicks.

    OMP_NUM_THREADS=1 python benchmarks/stacks.py --objects 6
    OMP_NUM_THREADS=1 python benchmarks/stacks.py --clicks 3

60 slices of 1024 x 1024 px; textured objects of about 150 px that move, grow, change their shape,
touch, and divide. By `--objects`: the mean IoU of what one box in the middle slice gives in all
slices, against that of a box in every slice. By `--clicks`: the prompts (boxes and clicks of the
evaluation rule) that bring an object to a mean IoU of 0.9, through the stack and slice by slice.
"""

from __future__ import annotations

import argparse
import time
from itertools import count

import numpy as np
from scipy import ndimage

import napari_pisam as pisam
from napari_pisam.measure.click_rule import evaluation_click
from napari_pisam.predict.propagation import FollowedSlice, Propagation

SIDE, SLICES, OBJECTS = 1024, 60, 20
GOAL, MOST_CLICKS = 0.9, 8


class Blob:
    """An object: a smooth closed outline that drifts; from some slice on it may be two."""

    def __init__(self, rng: np.random.Generator, row: float, col: float, *, divides: bool) -> None:
        self.radius = rng.uniform(62, 84)
        self.start, self.speed = np.array([row, col]), rng.normal(0, 1.2, 2)
        self.waves = rng.uniform(0.02, 0.09, (2, 4)), rng.uniform(0, 2 * np.pi, (2, 4))
        self.turns, self.growth = rng.normal(0, 0.04, 4), rng.normal(0, 0.003)
        self.swing = rng.uniform(3, 9, 2), rng.uniform(0.05, 0.15, 2), rng.uniform(0, 6, 2)
        self.level = rng.uniform(95, 150)
        self.divides = int(rng.integers(25, 45)) if divides else SLICES
        self.way = rng.uniform(0, np.pi)

    def draw(self, k: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """Where it is in a slice: a window, and (h, w) bool."""
        size, rate, phase = self.swing
        middle = self.start + self.speed * k + size * np.sin(rate * k + phase)
        radius = self.radius * (1 + self.growth * k)
        low = np.clip(middle - 2 * radius, 0, SIDE).astype(int)
        high = np.clip(middle + 2 * radius, 0, SIDE).astype(int)
        window = slice(low[0], high[0]), slice(low[1], high[1])
        down, across = np.mgrid[window].astype(np.float32)
        if k < self.divides:
            return window, self._one(middle, radius, k, down, across)
        gap = radius * min(1.0, 0.55 + 0.05 * (k - self.divides))
        step = gap * np.array([np.sin(self.way), np.cos(self.way)])
        both = [self._one(middle + s * step, 0.72 * radius, k, down, across) for s in (-1, 1)]
        return window, both[0] | both[1]

    def _one(
        self, middle: np.ndarray, radius: float, k: int, down: np.ndarray, across: np.ndarray
    ) -> np.ndarray:
        dy, dx = down - middle[0], across - middle[1]
        angle = np.arctan2(dy, dx)
        outline = np.ones_like(angle)
        for wave in range(4):
            turned = (wave + 2) * angle + self.waves[1][0, wave] + self.turns[wave] * k
            outline += self.waves[0][0, wave] * np.sin(turned)
        return np.hypot(dy, dx) <= radius * outline


def scene(seed: int = 0, slices: int = SLICES) -> tuple[np.ndarray, np.ndarray]:
    """(N, H, W) uint8 pictures and the numbers of the objects in them."""
    rng = np.random.default_rng(seed)
    places = [(130 + 190 * i, 115 + 198 * j) for i in range(5) for j in range(5)][:OBJECTS]
    blobs = [
        Blob(rng, *(np.array(place) + rng.normal(0, 12, 2)), divides=number % 4 == 3)
        for number, place in enumerate(places)
    ]
    stack = np.empty((slices, SIDE, SIDE), np.uint8)
    labels = np.zeros((slices, SIDE, SIDE), np.uint8)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 4)
    grain *= 14 / grain.std()
    for k in range(slices):
        picture = np.full((SIDE, SIDE), 55.0, np.float32)
        for number, blob in enumerate(blobs, 1):
            window, inside = blob.draw(k)
            inside &= labels[k][window] == 0
            labels[k][window][inside] = number
            depth = ndimage.distance_transform_edt(inside)[inside]
            picture[window][inside] = blob.level + np.minimum(depth, 25) * 0.6
        picture += np.roll(grain, (3 * k, 2 * k), (0, 1)) + rng.normal(0, 7, picture.shape)
        stack[k] = np.clip(ndimage.gaussian_filter(picture, 1.2), 0, 255)
    return stack, labels


def box_of(truth: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box around a mask, half a pixel outside."""
    rows, cols = np.nonzero(truth)
    return rows.min() - 0.5, cols.min() - 0.5, rows.max() + 0.5, cols.max() + 0.5


def overlap(mask, truth: np.ndarray) -> float:
    """IoU of a `Mask`, or of nothing, with the truth."""
    if mask is None:
        return 0.0
    found = mask.to_array()
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def judge(predictor, stack, labels, number: int) -> tuple[float, float, float, float]:
    """Mean IoU of a box in every slice and of propagation from one; seconds and CPU s a slice."""
    truth = labels == number
    middle = SLICES // 2
    single = []
    for k in range(SLICES):
        predictor.set_image(stack, plane=k)
        mask = predictor.predict(box_of(truth[k]))
        single.append(overlap(mask, truth[k]))
        if k == middle:
            start = mask.without_logits()
    began, used = time.perf_counter(), time.process_time()
    masks = pisam.propagate(predictor, stack, {middle: start})
    count = max(1, len(masks) - 1)
    seconds, cpu = (time.perf_counter() - began) / count, (time.process_time() - used) / count
    carried = [overlap(masks.get(k), truth[k]) for k in range(SLICES)]
    return float(np.mean(single)), float(np.mean(carried)), seconds, cpu


def correct(predictor, stack, k: int, truth: np.ndarray, mask=None):
    """Prompt a slice until it is right: the mask and how many prompts it took."""
    predictor.set_image(stack, plane=k)
    used, points, signs = 0, [], []
    given = {} if mask is None else {"mask": mask}
    if mask is None:
        given, used = {"box": box_of(truth)}, 1
        mask = predictor.predict(**given)
    clicked = np.zeros(truth.shape, bool)
    best = mask
    while overlap(best, truth) < GOAL and len(points) < MOST_CLICKS:
        row, col, sign = evaluation_click(mask.to_array(), truth, clicked)
        clicked[row, col] = True
        points.append((row, col))
        signs.append(sign)
        mask = predictor.predict(**given, points=points, labels=signs)
        best = max(best, mask, key=lambda one: overlap(one, truth))
    return best.without_logits(), used + len(points)


def through_the_stack(predictor, stack, truth: np.ndarray) -> tuple[int, float]:
    """Prompts until the mean IoU is 0.9: the worst slice is corrected, and carried on."""
    middle = SLICES // 2
    anchors, carried = {}, {}
    mask, used = correct(predictor, stack, middle, truth[middle])
    anchors[middle] = mask
    for _ in count():
        for step in Propagation(anchors, 0, SLICES - 1, carried).steps(predictor, stack):
            if step.mask is None:
                carried.pop(step.index, None)
            else:
                carried[step.index] = FollowedSlice(step.index, step.mask, source=step.source)
        now = {k: one.mask for k, one in carried.items() if k not in anchors} | anchors
        scores = [overlap(now.get(k), truth[k]) for k in range(SLICES)]
        open_ones = [k for k in range(SLICES) if k not in anchors]
        if np.mean(scores) >= GOAL or not open_ones:
            return used, float(np.mean(scores))
        worst = min(open_ones, key=lambda k: scores[k])
        mask, more = correct(predictor, stack, worst, truth[worst], now.get(worst))
        anchors[worst] = mask
        carried.pop(worst, None)
        used += more


def slice_by_slice(predictor, stack, truth: np.ndarray) -> tuple[int, float]:
    """Prompts for each slice by itself: a box, and clicks until its IoU is 0.9."""
    found = [correct(predictor, stack, k, truth[k]) for k in range(SLICES)]
    return sum(used for _, used in found), float(
        np.mean([overlap(mask, truth[k]) for k, (mask, _) in enumerate(found)])
    )


def show(what: str, values) -> None:
    """Print a line."""
    each, carried, seconds, cpu = values
    print(
        f"{what}  box in every slice {each:.3f}  propagated {carried:.3f}  ratio "
        f"{carried / each:.3f}  {seconds:.3f} s a slice, {cpu:.3f} of one processor",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, default=0, help="of how many objects: IoU and time")
    parser.add_argument("--clicks", type=int, default=0, help="of how many objects: prompts")
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    stack, labels = scene()
    predictor = pisam.Predictor(given.model)
    rows = []
    for number in range(1, given.objects + 1):
        rows.append(judge(predictor, stack, labels, number))
        show(f"object {number:2}", rows[-1])
    if rows:
        show("mean     ", np.mean(rows, axis=0))
    for number in range(1, given.clicks + 1):
        truth = labels == number
        stacked = through_the_stack(predictor, stack, truth)
        single = slice_by_slice(predictor, stack, truth)
        print(
            f"object {number:2}  through the stack {stacked[0]} prompts (IoU {stacked[1]:.3f})  "
            f"slice by slice {single[0]} prompts (IoU {single[1]:.3f})  ratio "
            f"{stacked[0] / single[0]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
