"""A viewer is open before torch is imported: that is the order in which users work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import warnings
warnings.simplefilter("ignore")
import napari, numpy as np
import napari_pisam.widgets.segment  # names of models, before anything is drawn
viewer = napari.Viewer()
viewer.add_image(np.eye(64))
picture = viewer.screenshot(canvas_only=False, flash=False)
assert picture.std() > 10, "nothing was drawn"
import sys
assert "torch" not in sys.modules
import napari_pisam.model.pisam
import torchvision
viewer.close()
"""


def test_torch_can_be_imported_after_a_viewer_has_drawn() -> None:
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        pytest.skip("needs a display: run it through `make test`")
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stderr[-2000:]
