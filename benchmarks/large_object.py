"""A box of 1,500 to 6,000 px in a 20,000 x 20,000 zarr: seconds of the processor, tiles, memory.

    python benchmarks/large_object.py [SIDE ...]

Each size runs in a process of its own, Linux only (it reads the peak from /proc). The model is
loaded and has predicted once in a small image before; extra memory is the peak above that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from large_image import memory

SIZE, CHUNK = 20_000, 1_000


def draw(folder: Path, side: int) -> None:
    """Draw a disc with ripples, of `side` px, on noise; far from it there is only grey."""
    image = zarr.create_array(
        folder,
        shape=(SIZE, SIZE),
        chunks=(CHUNK, CHUNK),
        dtype="uint8",
        fill_value=80,
        overwrite=True,
    )
    noise = np.random.default_rng(0).normal(0, 9, (CHUNK, CHUNK)).astype(np.float32)
    places = np.arange(CHUNK, dtype=np.float32)
    low = int((SIZE / 2 - side) // CHUNK) * CHUNK
    for row in range(low, SIZE - low, CHUNK):
        for col in range(low, SIZE - low, CHUNK):
            y, x = (row + places - SIZE / 2)[:, None], (col + places - SIZE / 2)[None, :]
            radius = np.hypot(y, x) / (1 + 0.02 * np.sin(30 * np.arctan2(y, x)))
            value = np.where(radius < side / 2, 160, 80) + noise
            image[row : row + CHUNK, col : col + CHUNK] = np.clip(value, 0, 255).astype(np.uint8)


def measure(folder: Path, side: int) -> dict[str, float]:
    """Predict a disc of `side` px."""
    from napari_pisam.predict.predictor import Predictor

    predictor = Predictor("tiny")
    predictor.set_image(np.zeros((64, 64), np.uint8))
    predictor.predict(box=(10, 10, 50, 50), points=[(20, 20)], labels=[True])
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # start the peak anew
    image = zarr.open_array(folder, mode="r")
    predictor.set_image(image)
    tiles: list[int] = []
    half = side * 1.02 / 2
    middle = SIZE / 2
    box = (middle - half, middle - half, middle + half, middle + half)
    # Of the processor, which others may use too.
    began = time.process_time()
    mask = predictor.predict(box=box, progress=lambda done, total: tiles.append(done))
    seconds = time.process_time() - began
    return {
        "seconds": seconds,
        "tiles": len(tiles),
        "extra MB": memory("VmHWM") - before,
        "area": mask.area / (np.pi * (side / 2) ** 2),
    }


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "measure":
        print(json.dumps(measure(Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        for side in [int(n) for n in sys.argv[1:]] or [1_500, 3_000, 6_000]:
            with tempfile.TemporaryDirectory() as folder:
                draw(Path(folder), side)
                command = [sys.executable, __file__, "measure", folder, str(side)]
                found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                print(
                    f"{side} px: {found['seconds']:.0f} s, {found['tiles']} tiles, "
                    f"{found['seconds'] / found['tiles']:.2f} s a tile, "
                    f"{found['extra MB']:.0f} MB above idle, area {found['area']:.3f} of the disc"
                )
