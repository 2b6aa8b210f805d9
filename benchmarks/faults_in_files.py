"""Break files on purpose, many times, and count what survived.

    python benchmarks/faults_in_files.py [--times 40] [--seed 0]

Damaged pictures and masks have to be read or refused with a sentence; a file that is being replaced
has to be whole or the earlier one after kill -9, with two writers, and on a full disk. Prints
tried/survived; the exit status is 1 where something did not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image

from napari_pisam.images.files import replacing
from napari_pisam.images.image_files import ImageFileError, open_plane
from napari_pisam.images.mask_files import read_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS, BLOCK = 20, 10_000


def write(path: Path, letter: bytes, pause: float = 0.0005) -> None:
    """Replace a file slowly, by one with a single letter."""
    with replacing(path) as part, part.open("wb") as file:
        for _ in range(BLOCKS):
            file.write(letter * BLOCK)
            file.flush()
            time.sleep(pause)


def is_whole(path: Path) -> bool:
    """Whether a file is as one writer left it."""
    content = path.read_bytes()
    return len(content) == BLOCKS * BLOCK and len(set(content)) == 1


def left_behind(folder: Path) -> int:
    """Count the part files."""
    return len(list(folder.glob(".pisam-*.part")))


def killed(folder: Path, rng: random.Random) -> bool:
    """Kill a writer at some moment; the next one cleans up."""
    path = folder / "killed.bin"
    write(path, b"a", 0)
    writer = multiprocessing.Process(target=write, args=(path, b"b"))
    writer.start()
    time.sleep(rng.uniform(0.0, 0.06))
    if writer.pid is not None:
        os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    whole = is_whole(path)
    write(path, b"c", 0)
    return whole and is_whole(path) and left_behind(folder) == 0


def two_writers(folder: Path, rng: random.Random) -> bool:
    """Let two processes write one file."""
    path = folder / "two.bin"
    writers = [multiprocessing.Process(target=write, args=(path, x, 0)) for x in (b"a", b"b")]
    for writer in writers:
        writer.start()
        time.sleep(rng.uniform(0.0, 0.02))
    for writer in writers:
        writer.join()
    good = [writer.exitcode for writer in writers] == [0, 0]
    return good and is_whole(path) and left_behind(folder) == 0


def _write_on_a_full_disk(path: Path, limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write(path, b"b", 0)
    except OSError:
        os._exit(7)


def full_disk(folder: Path, rng: random.Random) -> bool:
    """Let the disk be full at some moment."""
    path = folder / "full.bin"
    write(path, b"a", 0)
    limit = rng.randrange(1, BLOCKS * BLOCK)
    writer = multiprocessing.Process(target=_write_on_a_full_disk, args=(path, limit))
    writer.start()
    writer.join()
    is_old = path.read_bytes()[:1] == b"a"
    return writer.exitcode == 7 and is_old and is_whole(path) and left_behind(folder) == 0


def pictures(folder: Path) -> Iterator[Path]:
    """Write good files of every kind."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (40, 60), dtype=np.uint8)
    rgb = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.gif"):
        Image.fromarray(rgb).save(folder / name)
        yield folder / name
    for number, values in enumerate((grey, grey.astype(np.float32), rgb, grey > 99)):
        for compression in (None, "zlib", "lzw"):
            path = folder / f"{number}{compression}.tif"
            tifffile.imwrite(path, values, compression=compression, tile=(16, 16))
            yield path
    tifffile.imwrite(folder / "a.ome.tif", np.stack([grey] * 3), metadata={"axes": "CYX"})
    yield folder / "a.ome.tif"


def damaged(path: Path, rng: random.Random) -> bool:
    """Change bytes of a file, or cut it, and read it as a picture and as a mask."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        near = rng.random()
        start, end = (0, 300) if near < 0.5 else (-400, -1) if near < 0.75 else (0, len(content))
        start, end = (max(0, n + len(content) if n < 0 else n) for n in (start, end))
        content[min(rng.randint(start, max(start, end)), len(content) - 1)] = rng.randrange(256)
    if rng.random() < 0.3:
        del content[rng.randrange(4, len(content)) :]
    broken = path.with_name(f"broken{''.join(path.suffixes)}")
    broken.write_bytes(content)
    try:
        with open_plane(broken) as source:
            source.read((slice(0, source.shape[0]), slice(0, source.shape[1])))
    except ImageFileError:
        pass
    except Exception as error:  # noqa: BLE001 - what is counted
        print(f"{path.name}: {error!r}")
        return False
    try:
        read_mask(broken)
    except ImageFileError:
        pass
    except Exception as error:  # noqa: BLE001 - what is counted
        print(f"{path.name} as a mask: {error!r}")
        return False
    return True


def main() -> int:
    """Try all, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    counts: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for fault in (killed, two_writers, full_disk):
            good = sum(fault(folder, rng) for _ in range(arguments.times))
            counts[fault.__name__.replace("_", " ")] = (arguments.times, good)
        files = list(pictures(folder))
        good = sum(damaged(path, rng) for path in files for _ in range(arguments.times))
        counts["damaged files"] = (len(files) * arguments.times, good)
    for title, (tried, survived) in counts.items():
        print(f"{title:<14} tried {tried:>5}  survived {survived:>5}")
    return int(any(tried != survived for tried, survived in counts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
