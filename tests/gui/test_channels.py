"""What the network is given of several channels, with napari's layers and no window."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")

from napari.components import ViewerModel

from fake_dock import ImagePredictor, draw_box, expected
from fake_session import at_once
from napari_pisam.docks.segment.controller import SegmentController
from napari_pisam.docks.segment.files import saving_job
from napari_pisam.docks.segment.restoring import Restorer
from napari_pisam.session.session import ModelRef

SHAPE = (40, 50)
BOX = (5.0, 6.0, 20.0, 24.0)
OTHER = (22.0, 30.0, 34.0, 44.0)
ALL = (slice(0, 40), slice(0, 50))


class Dock:
    def __init__(self, viewer):
        self.viewer, self.predictor = viewer, ImagePredictor()
        self.controller = SegmentController(viewer, at_once)
        self.work = self.controller.workspace
        self.failures, self.hints = [], []
        self.work.failed.connect(self.failures.append)
        self.work.hinted.connect(self.hints.append)
        self.controller.start()
        self.controller.set_model(self.predictor, ModelRef("fake"))
        self.channels, self.image = self.work.planes.channels, self.work.choice["image"]

    def segment(self, box=BOX):
        """Draw a box, and return the picture that the predictor was given for it."""
        boxes = self.work.choice["boxes"]
        if boxes.ndim == 2:
            draw_box(boxes, box)
        else:
            (r0, c0, r1, c1), z = box, self.viewer.dims.current_step[0]
            corners = [[z, r0, c0], [z, r0, c1], [z, r1, c1], [z, r1, c0]]
            boxes.add(np.array(corners), shape_type="rectangle")
        assert self.controller.session.current.mask is not None
        return self.seen()

    def seen(self):
        return self.predictor.images[-1].read(ALL)

    @property
    def said_again(self):
        return sum("encoded again" in hint for hint in self.hints)


@pytest.fixture
def data():
    return np.random.default_rng(0).integers(0, 1000, (2, *SHAPE)).astype(np.uint16)


@pytest.fixture
def dock(data):
    viewer = ViewerModel()
    viewer.add_image(data, channel_axis=0, name=["DAPI", "GFP"], contrast_limits=[[0, 1000]] * 2)
    return Dock(viewer)


def test_naparis_channels_are_seen_as_one_picture(dock, data):
    picture = dock.segment()
    magenta, green = data / 1000 * 255
    np.testing.assert_allclose(picture, np.stack([magenta, green, magenta], -1), atol=2)
    assert dock.work.planes.seen.startswith("Seen together: DAPI (magenta), GFP (green)")


def test_other_layers_are_seen_alone(data):
    viewer = ViewerModel()
    for channel in data:
        viewer.add_image(channel)
    dock = Dock(viewer)
    assert dock.segment().shape[2] == 1
    assert [row.is_used for row in dock.channels.rows(dock.image)] == [False, True]
    dock.channels.use(dock.image, viewer.layers[0], True)
    assert dock.segment(OTHER).shape[2] == 3


def test_a_layer_can_be_left_out(dock):
    dock.channels.use(
        dock.image, next(one for one in dock.viewer.layers if one.name == "DAPI"), False
    )
    chosen = dock.image.name
    assert dock.segment().shape[2] == (1 if chosen == "GFP" else 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "contrast_limits", (100, 500)),
        lambda layer: setattr(layer, "gamma", 0.5),
        lambda layer: setattr(layer, "colormap", "blue"),
        lambda layer: setattr(layer, "opacity", 0.3),
        lambda layer: setattr(layer, "visible", False),
    ],
)
@pytest.mark.parametrize("name", ["DAPI", "GFP"])
def test_what_changes_the_picture_is_encoded_again_and_said(dock, name, change):
    before = dock.segment()
    layer = dock.viewer.layers[name]
    change(layer)
    assert len(dock.predictor.images) == 1  # not before it is needed
    after = dock.segment(OTHER)
    assert dock.said_again == 1
    assert before.shape != after.shape or not np.array_equal(before, after)


def test_what_leaves_the_picture_as_it_is_is_not_encoded_again(data):
    viewer = ViewerModel()
    image = viewer.add_image(data[0], contrast_limits=(0, 1000))
    elsewhere = viewer.add_image(np.zeros((7, 7)))
    viewer.layers.selection.active = image
    dock = Dock(viewer)
    dock.segment()
    image.gamma, image.colormap, image.opacity = 0.5, "green", 0.7  # of no meaning to one channel
    elsewhere.contrast_limits = (0, 0.5)
    image.contrast_limits = (0, 500)
    image.contrast_limits = (0, 1000)  # there and back
    dock.segment(OTHER)
    assert len(dock.predictor.images) == 1
    assert dock.said_again == 0
    image.contrast_limits = (0, 500)
    dock.controller.predict()
    assert len(dock.predictor.images) == 2
    assert dock.said_again == 1


def test_the_contrast_of_colours_does_not_matter():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((*SHAPE, 3), np.uint8), rgb=True)
    dock = Dock(viewer)
    dock.segment()
    image.contrast_limits = (0, 100)
    dock.segment(OTHER)
    assert len(dock.predictor.images) == 1


def test_values_that_changed_are_seen_in_every_channel(dock):
    before = dock.segment()
    other = next(one for one in dock.viewer.layers if one.name in ("DAPI", "GFP"))
    other.data[:] = 0
    other.refresh()
    assert not np.array_equal(dock.segment(OTHER), before)


def test_channels_of_an_axis_in_colours(data):
    viewer = ViewerModel()
    image = viewer.add_image(data)
    dock = Dock(viewer)
    assert dock.segment().shape[2] == 1
    dock.controller.commit()
    dock.channels.choose_axis(image, 0)
    assert [(row.name, row.color) for row in dock.channels.rows(image)] == [
        ("channel 0", "magenta"),
        ("channel 1", "green"),
    ]
    picture = dock.segment(OTHER)
    assert picture.shape[2] == 3
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])
    dock.controller.commit()
    labels = dock.work.choice["labels"].data
    for channel in labels:  # a cell is the same in each
        assert channel[30, 40] == 2
    assert "channel 0 magenta, channel 1 green" in dock.work.planes.seen
    session = dock.controller.session
    viewer.dims.set_point(0, 0)
    viewer.dims.set_point(0, 1)
    assert dock.controller.session is session
    dock.channels.color(image, 0, "blue")
    dock.channels.use(image, 1, False)
    dock.channels.use(image, 0, False)  # the last one stays
    picture = dock.segment(BOX)
    assert not picture[..., :2].any()
    assert picture[..., 2].any()


def test_new_layers_of_an_axis_of_channels_have_no_such_axis(data):
    viewer = ViewerModel()
    image = viewer.add_image(data)
    dock = Dock(viewer)
    dock.channels.choose_axis(image, 0)
    for role in ("boxes", "clicks", "labels"):
        viewer.layers.remove(dock.work.choice[role])
    dock.controller.new_prompt_layers()
    assert {dock.work.choice[role].ndim for role in ("boxes", "clicks", "labels")} == {2}
    dock.segment()
    dock.controller.commit()
    np.testing.assert_array_equal(dock.work.choice["labels"].data, expected(SHAPE, BOX))
    assert not dock.failures


def test_a_session_of_channels_is_opened_again(data, tmp_path):
    viewer = ViewerModel()
    image = viewer.add_image(data)
    dock = Dock(viewer)
    dock.channels.choose_axis(image, 0)
    dock.segment()
    dock.controller.commit()
    path = saving_job(dock.work.planes, tmp_path / "a.pisam")()
    viewer = ViewerModel()
    again = Dock(viewer)
    again.image = viewer.add_image(data)
    again.channels.choose_axis(again.image, 0)
    Restorer(again.work, at_once, lambda _image: None).restore(path)
    assert not again.failures
    assert [one.committed for one in again.controller.session.objects] == [True]
    assert again.work.planes.plane.channel_axis == 0
