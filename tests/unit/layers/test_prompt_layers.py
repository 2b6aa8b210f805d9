"""Prompts out of and into Shapes and Points layers, as napari's own tools change them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'napari-pisam[gui]'")
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

from napari_pisam.layers import prompt_layers as layers
from napari_pisam.layers.prompt_layers import write_prompts
from napari_pisam.layers.prompts import prompts_from_layers
from napari_pisam.predict.areas import Area, Use
from napari_pisam.predict.prompts import Prompts

IMAGE = Image(np.zeros((50, 60)), scale=(2, 3), rotate=20, translate=(5, -7))


@pytest.fixture
def viewer():
    model = ViewerModel()
    model.add_image(np.zeros((50, 60)), name="picture", scale=(2, 3), rotate=20, units="um")
    return model


@pytest.fixture
def made(viewer):
    """(image, shapes, points)."""
    return viewer.layers[0], *layers.new_prompt_layers(viewer, viewer.layers[0])


def symbols(points):
    return [str(symbol) for symbol in points.symbol]


def rounded(points):
    return [tuple(color) for color in np.round(points.border_color, 2).tolist()]


GREEN, RED = (0.0, 0.62, 0.45, 1.0), (0.84, 0.37, 0.0, 1.0)

# -- reading ------------------------------------------------------------------------------------


def boxed(*boxes, kind="rectangle", **features):
    return Shapes([np.reshape(b, (2, 2)) for b in boxes], shape_type=kind, features=features)


def plain(shape=(50, 60)):
    return np.zeros(shape)


def test_every_closed_shape_gives_its_bounding_box():
    shapes = Shapes(ndim=2)
    shapes.add_ellipses([[10, 20], [10, 30], [16, 30], [16, 20]])
    shapes.add_polygons([[1, 2], [8, 5], [3, 9]])
    found = prompts_from_layers(plain(), shapes)
    assert [p.box for p in found.prompts.values()] == [
        (10, 20, 16, 30),
        (1, 2, 8, 9),
    ]


ASKED_ALL = Prompts.from_strokes(
    (10, 20, 30, 40),
    [
        (((12, 25),), True),
        (((11, 21), (12.5, 25), (12, 30)), False),
        (((16, 31),), False),
        (((20, 36), (25, 38)), True),
    ],
    areas=[
        Area.of((1, 1, 5, 9)),
        Area.of((12, 22, 14, 24), False),
        Area.of([(2, 30), (8, 30), (5, 41)]),
        Area.of([(2, 31), (4, 31), (5, 34)], False),
    ],
)


def alike(first, second):
    """The same prompts, but for what rounding does on the way through a layer."""
    kinds = [[(len(places), flag) for places, flag in one.strokes] for one in (first, second)]
    areas = [[(len(a.vertices), a.is_foreground) for a in one.areas] for one in (first, second)]
    corners = [[v for a in one.areas for v in a.vertices] for one in (first, second)]
    return (
        kinds[0] == kinds[1]
        and areas[0] == areas[1]
        and np.allclose(first.points, second.points, atol=1e-3)
        and np.allclose(*corners, atol=1e-3)
        and (first.box is None) == (second.box is None)
    )


def test_scribbles_and_areas_go_into_the_layers_and_come_back(made):
    _, shapes, points = made
    write_prompts(*made, 3, ASKED_ALL)
    assert list(shapes.shape_type).count("path") == 2
    assert alike(prompts_from_layers(*made).prompts[3], ASKED_ALL)
    data, features = [np.array(one) for one in shapes.data], shapes.features.copy()
    write_prompts(*made, 3, ASKED_ALL)
    assert all(np.array_equal(*pair) for pair in zip(data, shapes.data, strict=True))
    pd.testing.assert_frame_equal(features, shapes.features)
    fewer = ASKED_ALL.first_clicks(2)
    write_prompts(*made, 3, fewer)
    assert alike(prompts_from_layers(*made).prompts[3], fewer)
    write_prompts(*made, 3, None)
    assert len(shapes.data) == len(points.data) == 0


def test_which_answer_a_box_is_to_have_goes_into_the_layers_and_comes_back(made):
    _, shapes, _ = made
    for answer in ("fine", "solid", None):
        asked = Prompts((10, 20, 30, 40), answer=answer)
        write_prompts(*made, 3, asked)
        assert list(shapes.features["use"]) == [answer or "box"]
        assert prompts_from_layers(*made).prompts == {3: asked}


def test_another_answer_does_not_have_the_box_drawn_anew(made):
    _, shapes, _ = made
    corners = np.array([[10, 20], [10, 40], [30, 30.0]])
    shapes.add([corners], shape_type="polygon")
    shapes.features = {"object": [3]}
    for answer in ("fine", "solid", None):
        write_prompts(*made, 3, Prompts((10, 20, 30, 40), answer=answer))
        assert prompts_from_layers(*made).prompts[3].answer == answer
        np.testing.assert_array_equal(shapes.data[0], corners)


def test_shapes_have_the_colour_of_what_they_say(made):
    shapes = made[1]
    write_prompts(*made, 3, ASKED_ALL)
    blue = (0.34, 0.71, 0.91, 1.0)
    found = [tuple(color) for color in np.round(shapes.edge_color, 2).tolist()]
    assert found == [blue, blue, RED, blue, RED, RED, GREEN]
    layers.relabel_shapes(shapes, [5], "FG")
    assert tuple(np.round(shapes.edge_color[5], 2).tolist()) == GREEN
    assert prompts_from_layers(*made).prompts[3].strokes[1][1]


def test_an_ellipse_that_is_used_as_outline_is_round(made):
    shapes = made[1]
    layers.set_shape_kind(shapes, "FG", Use.OUTLINE)
    shapes.add_ellipses([[10, 20], [10, 30], [20, 30], [20, 20]])
    start = prompts_from_layers(*made).prompts[1].with_start().mask
    assert start.bbox == (10, 20, 21, 31)
    assert start.crop.sum() < 100


def test_a_shape_that_says_where_an_object_is_not_has_to_say_which():
    shapes = boxed((1, 1, 9, 9), label=["BG"])
    found = prompts_from_layers(plain(), shapes)
    assert found.prompts == {}
    assert "names no object" in found.unclear[0]


def test_a_scribble_without_an_object_belongs_to_the_box_it_begins_in():
    shapes = boxed((1, 1, 20, 20))
    shapes.add_paths([[5, 5], [9, 9], [9, 30]])
    [prompts] = prompts_from_layers(plain(), shapes).prompts.values()
    assert prompts.strokes == [(((5.0, 5.0), (9.0, 9.0), (9.0, 30.0)), True)]


@pytest.mark.parametrize(
    "corners",
    [[(3, 4), (20, 30)], [(20, 30), (3, 4)], [(3, 30), (20, 4)], [(20, 4), (3, 30)]],
)
def test_drawing_direction_does_not_matter(corners):
    shapes = Shapes([corners], shape_type="rectangle")
    assert prompts_from_layers(plain(), shapes).prompts[1].box == (3, 4, 20, 30)


def test_what_is_outside_the_image_is_clipped_or_ignored_with_a_reason():
    shapes = boxed((-9, 40, 20, 99), (60, 5, 80, 9), (7, 7, 7, 20))
    found = prompts_from_layers(plain(), shapes)
    assert [p.box for p in found.prompts.values()] == [(-0.5, 40, 20, 59.5)]
    outside, empty = found.ignored
    assert "Shape 1 lies outside the image" in outside
    assert "Shape 2 has no area" in empty


def test_a_click_outside_the_image_is_ignored_with_a_reason():
    points = Points([[5, 6], [50, 6], [49.5, -0.5]])
    found = prompts_from_layers(plain(), None, points)
    assert found.prompts[1].points.tolist() == [[5, 6], [49.5, -0.5]]
    assert found.ignored == ("Point 1 lies outside the image: move it onto the image.",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["FG", "BG"], [True, False]),
        (pd.Categorical(["BG", "FG"]), [False, True]),
        ([1, 0], [True, False]),
        ([True, False], [True, False]),
        (["positive", "negative"], [True, False]),
        (["foreground", "background"], [True, False]),
    ],
)
def test_labels_are_read_however_they_are_written(values, expected):
    points = Points([[5, 6], [7, 8]], features={"label": values, "object": [1, 1]})
    found = prompts_from_layers(plain(), boxed((1, 1, 9, 9)), points)
    assert found.prompts[1].labels.tolist() == expected


def test_an_unknown_label_is_ignored_with_a_reason():
    points = Points([[5, 6], [7, 8]], features={"label": ["FG", "edge"]})
    found = prompts_from_layers(plain(), None, points)
    assert len(found.prompts[1].points) == 1
    assert "'edge', expected FG or BG" in found.ignored[0]


@pytest.mark.parametrize("label", [None, np.nan, ""])
def test_a_click_that_does_not_say_what_it_is_is_named(label):
    points = Points([[5, 6], [7, 8]], features={"label": ["FG", label], "object": [1, 1]})
    found = prompts_from_layers(plain(), boxed((1, 1, 9, 9)), points)
    assert len(found.prompts[1].points) == 1
    [reason] = found.ignored
    assert reason.startswith("Point 1 has the label")


def test_signs_in_a_feature_of_another_name_are_not_taken_for_fg():
    points = Points([[5, 6], [7, 8]], features={"sign": ["positive", "negative"]})
    found = prompts_from_layers(plain(), boxed((1, 1, 9, 9)), points)
    assert not len(found.prompts[1].points)
    assert "Point 1 has no label, and its feature 'sign' is 'negative'" in found.ignored[1]


def test_preparing_a_layer_does_not_make_fg_of_what_is_neither():
    points = Points([[1, 2], [3, 4]], features={"label": ["BG", "edge"]})
    layers.prepare_points(points)
    assert points.features["label"].iloc[0] == "BG"
    assert pd.isna(points.features["label"].iloc[1])


def test_properties_of_older_scripts_are_read():
    points = Points(
        [[5, 6], [7, 8]], properties={"label": np.array(["FG", "BG"]), "object": np.array([4, 4])}
    )
    found = prompts_from_layers(plain(), None, points)
    assert list(found.prompts) == [4]
    assert found.prompts[4].labels.tolist() == [True, False]


def test_objects_are_kept_apart_and_one_can_be_asked_for():
    shapes = boxed((1, 1, 9, 9), (20, 20, 30, 30), object=[7, 3])
    points = Points([[5, 5], [25, 25]], features={"object": [7, 3]})
    found = prompts_from_layers(plain(), shapes, points)
    assert list(found.prompts) == [3, 7]
    assert found.prompts[7] == Prompts((1, 1, 9, 9), [(5, 5)], [True])
    assert prompts_from_layers(plain(), shapes, points, 3).prompts == {3: found.prompts[3]}
    assert prompts_from_layers(plain(), shapes, points, 8).prompts == {}


def test_shapes_without_an_object_get_free_numbers():
    shapes = boxed((1, 1, 9, 9), (20, 20, 30, 30), (30, 1, 40, 9), object=[np.nan, 3, 0])
    found = prompts_from_layers(plain(), shapes)
    assert {number: p.box[:2] for number, p in found.prompts.items()} == {
        1: (1, 1),
        3: (20, 20),
        4: (30, 1),
    }


def test_a_click_without_an_object_belongs_to_the_box_around_it_or_the_nearest():
    shapes = boxed((0, 0, 40, 40), (10, 10, 20, 20), (0, 50, 9, 59))
    points = Points([[15, 15], [30, 30], [12, 48], [47, 20]])
    found = prompts_from_layers(plain(), shapes, points)
    clicks = {number: p.points.tolist() for number, p in found.prompts.items()}
    assert clicks == {1: [[30, 30], [47, 20]], 2: [[15, 15]], 3: [[12, 48]]}


def test_a_click_far_from_all_boxes_is_named():
    points = Points([[5, 5], [40, 40]])
    found = prompts_from_layers(plain(), boxed((0, 0, 10, 10)), points)
    assert found.prompts[1].points.tolist() == [[5, 5]]
    assert found.ignored == found.unclear
    assert "Point 1 at (40, 40)" in found.unclear[0]


def test_clicks_alone_are_one_object():
    points = Points([[15, 15], [30, 30]], features={"label": ["FG", "BG"]})
    assert prompts_from_layers(plain(), None, points).prompts[1].labels.tolist() == [True, False]


def test_bg_clicks_alone_are_no_object():
    points = Points([[15, 15]], features={"label": ["BG"], "object": [2]})
    found = prompts_from_layers(plain(), None, points)
    assert found.prompts == {}
    assert "Object 2: Given only BG clicks" in found.ignored[0]


def test_the_later_of_two_boxes_of_an_object_counts():
    found = prompts_from_layers(plain(), boxed((1, 1, 9, 9), (2, 2, 8, 8), object=[5, 5]))
    assert found.prompts[5].box == (2, 2, 8, 8)
    assert "Object 5 has more than one box" in found.ignored[0]


def test_empty_layers_are_no_prompts():
    assert prompts_from_layers(plain(), Shapes(ndim=2), Points(ndim=2)).prompts == {}


# -- new layers ---------------------------------------------------------------------------------


def test_new_layers_lie_like_the_image(made):
    image, shapes, points = made
    for layer in (shapes, points):
        for place in ((0, 0), (49, 59)):
            np.testing.assert_allclose(layer.data_to_world(place), image.data_to_world(place))
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels


def test_new_layers_of_a_stack_have_its_axes():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 50, 60)), axis_labels=("z", "y", "x"), scale=(3, 1, 1))
    for layer in layers.new_prompt_layers(viewer, image):
        assert (layer.ndim, layer.axis_labels) == (3, ("z", "y", "x"))
        np.testing.assert_allclose(layer.scale, (3, 1, 1))


def test_prompts_of_leading_channels_are_for_all_of_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 50, 60)), scale=(3, 2, 1))
    for layer in layers.new_prompt_layers(viewer, image, channel_axis=0):
        np.testing.assert_allclose(layer.scale, (2, 1))


def test_empty_layers_keep_their_types(made):
    _image, shapes, points = made
    assert shapes.features["object"].dtype == np.int64
    assert points.features["object"].dtype == np.int64
    assert list(points.features["label"].cat.categories) == ["FG", "BG"]


def test_types_survive_clicking_selecting_and_removing(made):
    _image, shapes, points = made
    for place in ((1, 2), (3, 4), (5, 6)):
        points.add(place)
    points.selected_data = {0}
    points.add((7, 8))
    points.remove_selected()
    points.selected_data = set()
    points.add((9, 9))
    shapes.add([[0, 0], [4, 4]])
    assert list(points.features["label"].cat.categories) == ["FG", "BG"]
    assert points.features["object"].dtype == np.int64
    assert shapes.features["object"].dtype == np.int64
    assert list(points.features["object"]) == [1] * 4


def test_new_clicks_get_the_colour_and_the_symbol_of_their_label(made):
    points = made[2]
    points.add((1, 2))
    layers.set_click_label(points, "BG")
    points.add((3, 4))
    layers.set_click_label(points, "FG")
    points.add((5, 6))
    assert list(points.features["label"]) == ["FG", "BG", "FG"]
    assert symbols(points) == ["disc", "cross", "disc"]
    assert rounded(points) == [GREEN, RED, GREEN]


def test_switching_the_next_click_leaves_selected_ones_alone(made):
    points = made[2]
    points.add((1, 2))
    assert points.selected_data == {0}
    assert layers.toggle_click_label(points) == "BG"
    assert (symbols(points), rounded(points)) == (["disc"], [GREEN])
    assert layers.toggle_click_label(points) == "FG"


def test_symbols_follow_whoever_changes_the_labels(made):
    points = made[2]
    points.data = [[1, 2], [3, 4], [5, 6]]
    features = points.features.copy()
    features["label"] = pd.Categorical(["BG", "FG", "BG"], categories=["FG", "BG"])
    points.features = features
    assert symbols(points) == ["cross", "disc", "cross"]
    points.feature_defaults = {"label": "BG", "object": 2}
    points.add((7, 7))
    assert symbols(points)[-1] == "cross"
    points.remove([0])
    assert symbols(points) == ["disc", "cross", "cross"]


def test_clicks_can_be_relabelled(made):
    points = made[2]
    points.data = [[1, 2], [3, 4]]
    layers.relabel_clicks(points, [1], "BG")
    assert (symbols(points), rounded(points)) == (["disc", "cross"], [GREEN, RED])
    points.add((5, 6))
    assert list(points.features["label"]) == ["FG", "BG", "FG"]


def test_another_label_is_an_error(made):
    with pytest.raises(ValueError, match="expected 'FG' or 'BG'"):
        layers.set_click_label(made[2], "fg")


def test_new_prompts_are_of_the_current_object(made):
    _image, shapes, points = made
    layers.set_current_object(shapes, points, 12)
    points.add((1, 2))
    shapes.add([[0, 0], [4, 4]])
    assert (list(points.features["object"]), list(shapes.features["object"])) == ([12], [12])


def test_a_users_own_layers_can_be_prepared_and_keep_what_they_say():
    points = Points([[1, 2], [3, 4]], features={"label": ["negative", "positive"], "note": [5, 6]})
    layers.prepare_points(points)
    assert list(points.features["label"]) == ["BG", "FG"]
    assert list(points.features["note"]) == [5, 6]
    assert symbols(points) == ["cross", "disc"]
    shapes = Shapes([[[0, 0], [4, 4]]])
    layers.prepare_shapes(shapes)
    assert list(shapes.features["object"]) == [0]


# -- writing ------------------------------------------------------------------------------------

ASKED = Prompts((3, 4, 20, 30), [(5, 6), (7, 8), (9, 10)], [True, False, True])


def test_what_is_written_is_read_again(made):
    write_prompts(*made, 2, ASKED)
    found = prompts_from_layers(*made).prompts
    assert list(found) == [2]
    np.testing.assert_allclose(found[2].box, ASKED.box, atol=1e-4)
    np.testing.assert_allclose(found[2].points, ASKED.points, atol=1e-9)
    assert found[2].labels.tolist() == ASKED.labels.tolist()
    assert symbols(made[2]) == ["disc", "cross", "disc"]


def test_what_is_written_to_layers_that_lie_elsewhere_is_read_again():
    shapes, points = Shapes(ndim=2, shear=[0.3], scale=(0.2, 5)), Points(ndim=2, rotate=70)
    write_prompts(IMAGE, shapes, points, 1, ASKED)
    found = prompts_from_layers(IMAGE, shapes, points).prompts[1]
    np.testing.assert_allclose(found.box, ASKED.box, atol=1e-3)
    np.testing.assert_allclose(found.points, ASKED.points, atol=1e-9)


def test_undo_of_a_click_removes_its_point_alone(made):
    image, shapes, points = made
    write_prompts(image, shapes, points, 1, Prompts((30, 30, 40, 40)))
    write_prompts(*made, 2, ASKED)
    shape, size = shapes.data[1], points.size.copy()
    points.size = size + np.array([1, 2, 3])
    write_prompts(*made, 2, ASKED.first_clicks(2))
    found = prompts_from_layers(*made).prompts
    assert found[2].points.tolist() == pytest.approx(np.array([[5, 6], [7, 8]]))
    assert found[1].box == pytest.approx((30, 30, 40, 40), abs=1e-4)
    np.testing.assert_array_equal(points.size, size[:2] + np.array([1, 2]))
    assert shapes.data[1] is shape or np.array_equal(shapes.data[1], shape)


def test_writing_what_is_there_changes_nothing(made):
    _image, shapes, points = made
    write_prompts(*made, 2, ASKED)
    heard = []
    points.events.data.connect(lambda event: heard.append(event.action))
    shapes.events.data.connect(lambda event: heard.append(event.action))
    write_prompts(*made, 2, ASKED)
    assert heard == []


def test_writing_keeps_what_the_next_prompt_will_be(made):
    _image, shapes, points = made
    layers.set_current_object(shapes, points, 9)
    layers.set_click_label(points, "BG")
    write_prompts(*made, 2, ASKED)
    write_prompts(*made, 2, None)
    assert (len(shapes.data), len(points.data)) == (0, 0)
    points.add((1, 2))
    shapes.add([[0, 0], [4, 4]])
    assert list(points.features["object"]) == list(shapes.features["object"]) == [9]
    assert symbols(points) == ["cross"]


def test_a_polygon_that_has_the_same_box_stays_a_polygon(made):
    _image, shapes, _points = made
    layers.set_current_object(shapes, None, 2)
    shapes.add_polygons([[3, 4], [20, 17], [3, 30]])
    write_prompts(*made, 2, ASKED)
    assert [str(kind) for kind in shapes.shape_type] == ["polygon"]


def test_prompts_of_other_planes_stay():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 50, 60)), scale=(3, 1, 1))
    made = image, *layers.new_prompt_layers(viewer, image)
    for z in (0, 9):
        viewer.dims.set_point(0, z)
        write_prompts(*made, 2, ASKED, viewer.dims)
    assert sorted({p[0] for p in made[2].data}) == [0, 3]
    write_prompts(*made, 2, None, viewer.dims)
    assert prompts_from_layers(*made, dims=viewer.dims).prompts == {}
    viewer.dims.set_point(0, 0)
    assert prompts_from_layers(*made, dims=viewer.dims).prompts[2] == ASKED
