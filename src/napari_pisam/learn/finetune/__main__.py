"""``python -m napari_pisam.learn.finetune FOLDER``: do, or go on with, the run of a folder.

On several devices: ``python -m torch.distributed.run --standalone --nproc-per-node 2 -m
napari_pisam.learn.finetune FOLDER``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from napari_pisam.learn.finetune.layout import say_starting
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
            say_starting(given.folder)
    from napari_pisam.learn.finetune.worker import make_room, probe_folder, train_locked

    make_room()
    if given.probe:
        return probe_folder(given.folder)
    code, state = train_locked(given.folder, is_child=given.child)
    lock.release()
    if code:
        sys.stderr.write(f"{state.get('error', '')}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
