"""How good the embedded model is on images it has not seen, through the predictor as users have it.

    python benchmarks/embedded_model.py ../shared/data --objects 3 --json quality.json

Prints a Markdown table: mean IoU by source from the exact box, and after 1, 3 and 5 clicks of
RITM's rule, beside what filling the box gives.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np

CLICKS = (0, 1, 3, 5)


def score(job: tuple[str, list[str], int, str, float]) -> dict[str, list[list[float]]]:
    """IoU of every object of some sources: filled box, then one value per number of clicks."""
    root, names, objects, model, deadline = job
    import torch

    from napari_pisam.predict.click_rule import evaluation_click
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.train.dataset import ValidationSamples
    from napari_pisam.train.store import load_images

    torch.set_num_threads(1)
    images = load_images(Path(root), part="validation", names=names)
    samples = ValidationSamples(images, size=512, objects=objects)
    predictor = Predictor(model)
    found: dict[str, list[list[float]]] = {}
    for item, which in samples.entries:
        if time.monotonic() > deadline:
            break
        truth = item.mask(int(item.ids[which]), slice(None), slice(None))
        rows, cols = np.nonzero(truth)
        box = (rows.min() - 0.5, cols.min() - 0.5, rows.max() + 0.5, cols.max() + 0.5)
        filled = truth.sum() / ((box[2] - box[0]) * (box[3] - box[1]))
        predictor.set_image(item.pixels)
        mask = predictor.predict(box=box).to_array()
        clicked, points, labels = np.zeros_like(truth), [], []
        scores = [float(filled)]
        for n in range(CLICKS[-1] + 1):
            if n and (click := evaluation_click(mask, truth, clicked)) is not None:
                clicked[click[:2]] = True
                points.append(click[:2])
                labels.append(click[2])
                mask = predictor.predict(box=box, points=points, labels=labels).to_array()
            if n in CLICKS:
                scores.append(float((mask & truth).sum() / (mask | truth).sum()))
        found.setdefault(item.source, []).append(scores)
    return found


def main() -> None:
    """Score all sources in two processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with sets/")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--objects", type=int, default=3, help="per source")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from napari_pisam.train.splits import VALIDATION_ONLY

    names = sorted(path.name for path in (Path(arguments.data) / "sets").iterdir())
    deadline = time.monotonic() + arguments.seconds
    jobs = [
        (arguments.data, [name], arguments.objects, arguments.model, deadline) for name in names
    ]
    scores: dict[str, list[list[float]]] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for part in pool.imap_unordered(score, jobs):
            scores |= part
    print("| source | objects | filled box | box | 1 click | 3 clicks | 5 clicks |")
    print("|---|---|---|---|---|---|---|")
    groups: dict[str, list[np.ndarray]] = {"sources trained on": [], "sources left out": []}
    for name in sorted(scores):
        mean = np.mean(scores[name], axis=0)
        groups["sources left out" if name in VALIDATION_ONLY else "sources trained on"].append(mean)
        print(f"| {name} | {len(scores[name])} | {' | '.join(f'{v:.2f}' for v in mean)} |")
    for title, means in groups.items():
        if means:
            mean = np.mean(means, axis=0)
            print(f"| **mean, {title}** | | {' | '.join(f'**{v:.3f}**' for v in mean)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
