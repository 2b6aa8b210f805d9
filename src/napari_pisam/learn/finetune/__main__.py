"""``python -m napari_pisam.learn.finetune FOLDER``: do, or go on with, the run of a folder.

On several devices: ``python -m torch.distributed.run --standalone --nproc-per-node 2 -m
napari_pisam.learn.finetune FOLDER``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from pathlib import Path

from napari_pisam.learn.finetune.control import make_room
from napari_pisam.learn.finetune.layout import STATE, read_json, write_json
from napari_pisam.learn.finetune.lock import RunLock, taken
from napari_pisam.learn.finetune.process import REFUSED


def main() -> int:
    """Read the arguments and work; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m napari_pisam.learn.finetune")
    parser.add_argument("folder", type=Path, help="of a run")
    parser.add_argument("--child", action="store_true", help="take orders on standard input")
    parser.add_argument("--probe", action="store_true", help="take one step, and say what it costs")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # Before torch is loaded, which takes seconds: nobody else may begin meanwhile.
    lock = RunLock(given.folder)
    # Of several processes the first one has it for all.
    if os.environ.get("RANK", "0") == "0":
        if not lock.acquire():
            sys.stderr.write(f"{taken(given.folder)}\n")
            return REFUSED
        if not given.probe:
            _say_starting(given.folder / STATE)
    make_room()
    from napari_pisam.learn.finetune.worker import probe_folder, train_folder

    if given.probe:
        return probe_folder(given.folder)
    code, state = train_folder(given.folder, is_child=given.child, lock=lock)
    if code:
        sys.stderr.write(f"{state.get('error', '')}\n")
    return code


def _say_starting(state: Path) -> None:
    """Write down that a process begins to work on a run; what went wrong before is no news."""
    news = {"status": "starting", "message": "Starting", "error": ""}
    with contextlib.suppress(OSError):
        write_json(state, (read_json(state) or {}) | news)


if __name__ == "__main__":
    sys.exit(main())
