"""`segment_layers`, and the page that shows it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lazy_arrays import Lazy
from micro import micro_model

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

import napari_pisam as pisam
from napari_pisam import sample_data
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts

RNG = np.random.default_rng(0)


class Boxes:
    """A predictor that fills boxes, and the pixel at the first click where there is none."""

    def __init__(self):
        self.asked = []

    def set_image(self, source):
        self.shape, self.source = source.shape, source

    def predict(self, box=None, points=None, labels=None):
        if isinstance(box, Prompts):
            box, points, labels = box.box, box.points, box.labels
        self.asked.append((box, np.asarray(points).tolist(), np.asarray(labels).tolist()))
        if box is None:
            box = (*points[0], *points[0])
        r0, c0, r1, c1 = (round(v + 0.01) for v in box)
        crop = np.ones((r1 - r0 + 1, c1 - c0 + 1), bool)
        return Mask(self.shape, (r0, c0, r1 + 1, c1 + 1), crop, 0.5, (0, 0, *self.shape))

    def predict_many(self, boxes):
        return [self.predict(box, [], []) for box in boxes]


def shapes_at(*boxes, **more):
    return Shapes([np.reshape(box, (2, 2)) for box in boxes], **more)


def test_every_object_gets_its_number_and_the_first_stays_where_two_overlap():
    image = np.zeros((40, 50))
    shapes = shapes_at((2, 2, 9, 9), (5, 5, 20, 20), features={"object": [300, 7]})
    labels = pisam.segment_layers(image, shapes=shapes, predictor=Boxes())
    expected = np.zeros((40, 50), int)
    expected[2:10, 2:10] = 300
    expected[5:21, 5:21] = 7
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint16


def test_large_numbers_get_more_bits():
    shapes = shapes_at((2, 2, 9, 9), features={"object": [70_000]})
    labels = pisam.segment_layers(np.zeros((40, 50)), shapes=shapes, predictor=Boxes())
    assert (labels.dtype, labels.max()) == (np.uint32, 70_000)


def test_clicks_go_to_the_object_of_their_box():
    predictor = Boxes()
    points = Points([[4, 4], [15, 15]], features={"label": ["BG", "FG"]})
    pisam.segment_layers(
        np.zeros((40, 50)),
        shapes=shapes_at((2, 2, 9, 9), (12, 12, 20, 20), (30, 30, 35, 35)),
        points=points,
        predictor=predictor,
    )
    assert sorted(predictor.asked) == [
        ((2.0, 2.0, 9.0, 9.0), [[4, 4]], [False]),
        ((12.0, 12.0, 20.0, 20.0), [[15, 15]], [True]),
        ((30.0, 30.0, 35.0, 35.0), [], []),
    ]


def test_result_is_that_of_the_predictor():
    image = Image(RNG.random((48, 60)), scale=(3, 2), translate=(9, 9), contrast_limits=(0, 1))
    shapes = shapes_at((5 * 3 + 9, 6 * 2 + 9, 30 * 3 + 9, 40 * 2 + 9))
    predictor = Predictor(micro_model(), device="cpu")
    labels = pisam.segment_layers(image, shapes=shapes, predictor=predictor)
    alone = Predictor(micro_model(), device="cpu")
    alone.set_image(image.data, contrast_limits=(0, 1))
    expected = alone.predict(box=(5, 6, 30, 40)).to_array()
    np.testing.assert_array_equal(labels == 1, expected)


def test_the_plane_of_a_stack_is_the_one_of_the_prompts():
    predictor = Boxes()
    image = Image(RNG.random((6, 40, 50)), scale=(5, 1, 1), contrast_limits=(0, 1))
    points = Points([[20, 7, 8]])
    labels = pisam.segment_layers(image, points=points, predictor=predictor)
    assert np.argwhere(labels).tolist() == [[7, 8]]
    seen = predictor.source.read((slice(0, 40), slice(0, 50)))[..., 0]
    np.testing.assert_array_equal(seen, image.data[4])


def test_prompts_in_several_planes_need_a_viewer():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, 40, 50)))
    points = viewer.add_points([[2, 7, 8], [4, 9, 9]])
    with pytest.raises(ValueError, match=r"pass dims=viewer\.dims"):
        pisam.segment_layers(image, points=points, predictor=Boxes())
    viewer.dims.set_point(0, 4)
    labels = pisam.segment_layers(image, points=points, predictor=Boxes(), dims=viewer.dims)
    assert np.argwhere(labels).tolist() == [[9, 9]]


def test_what_is_not_used_is_said():
    shapes = shapes_at((2, 2, 9, 9), (90, 90, 99, 99))
    with pytest.warns(UserWarning, match="Shape 1 lies outside the image"):
        pisam.segment_layers(np.zeros((40, 50)), shapes=shapes, predictor=Boxes())


@pytest.mark.parametrize(
    ("place", "label", "match"),
    [((4, 4), None, "Point 1 has the label (nan|None)"), ((35, 45), "BG", "Point 1 at")],
)
def test_a_click_that_is_not_understood_is_an_error(place, label, match):
    points = Points([(3, 3), place], features={"label": ["FG", label]})
    shapes = shapes_at((2, 2, 9, 9))
    with pytest.raises(ValueError, match=match):
        pisam.segment_layers(np.zeros((40, 50)), shapes=shapes, points=points, predictor=Boxes())


def test_no_prompts_are_an_error():
    with pytest.raises(ValueError, match="no prompts on this plane"):
        pisam.segment_layers(np.zeros((40, 50)), shapes=Shapes(ndim=2))


def test_a_lazy_image_is_read_by_windows():
    array = Lazy((3000, 4000), np.uint8)
    predictor = Predictor(micro_model(), device="cpu")
    labels = pisam.segment_layers(array, points=Points([[1500, 2000]]), predictor=predictor)
    assert labels.shape == (3000, 4000)
    # A window of 64 px, and a sample for the contrast of at most a million.
    assert 0 < array.largest_read <= 256 * 256


def test_layers_are_left_as_they_were():
    image = Image(RNG.random((48, 60)), scale=(3, 2), rotate=10)
    shapes, points = shapes_at((2, 2, 60, 60), rotate=10), Points([[9, 9]], shear=[0.1])
    before = [layer.as_layer_data_tuple() for layer in (image, shapes, points)]
    pisam.segment_layers(image, shapes=shapes, points=points, predictor=Boxes())
    for old, layer in zip(before, (image, shapes, points), strict=True):
        new = layer.as_layer_data_tuple()
        np.testing.assert_array_equal(np.asarray(new[0]), np.asarray(old[0]))
        for name in ("scale", "translate", "rotate", "shear", "affine"):
            np.testing.assert_array_equal(new[1][name], old[1][name])
        assert str(new[1].get("features")) == str(old[1].get("features"))


def test_importing_the_layers_loads_neither_torch_nor_napari():
    code = (
        "import sys, napari_pisam.layers, napari_pisam.sample_data\n"
        "sys.exit(str(sorted({'torch', 'napari', 'qtpy', 'pandas'} & set(sys.modules))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stderr.strip() == "[]"


@pytest.mark.parametrize("make", [sample_data.coins, sample_data.filaments, sample_data.cells])
def test_sample_images_are_layers_and_the_same_each_time(make):
    ((image, options, kind),) = make()
    viewer = ViewerModel()
    layer = getattr(viewer, f"add_{kind}")(image, **options)
    assert layer.name == make.__name__
    assert image.std() > 5
    np.testing.assert_array_equal(image, make()[0][0])


def test_manifest_offers_the_docks_and_the_sample_images():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-pisam")
    offered = manifest.contributions
    names = [widget.display_name for widget in offered.widgets]
    assert names == ["Pi-SAM: Segment", "Pi-SAM: Fine-tune"]
    assert [sample.key for sample in offered.sample_data] == ["coins", "filaments", "cells"]
    assert {command.id for command in offered.commands} >= {
        item.command for item in (*offered.widgets, *offered.sample_data)
    }


@pytest.mark.weights
def test_examples_of_the_page_run(snippets):
    blocks = snippets("scripting.md")
    assert len(blocks) >= 3
    names = {"viewer": ViewerModel()}
    exec("\n".join(blocks), names)
    assert set(np.unique(names["labels"])) == {0, 1, 2}
    assert names["viewer"].layers["coins labels"].data.max() == 2
    assert [plane.any() for plane in names["volume"]] == [True] * 4
