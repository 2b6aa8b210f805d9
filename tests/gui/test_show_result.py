"""The demo's window, on real rendering; and what napari itself saves from it."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

from napari_pisam.layers import result as layers
from napari_pisam.predict.prompt_files import collect_prompts, read_clicks, read_shapes
from napari_pisam.predict.prompts import Prompts

BOXES = [(4.0, 6.0, 30.0, 34.0), (10.0, 40.0, 44.0, 62.0)]
CLICKS = [(17.0, 20.0, True), (25.0, 30.0, False), (20.0, 50.0, False)]


def prompts_of(clicks):
    """Two objects, each with the clicks in its box."""
    return {
        number: Prompts(box, [click[:2] for click in own], [click[2] for click in own])
        for number, box in enumerate(BOXES, 1)
        if (own := [click for click in clicks if box[1] < click[1] < box[3]]) is not None
    }


def filled(viewer):
    labels = np.zeros((48, 64), np.uint16)
    labels[4:31, 6:35] = 1
    layers.add_result(viewer, np.eye(48, 64), prompts_of(CLICKS), labels)
    return viewer


@pytest.fixture
def viewer(make_napari_viewer):
    return filled(make_napari_viewer())


def test_result_has_four_layers(viewer):
    assert [layer.name for layer in viewer.layers] == ["image", "labels", "clicks", "boxes"]


def test_clicks_differ_in_colour_and_symbol(viewer):
    clicks = viewer.layers["clicks"]
    assert list(clicks.features["label"]) == ["FG", "BG", "BG"]
    assert list(clicks.features["label"].cat.categories) == ["FG", "BG"]
    assert [str(symbol) for symbol in clicks.symbol] == ["disc", "cross", "cross"]
    green, red, _ = clicks.border_color[:, :3]
    assert green[1] > 2 * green[0]
    assert red[0] > 2 * red[1]


def test_result_is_drawn(make_napari_viewer):
    viewer = filled(make_napari_viewer(show=True))
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    green = picture[..., 1] - picture[..., 0]
    # The FG disc, however the canvas was sized.
    assert (green > 80).sum() > 20


@pytest.mark.parametrize("clicks", [[], CLICKS[:1], CLICKS[1:]])
def test_any_number_of_clicks_is_shown(make_napari_viewer, clicks):
    viewer = make_napari_viewer()
    layers.add_result(viewer, np.eye(48, 64), prompts_of(clicks), np.zeros((48, 64), np.uint16))
    assert len(viewer.layers["clicks"].data) == len(clicks)


def test_what_napari_saves_of_it_gives_the_same_prompts(viewer, tmp_path):
    viewer.layers["boxes"].save(str(tmp_path / "boxes.csv"))
    viewer.layers["clicks"].save(str(tmp_path / "clicks.csv"))
    boxes, clicks = read_shapes(tmp_path / "boxes.csv").boxes, read_clicks(tmp_path / "clicks.csv")
    prompts = collect_prompts(boxes, clicks)
    assert [prompt.box for prompt in prompts.values()] == BOXES
    assert prompts[1].points.tolist() == [[17, 20], [25, 30]]
    assert prompts[1].labels.tolist() == [True, False]
    assert prompts[2].labels.tolist() == [False]


def test_window_stays_open_until_it_is_closed(make_napari_viewer, monkeypatch):
    import napari

    viewer, runs = make_napari_viewer(), []
    monkeypatch.setattr(napari, "Viewer", lambda **_options: viewer)
    monkeypatch.setattr(napari, "run", lambda: runs.append(len(viewer.layers)))
    layers.show_result(np.eye(48, 64), prompts_of(CLICKS), np.zeros((48, 64), np.uint16))
    assert runs == [4]


def test_display_is_found():
    assert layers.can_show() == (os.environ.get("QT_QPA_PLATFORM") != "offscreen")
