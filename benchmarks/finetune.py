"""What fine-tuning on a dozen objects brings, on other images than theirs, as users have it.

    python -m benchmarks.finetune ../shared/data mushrooms embryos --minutes 5 --json tuned.json

For each set, some images give the objects (a few of each), and others, which training never sees,
give the objects that are measured: mean IoU and boundary IoU (2 % of the image's diagonal) through
the predictor from the exact box alone, and IoU after three clicks of RITM's rule. Sets that no
training of the base has seen are the ones that say something.

The run validates and decides for itself, on its own objects: "kept" says which weights a user is
left with. What is measured beside the base are its best weights, whether or not they are kept;
where no weights validated better than the base, there are none, and the gain is 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CLICKS = (0, 3)


def choose(images: list[Any], objects: int, per_image: int, seed: int) -> tuple[dict, list]:
    """Draw images and objects to learn from, and the images that are left."""
    rng = np.random.default_rng(seed)
    order = [images[i] for i in rng.permutation(len(images))]
    chosen: dict[str, tuple[Any, list[int]]] = {}
    missing = objects
    for item in order:
        # As a user would: whatever is not tiny in the picture.
        whole = [int(i) for i, a in zip(item.ids, item.areas, strict=True) if i > 0 and a >= 100]
        if missing <= 0 or not whole:
            continue
        count = min(per_image, missing, len(whole))
        chosen[item.name] = (item, [int(v) for v in rng.choice(whole, count, replace=False)])
        missing -= count
    return chosen, [item for item in order if item.name not in chosen]


def measured(images: list[Any], count: int, seed: int) -> list[tuple[Any, int]]:
    """Draw the objects to measure: one of each image as long as there are images."""
    rng = np.random.default_rng((seed, 1))
    found: list[tuple[Any, int]] = []
    taken: set[tuple[str, int]] = set()
    for turn in range(4 * count):
        item = images[turn % len(images)]
        whole = [int(i) for i, a in zip(item.ids, item.areas, strict=True) if i > 0 and a >= 100]
        if not whole or len(found) >= count:
            continue
        label = int(rng.choice(whole))
        if (item.name, label) not in taken:
            taken.add((item.name, label))
            found.append((item, label))
    return found


def quality(model: str, objects: list[tuple[Any, int]]) -> dict[str, list[float]]:
    """Return IoU and boundary IoU of each object through the predictor."""
    from napari_pisam.measure.click_rule import evaluation_click
    from napari_pisam.measure.metrics import boundary_iou, iou
    from napari_pisam.predict.predictor import Predictor

    predictor = Predictor(model)
    result: dict[str, list[float]] = {"iou": [], "boundary": [], "iou_3_clicks": []}
    for item, label in objects:
        truth = item.mask(label, slice(None), slice(None))
        rows, cols = np.nonzero(truth)
        box = (rows.min() - 0.5, cols.min() - 0.5, rows.max() + 0.5, cols.max() + 0.5)
        predictor.set_image(item.pixels)
        mask = predictor.predict(box=box).to_array()
        result["iou"].append(iou(mask, truth))
        result["boundary"].append(boundary_iou(mask, truth))
        clicked, points, labels = np.zeros_like(truth), [], []
        for _ in range(CLICKS[-1]):
            click = evaluation_click(mask, truth, clicked)
            if click is None:
                break
            clicked[click[:2]] = True
            points.append(click[:2])
            labels.append(click[2])
            mask = predictor.predict(box=box, points=points, labels=labels).to_array()
        result["iou_3_clicks"].append(iou(mask, truth))
    return result


def tune(chosen: dict, settings: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Fine-tune as the dock does, and note when the first validation came."""
    from napari_pisam.learn.finetune.run import FineTuneRun
    from napari_pisam.learn.finetune.sources import SourceImage, list_objects, split

    images = [
        SourceImage(
            name,
            item.pixels,
            np.where(np.isin(item.labels, labels), item.labels, 0),
            contrast_limits=(0, 255),
        )
        for name, (item, labels) in chosen.items()
    ]
    rows = split(list_objects(images), seed=settings.seed)
    started = time.monotonic()
    run = FineTuneRun.create(folder, settings, images, rows)
    run.start()
    times: dict[str, Any] = {}
    while (state := run.poll()).is_active or state.status == "ready":
        points = len(state.iou_validation.x)
        for name, needed in (("first_point", 1), ("first_after_training", 2)):
            if points >= needed:
                times.setdefault(name, round(time.monotonic() - started, 1))
        time.sleep(0.2)
    times["total"] = round(time.monotonic() - started, 1)
    return state, times


def main() -> None:
    """Fine-tune on each set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with sets/")
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--per-image", type=int, default=4)
    parser.add_argument("--measured", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", type=Path, help="folder for the runs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from napari_pisam.learn.finetune.runs import new_folder
    from napari_pisam.learn.finetune.settings import FineTuneSettings
    from recipes.tiny.sets import load_images

    changes = dict(text.split("=", 1) for text in given.set)
    if "epochs" in changes:
        changes["minutes"] = None
    settings = FineTuneSettings.checked(
        {"base": given.base, "minutes": given.minutes, "seed": given.seed} | changes
    )
    results = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    head = "| set | IoU | boundary IoU | IoU, 3 clicks | steps | first point | kept |"
    print(head)
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary)
        for name in given.sets:
            images = load_images(given.data, names=[name], part="all")
            chosen, others = choose(images, given.objects, given.per_image, given.seed)
            objects = measured(others, given.measured, given.seed)
            folder = new_folder(root, name)
            state, times = tune(chosen, settings, folder)
            base = quality(given.base, objects)
            best = folder / "best.safetensors"
            tuned = quality(str(best), objects) if best.is_file() else base
            row = {
                "set": name,
                "settings": changes,
                "status": state.status,
                "error": state.error,
                "steps": state.step,
                "times": times,
                "is_better": state.is_better,
                "verdict": state.verdict,
                "images": len(chosen),
                "base": {key: float(np.mean(values)) for key, values in base.items()},
                "best": {key: float(np.mean(values)) for key, values in tuned.items()},
            }
            results.append(row)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1) + "\n")
            pairs = [f"{row['base'][k]:.3f} -> {row['best'][k]:.3f}" for k in row["base"]]
            kept = "tuned" if state.is_better else "base"
            cells = [name, *pairs, str(state.step), f"{times.get('first_point')} s", kept]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
