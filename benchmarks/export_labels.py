"""How long 5,000 objects take to be written in each format: ``python benchmarks/export_labels.py``.

Times of the processor, since other work on the machine does not count; and how long reading takes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_pisam.images.label_formats import FORMATS, LabelImage
from napari_pisam.measure.regions import with_measures


def discs(count: int) -> np.ndarray:
    """Draw notched discs in rows."""
    per_row, step = 72, 56
    labels = np.zeros((-(-count // per_row) * step, per_row * step), np.uint16)
    rows, cols = np.mgrid[:40, :40]
    disc = (rows - 19.5) ** 2 + (cols - 19.5) ** 2 < 19**2
    disc[:12, 16:22] = False
    for number in range(1, count + 1):
        row, col = (number - 1) // per_row * step, (number - 1) % per_row * step
        labels[row : row + 40, col : col + 40][disc] = number
    return labels


def main() -> None:
    """Print the times."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    labels = discs(count)
    classes = {number: "ab"[number % 2] for number in range(1, count + 1)}
    image = with_measures(LabelImage(labels, classes))
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in FORMATS.items():
            path = Path(folder) / f"labels{entry.suffixes[0]}"
            started = time.process_time()
            entry.write(path, image)
            written = time.process_time() - started
            started = time.process_time()
            if entry.read is not None:
                assert (entry.read(path, labels.shape).labels == labels).all()
            read = time.process_time() - started
            files = [path] if path.is_file() else list(path.rglob("*"))
            size = sum(file.stat().st_size for file in files)
            print(f"{name:9} written {written:5.2f} s, read {read:5.2f} s, {size:,} B")


if __name__ == "__main__":
    main()
