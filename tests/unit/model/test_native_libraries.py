"""Whatever imports torchvision keeps triton apart first, whichever module is imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, sys
from napari_pisam.model import native_libraries
loaded = []
native_libraries.isolate_triton = lambda: loaded.append("torchvision" in sys.modules)
importlib.import_module(sys.argv[1])
assert "torchvision" in sys.modules
assert loaded[0] is False, loaded
"""


@pytest.mark.parametrize("module", ["sam_modules", "compact_encoder"])
def test_triton_is_kept_apart_before_torchvision_is_imported(module: str) -> None:
    command = [sys.executable, "-c", PROGRAM, f"napari_pisam.model.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
