"""The process that trains lets others go first, as seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In place of torch, which takes seconds to load.
CODE = """
import os, sys, types
threads = [8]
torch = sys.modules["torch"] = types.ModuleType("torch")
torch.get_num_threads = lambda: threads[-1]
torch.set_num_threads = threads.append
before = torch.get_num_threads()
from napari_pisam.learn.finetune.control import make_room
make_room()
print(before, torch.get_num_threads(), os.nice(0), flush=True)
input()
"""


def started(*, session: bool, **changes: str) -> tuple[list[int], str]:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | changes
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=session,
    ) as process:
        assert process.stdout is not None
        numbers = [int(word) for word in process.stdout.readline().split()]
        group = Path(f"/proc/{process.pid}/autogroup")
        said = group.read_text() if group.is_file() else ""
        process.kill()
    return numbers, said


@pytest.mark.skipif(sys.platform == "win32", reason="there the parent lowers the priority")
def test_it_is_nice_leaves_a_core_and_so_does_its_session() -> None:
    (before, after, nice), said = started(session=True)
    assert after == max(1, before - 1)
    assert nice >= os.nice(0) + 10 or nice == 19
    if said:
        assert said.split("nice")[1].strip() == "10"


@pytest.mark.skipif(sys.platform == "win32", reason="there the parent lowers the priority")
def test_threads_that_were_asked_for_and_the_session_of_others_are_left_alone() -> None:
    group = Path("/proc/self/autogroup")
    own = group.read_text() if group.is_file() else ""
    (before, after, _), said = started(session=False, OMP_NUM_THREADS="2")
    assert after == before
    assert said == own
