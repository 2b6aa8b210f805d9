"""Break files on purpose, many times, and count what survived.

    python benchmarks/faults_in_files.py [--times 40] [--seed 0]

Damaged files (pictures and masks, sessions, checkpoints, prompts, runs of fine-tuning) have to be
read or refused with a sentence; a file that is being replaced has to be whole or the earlier one
after kill -9, with two writers, and on a full disk; labels in zarr never hold half an object after
kill -9. Prints tried/survived; the exit status is 1 where something did not.
"""

from __future__ import annotations

import argparse
import json
import logging
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
import torch
from PIL import Image
from safetensors.torch import save_file

from killed_commits import AUTOSAVES, Boxes, killed_commit
from napari_pisam.images.files import replacing
from napari_pisam.images.image_files import open_plane
from napari_pisam.images.mask_files import read_mask
from napari_pisam.learn.finetune.runs import list_runs
from napari_pisam.learn.finetune.state import StateReader
from napari_pisam.predict.prompt_files import read_clicks, read_shapes
from napari_pisam.session.session import ModelRef, Session
from napari_pisam.session.storage import SavedPlane, SessionFile, load_session, save_planes
from napari_pisam.weights.checkpoint_format import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def killed_commits(folder: Path, rng: random.Random) -> bool:
    """Kill a process in the midst of writing objects into zarr labels of either format."""
    return killed_commit(folder, rng, rng.choice((2, 3)))[1]


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


def others(folder: Path) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """Write good files of other kinds, with what reads them."""
    session = Session(lambda job, done, _failed: done(job()))
    session.set_image((40, 60), "", lambda _predictor: None)
    session.set_labels(np.zeros((40, 60), np.uint16))
    session.set_predictor(Boxes((40, 60)), ModelRef("boxes"))  # type: ignore[arg-type]
    session.segment_all([(2, 3, 12, 20), (15, 5, 30, 40), (20, 30, 39, 59)])
    save_planes(folder / "a.pisam", SessionFile((SavedPlane(session.to_state()),)))
    yield folder / "a.pisam", load_session
    tensors = {f"mask_decoder.{name}": torch.rand(4, 5) for name in ("mask_tokens.weight", "b")}
    save_file(tensors, folder / "a.safetensors", metadata={"format": "pt"})
    yield folder / "a.safetensors", read_checkpoint
    torch.save({"model": tensors}, folder / "a.pth")
    yield folder / "a.pth", read_checkpoint
    corners = "".join(
        f"{n},rectangle,{m},{4 + n + 9 * m},{6 + 9 * m}\n" for n in (0, 1) for m in (0, 1)
    )
    (folder / "boxes.csv").write_text("index,shape-type,vertex-index,axis-0,axis-1\n" + corners)
    yield folder / "boxes.csv", read_shapes
    (folder / "clicks.csv").write_text("index,axis-0,axis-1,label\n0,17,20,FG\n1,25,30,BG\n")
    yield folder / "clicks.csv", read_clicks
    for name, content in (
        ("run.json", {"base": "tiny", "created": "2026-01-01T00:00:00", "objects": 5}),
        ("state.json", {"status": "finished", "step": 9, "base_iou": 0.5, "best_iou": 0.6}),
    ):
        run = folder / name.replace(".", " ")
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"base": "tiny"}))
        (run / name).write_text(json.dumps(content))
        yield run / name, run_of


def run_of(path: Path) -> None:
    """Read the folder of a file of a run, as both docks and `models list` do."""
    place = path.with_name(path.name.removeprefix("broken "))
    whole = place.read_bytes()
    try:
        path.replace(place)
        list_runs(place.parent.parent)
        StateReader(place.parent).read()
    finally:
        place.write_bytes(whole)


def picture_of(path: Path) -> None:
    """Read a file as a picture."""
    with open_plane(path) as source:
        source.read((slice(0, source.shape[0]), slice(0, source.shape[1])))


def damaged(path: Path, reader: Callable[[Path], object], rng: random.Random) -> bool:
    """Change bytes of a file, or cut it, and read it."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        near = rng.random()
        start, end = (0, 300) if near < 0.5 else (-400, -1) if near < 0.75 else (0, len(content))
        start, end = (max(0, n + len(content) if n < 0 else n) for n in (start, end))
        content[min(rng.randint(start, max(start, end)), len(content) - 1)] = rng.randrange(256)
    if rng.random() < 0.3:
        del content[rng.randrange(4, len(content)) :]
    broken = path.with_name(f"broken {path.name}")
    broken.write_bytes(content)
    try:
        reader(broken)
    except ValueError as error:
        if path.name in str(error):
            return True
        print(f"{path.name}: names no file: {error}")
        return False
    except Exception as error:  # noqa: BLE001 - what is counted
        print(f"{path.name}: {error!r}")
        return False
    finally:
        broken.unlink(missing_ok=True)
    return True


def main() -> int:
    """Try all, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    # It says of every damaged tag what it makes of it.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    counts: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[AUTOSAVES] = str(folder / "autosaves")
        for fault in (killed, two_writers, full_disk, killed_commits):
            good = sum(fault(folder, rng) for _ in range(arguments.times))
            counts[fault.__name__.replace("_", " ")] = (arguments.times, good)
        files = [(path, one) for path in pictures(folder) for one in (picture_of, read_mask)]
        for what, kinds in (("pictures", files), ("other files", list(others(folder)))):
            good = sum(damaged(*kind, rng) for kind in kinds for _ in range(arguments.times))
            counts[f"damaged {what}"] = (len(kinds) * arguments.times, good)
    for title, (tried, survived) in counts.items():
        print(f"{title:<20} tried {tried:>5}  survived {survived:>5}")
    return int(any(tried != survived for tried, survived in counts.values()))


if __name__ == "__main__":
    raise SystemExit(main())
