"""Keep two native libraries in one process from ending it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def isolate_triton() -> None:
    """Load triton so that it uses the LLVM inside it, where another one is loaded already.

    Importing torchvision imports triton. On Linux, Mesa's OpenGL drivers put their own LLVM into
    the process's global symbols as soon as a viewer draws; if triton's symbols then resolve to
    that one, the process ends with a segmentation fault. Does nothing where there is no clash.
    """
    if sys.platform != "linux" or "triton" in sys.modules:
        return
    if "libLLVM" not in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace"):
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        with contextlib.suppress(ImportError):  # the CPU builds of torch come without it
            importlib.import_module("triton")
    finally:
        sys.setdlopenflags(flags)


def import_apart(name: str) -> ModuleType:
    """Import a package that imports torchvision (timm, segment_anything), with triton kept apart.

    Call it where the package is needed first and not when this one is imported: a dock imports
    names of models long before, when no viewer has drawn anything yet and there is nothing to be
    seen of a clash.
    """
    isolate_triton()
    return importlib.import_module(name)
