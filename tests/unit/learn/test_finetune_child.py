"""The process that trains, seen from the program that started it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

from napari_pisam.learn.finetune.process import Child

LISTENER = "import sys; sys.stdin.read()"


def is_there(pid):
    """Whether a process exists; one that ended and was not cleared away does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_is_let_go_of_ends_and_leaves_nothing():
    process = subprocess.Popen([sys.executable, "-c", LISTENER], stdin=subprocess.PIPE)
    pid, child = process.pid, Child(process)
    # In a circle, as what a window holds is: it goes when the collector comes.
    child.owner = [child]
    assert child.exit_code() is None
    del process, child
    # A warning of what was left open would be an error here.
    gc.collect()
    deadline = time.monotonic() + 30
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(pid)


def test_its_exit_code_is_known_and_a_kill_ends_it():
    process = subprocess.Popen([sys.executable, "-c", LISTENER], stdin=subprocess.PIPE)
    child = Child(process)
    assert not child.wait(0.2)
    child.kill()
    assert child.wait(20)
    assert child.exit_code() not in (None, 0)
    ended = Child(
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"], stdin=subprocess.PIPE)
    )
    assert ended.wait(30)
    assert ended.exit_code() == 7
    ended.close()
