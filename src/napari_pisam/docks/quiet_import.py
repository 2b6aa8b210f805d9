"""Importing torch in a thread without stopping the GUI thread for long.

An import runs in its thread, but what holds Python's lock meanwhile stops every other thread: the
linker, which reads torch's libraries from the disk (seconds, the first time), and full garbage
collections, of which the many new objects cause several.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = {"linux": "libtorch_python.so", "darwin": "libtorch_python.dylib"}
# After this, s, another thread gets Python's lock; 5 ms by default. To draw its window once, napari
# calls OpenGL some hundred times, and lets go of the lock each time.
_TURN = 0.0001


@contextmanager
def quiet_import() -> Iterator[None]:
    """Import something large, torch among it, while other threads stay responsive."""
    turn, was_enabled = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(min(turn, _TURN))
    gc.disable()
    try:
        preload_torch()
        yield
    finally:
        if gc.get_freeze_count() == 0:
            # Makes all new objects old ones without looking at each: they are here to stay.
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
        sys.setswitchinterval(turn)


def preload_torch() -> bool:
    """Load torch's libraries before Python does, which would hold its lock; whether that was done.

    Where it is not possible, the import does all the work as ever.
    """
    name = _LIBRARIES.get(sys.platform)
    if name is None or "torch" in sys.modules:
        return False
    with suppress(ImportError, ValueError, OSError, AttributeError):
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            return False
        path = Path(spec.origin).parent / "lib" / name
        # A call into a library lets go of Python's lock; ctypes' own way of opening one does not.
        load = ctypes.CDLL(None).dlopen
        load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
        return path.is_file() and bool(load(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL))
    return False
