"""One mask of a 100,000 x 100,000 lazy image beside one of a 2,000 x 2,000 one: time and memory.

    python benchmarks/large_image.py

Each size runs in a process of its own, Linux only (it reads the peak from /proc). The model is
loaded and has predicted once in a small image before; extra memory is the peak above that.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

REPEATS = 5


class Lazy:
    """A huge image whose pixels are computed when sliced and can never be had as a whole."""

    dtype = np.dtype(np.uint16)
    ndim = 2

    def __init__(self, side: int) -> None:
        self.shape = (side, side)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray[Any, Any]:
        rows, cols = (np.arange(*s.indices(n)) for s, n in zip(key, self.shape, strict=True))
        wave = np.sin(rows / 37.0)[:, None] + np.sin(cols / 53.0)[None, :]
        return ((wave + 2) * 10_000).astype(np.uint16)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise MemoryError


def memory(name: str) -> float:
    """Value of /proc/self/status in MB: VmRSS now, VmHWM at its highest."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def measure(side: int) -> dict[str, float]:
    """Median seconds of a mask in a new window, and the peak above the loaded model, MB."""
    from napari_pisam.predict.predictor import Predictor

    predictor = Predictor("tiny")
    predictor.set_image(np.zeros((64, 64), np.uint8))
    predictor.predict(box=(10, 10, 50, 50), points=[(20, 20)], labels=[True])
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    image = Lazy(side)
    seconds = []
    for i in range(REPEATS):
        start = (side - 1200) * i // REPEATS
        began = time.perf_counter()
        predictor.set_image(image)
        predictor.predict(box=(start + 300, start + 350, start + 700, start + 800))
        seconds.append(time.perf_counter() - began)
        if i == 0:
            extra = memory("VmHWM") - before
    return {"seconds": statistics.median(seconds), "extra MB": extra}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        results = {
            side: json.loads(
                subprocess.run(
                    [sys.executable, __file__, str(side)], capture_output=True, check=True
                ).stdout
            )
            for side in (2_000, 100_000)
        }
        for side, result in results.items():
            print(
                f"{side} px: {result['seconds']:.2f} s, {result['extra MB']:.0f} MB above the model"
            )
        ratio = results[100_000]["seconds"] / results[2_000]["seconds"]
        print(f"time, 100,000 px over 2,000 px: {ratio:.2f}")
