"""The Segment dock by all the ways in that users take, and out again."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from dock_window import BOX, DOORS, NAME, SHAPE, Window

PIXELS = np.random.default_rng(0).random(SHAPE)


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PISAM_RUNS", str(tmp_path / "runs"))


@pytest.fixture(params=DOORS)
def entered(request, make_napari_viewer, qtbot):
    """A viewer with an image and the dock, by each of the doors."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(PIXELS, name="cells")
    return Window(viewer, qtbot, door=DOORS[request.param])


def test_the_first_drag_draws_a_box_and_layers_that_were_deleted_are_let_go(entered):
    assert entered.dock_widget.name == NAME
    entered.drag(BOX[:2], BOX[2:])
    entered.until(lambda: entered.mask is not None)
    np.testing.assert_allclose(entered.session.current.prompts.box, BOX, atol=1.0)
    assert [str(layer) for layer in entered.viewer.layers.selection] == ["cells clicks"]
    gone = entered.labels
    entered.viewer.layers.remove("cells labels")
    entered.settle()
    assert entered.labels is None
    entered.press("w")
    entered.until(lambda: entered.session.objects[0].committed)
    assert not np.any(gone.data)
    assert np.any(entered.viewer.layers["cells labels"].data)
    for combo in entered.dock.layer_panel.combos.values():
        assert combo.layer is not None
