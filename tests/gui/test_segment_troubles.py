"""The Segment dock in a real window: images of every kind, and what goes wrong on the way."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    pytest.skip("there is no display: run the tests by `make test`", allow_module_level=True)

import dask.array as da
import zarr

from dock_window import BOX, SHAPE, Window
from fake_dock import click, draw_box, expected

PIXELS = np.random.default_rng(0).integers(0, 200, SHAPE, dtype=np.uint16)
OTHER = (5.0, 5.0, 25.0, 30.0)


def said():
    """What napari's notifications say, oldest first."""
    from napari.utils.notifications import notification_manager

    return [str(record.message) for record in notification_manager.records]


# -- images of every kind -------------------------------------------------------------------------

IMAGES = {
    "dask": lambda: (da.from_array(PIXELS, chunks=40), {}),
    "zarr": lambda: (zarr.array(PIXELS, chunks=(40, 40)), {}),
    "pyramid": lambda: (
        [da.from_array(PIXELS, chunks=40), da.from_array(PIXELS[::2, ::2], chunks=40)],
        {"multiscale": True},
    ),
    "scaled": lambda: (PIXELS, {"scale": (0.5, 0.25), "translate": (7.0, -30.0)}),
    "rotated": lambda: (PIXELS, {"rotate": 30.0, "scale": (2.0, 2.0)}),
    "sheared": lambda: (PIXELS, {"shear": [0.3], "units": ["um", "um"]}),
    "dask stack, scaled": lambda: (
        da.from_array(np.stack([PIXELS, PIXELS]), chunks=(1, 40, 40)),
        {"scale": (3.0, 0.5, 0.5)},
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_box_by_hand_is_written_where_it_was_drawn(kind, make_napari_viewer, qtbot):
    data, options = IMAGES[kind]()
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(data, name="cells", contrast_limits=(0, 200), **options)
    viewer.dims.set_point(0, 0)
    window = Window(viewer, qtbot)
    window.until(lambda: window.session is not None)
    before = {name: np.array(getattr(image, name)) for name in ("scale", "translate", "rotate")}
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.mask is not None)
    box = window.session.current.prompts.box
    # A pixel of the screen may be more than one of the image where that is stretched.
    np.testing.assert_allclose(box, BOX, atol=2.0)
    window.click(100, 130)
    window.until(lambda: len(window.session.current.prompts.points) == 1)
    window.until(lambda: window.mask is not None and not window.session.is_busy)
    point = window.session.current.prompts.points
    np.testing.assert_allclose(point, [(100, 130)], atol=2.0)
    window.press("w")
    window.until(lambda: window.session.objects[0].committed)
    labels = np.asarray(window.labels.data)
    labels = labels.reshape(-1, *labels.shape[-2:])
    np.testing.assert_array_equal(labels[0] == 1, expected(SHAPE, box, point, [True]))
    assert not labels[1:].any()
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(image, name), value)


# -- while a prediction runs ----------------------------------------------------------------------


def test_another_slice_during_a_prediction_gets_nothing_of_it(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.stack([PIXELS, PIXELS + 1]), name="stack")
    viewer.dims.set_point(0, 0)
    window = Window(viewer, qtbot)
    window.dock.loader.load("tiny", "cpu")
    window.until(lambda: window.session.model is not None)
    window.predictor.gate.clear()
    window.drag(BOX[:2], BOX[2:])
    window.until(lambda: window.session.is_busy)
    viewer.dims.set_point(0, 1)
    window.settle()
    assert window.session.objects == ()
    window.predictor.gate.set()
    window.until(lambda: not window.session.is_busy)
    assert window.session.objects == ()
    viewer.dims.set_point(0, 0)
    window.until(lambda: window.mask is not None)
    assert window.session.current.prompts.box is not None


def test_another_image_during_a_prediction_gets_nothing_of_it(window):
    window.dock.loader.load("tiny", "cpu")
    window.until(lambda: window.session.model is not None)
    window.predictor.gate.clear()
    draw_box(window.boxes, BOX)
    window.until(lambda: window.session.is_busy)
    other = window.viewer.add_image(PIXELS, name="other")
    window.dock.controller.workspace.choice.choose("image", other)
    window.predictor.gate.set()
    window.until(lambda: not window.session.is_busy)
    assert window.session.objects == ()
    window.dock.controller.workspace.choice.choose("image", window.viewer.layers["cells"])
    window.until(lambda: window.mask is not None)


def test_another_model_during_a_prediction_predicts_the_same_prompts(window):
    window.dock.loader.load("tiny", "cpu")
    window.until(lambda: window.session.model is not None)
    window.predictor.gate.clear()
    draw_box(window.boxes, BOX)
    window.until(lambda: window.session.is_busy)
    window.dock.loader.load("sam_vit_b", "cpu")
    window.until(lambda: window.session.model.name == "sam_vit_b")
    window.predictor.gate.set()
    window.until(lambda: window.mask is not None and not window.session.is_busy)
    assert window.session.current.prompts.box == BOX


# -- memory and disk ------------------------------------------------------------------------------


def test_a_full_memory_is_told_once_and_the_next_click_predicts(window):
    window.predictor.errors.append(MemoryError("256 MB"))
    before = len(said())
    draw_box(window.boxes, BOX)
    window.until(lambda: len(said()) > before and not window.session.is_busy)
    (sentence,) = said()[before:]
    assert "not enough memory" in sentence
    assert window.session.current.prompts.box == BOX
    click(window.clicks, 60, 70)
    window.until(lambda: window.mask is not None)
    assert len(said()) == before + 1


def test_a_full_disk_stops_no_work_and_is_told_once_until_there_is_room(
    window, autosaves, monkeypatch
):
    from napari_pisam.session import autosave

    real, tries = autosave.save_planes, []

    def full(path, *_):
        tries.append(path)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(autosave, "save_planes", full)
    before = len(said())
    draw_box(window.boxes, BOX)
    window.until(lambda: window.mask is not None)
    window.dock.files.autosave()
    window.until(lambda: len(tries) == 1)
    window.dock.object_list.commit_button.click()
    window.until(lambda: window.session.current is None)
    window.dock.files.autosave()
    window.until(lambda: len(tries) == 2)
    (sentence,) = said()[before:]
    assert sentence.startswith("Saving the session automatically failed")
    assert "No space left" in sentence
    assert (np.asarray(window.labels.data) == 1).any()
    assert not list(autosaves.rglob("*.pisam"))
    # What could not be saved is saved as soon as there is room, without another change.
    monkeypatch.setattr(autosave, "save_planes", real)
    window.dock.files.autosave()
    window.until(lambda: len(list(autosaves.rglob("*.pisam"))) == 1)


def test_a_labels_layer_without_room_is_told_and_the_object_stays(window, monkeypatch):
    draw_box(window.boxes, OTHER)
    window.until(lambda: window.mask is not None)
    store = window.session._document.store
    before = len(said())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        window.dock.object_list.commit_button.click()
        window.until(lambda: len(said()) > before)
    assert "Writing the labels failed" in said()[-1]
    assert window.session.current.mask is not None
    assert not window.session.current.committed
    window.dock.object_list.commit_button.click()
    window.until(lambda: window.session.objects[0].committed)
