"""Time `sam_vit_t` against the package that published MobileSAM and against SAM's ViT-B.

All take turns in one process on the same picture, with random weights; what counts is the median
of the turns' ratios, of wall and of processor time. Peak memory is that of a process of its own.
Needs the package ``mobilesam-mirror`` (a test dependency). On a machine that does other work too,
use one thread: several wait for each other in a loop, which counts as processor time.

    python benchmarks/tiny_vit.py --threads 2 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_pisam.model.pisam import build_model
from napari_pisam.predict.embedding_cache import EmbeddingCache
from napari_pisam.predict.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

BOX = (200, 200, 800, 800)
CLICKS = [(300, 300), (500, 700), (620, 410)]


def picture() -> Any:
    """Draw a picture of SAM's frame."""
    return np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)


def encoder_of(name: str, precision: str, image: Any) -> Callable[[], None]:
    """Return what encodes the image anew, by our predictor."""
    predictor = Predictor(build_model(name), "cpu", precision, cache=EmbeddingCache(0))

    def encode() -> None:
        predictor.set_image(image)
        predictor.encode()

    return encode


def turns(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[list[float]]]:
    """Run all steps by turns: by name, (wall, processor) seconds of each turn but the first."""
    taken: dict[str, list[list[float]]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            wall, processor = time.perf_counter(), time.process_time()
            step()
            if turn:
                spent = [time.perf_counter() - wall, time.process_time() - processor]
                taken[name].append(spent)
    return taken


def peak_of(threads: int) -> float:
    """Peak memory of a process that encodes one image with `sam_vit_t` and gives a mask, GB."""
    code = (
        f"import torch; torch.set_num_threads({threads})\n"
        "from tiny_vit import BOX, build_model, picture, Predictor\n"
        "p = Predictor(build_model('sam_vit_t'), 'cpu', 'fp32')\n"
        "p.set_image(picture()); p.predict(BOX)\n"
        "from napari_pisam.system import peak_memory; print(peak_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.path[0]
    )
    return int(done.stdout.split()[-1]) / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mobile_sam
    import segment_anything

    image = picture()
    theirs = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"]().eval())
    large = segment_anything.SamPredictor(segment_anything.sam_model_registry["vit_b"]().eval())
    result: dict[str, Any] = {"threads": arguments.threads, "repeats": arguments.repeats}
    taken = turns(
        {
            "mobile_sam": lambda: theirs.set_image(image),
            "sam_vit_t fp32": encoder_of("sam_vit_t", "fp32", image),
            "sam_vit_t bf16": encoder_of("sam_vit_t", "bf16", image),
            "SamPredictor vit_b": lambda: large.set_image(image),
        },
        arguments.repeats,
    )
    for name, spent in taken.items():
        result[name] = {}
        for place, kind in enumerate(("wall", "processor")):
            own = [one[place] for one in spent]
            row = {"median_s": statistics.median(own)}
            for other in ("mobile_sam", "SamPredictor vit_b"):
                pairs = zip(taken[other], own, strict=True)
                row[f"times as fast as {other}"] = statistics.median(
                    one[place] / mine for one, mine in pairs
                )
            result[name][kind] = row
    predictor = Predictor(build_model("pisam_vit_t"), "cpu", "auto")
    predictor.set_image(image)
    predictor.encode()
    boxes = [(*BOX[:2], BOX[2] + turn, BOX[3]) for turn in range(arguments.repeats + 1)]
    for what in ("box", "click"):
        seconds = []
        for turn, box in enumerate(boxes):
            predictor.predict(box) if what == "click" else None
            started = time.perf_counter(), time.process_time()
            if what == "box":
                predictor.predict(box)
            else:
                predictor.predict(box, CLICKS[: 1 + turn % 3], [True, False, True][: 1 + turn % 3])
            if turn:
                seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        wall, processor = (statistics.median(one) for one in zip(*seconds, strict=True))
        result[f"pisam_vit_t {what} to mask"] = {"wall_s": wall, "processor_s": processor}
    result["peak GB of sam_vit_t, one image"] = peak_of(arguments.threads)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
