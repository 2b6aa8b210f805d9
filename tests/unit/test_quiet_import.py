"""Importing torch with other threads responsive; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("qtpy", reason="qtpy is not installed: pip install 'napari-pisam[gui]'")


def run(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def test_nothing_is_collected_meanwhile_and_everything_is_as_before_afterwards():
    code = """
import gc, sys
from napari_pisam.docks import quiet_import as q
q.preload_torch = lambda: False
before = sys.getswitchinterval(), gc.get_freeze_count()
try:
    with q.quiet_import():
        print(gc.isenabled(), sys.getswitchinterval() < before[0])
        raise ImportError
except ImportError:
    print(gc.isenabled(), (sys.getswitchinterval(), gc.get_freeze_count()) == before)
"""
    assert run(code) == ["False", "True", "True", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_torch_finds_its_libraries_loaded_and_works():
    code = """
from pathlib import Path
from napari_pisam.docks.quiet_import import preload_torch
print(preload_torch(), "libtorch_cpu" in Path("/proc/self/maps").read_text())
import torch
print(float(torch.ones(3).sum()), preload_torch())
"""
    assert run(code) == ["True", "True", "3.0", "False"]
