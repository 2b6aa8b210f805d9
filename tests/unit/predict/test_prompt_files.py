"""napari's own CSV files as boxes and clicks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops_table

from napari_pisam.images.label_formats.table import read_table_boxes, write_rows
from napari_pisam.measure.regions import measure_objects
from napari_pisam.predict.areas import Area
from napari_pisam.predict.click_sorting import Click
from napari_pisam.predict.drawn_shapes import DrawnBox
from napari_pisam.predict.prompt_files import (
    collect_prompts,
    planes_of,
    prompts_digest,
    read_clicks,
    read_shapes,
    write_prompts,
)
from napari_pisam.predict.prompts import Prompts

SHAPES = """index,shape-type,vertex-index,axis-0,axis-1
0,rectangle,0,10.0,20.5
0,rectangle,1,10.0,40.0
0,rectangle,2,30.0,40.0
0,rectangle,3,30.0,20.5
1,polygon,0,5.0,50.0
1,polygon,1,25.0,60.0
1,polygon,2,15.0,70.0
"""
# Plane (t, z): the first in (0, 3), the second in (1, 3).
STACKED = """index,shape-type,vertex-index,axis-0,axis-1,axis-2,axis-3
0,rectangle,0,0.0,3.0,1.0,2.0
0,rectangle,1,0.0,3.0,8.0,9.0
1,rectangle,0,1.0,3.0,4.0,5.0
1,rectangle,1,1.0,3.0,6.0,7.0
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text, name="prompts.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write_text


FULL = """index,shape-type,vertex-index,axis-0,axis-1,object,label,use,after
0,rectangle,0,10,20,3,FG,,
0,rectangle,1,30,40,3,FG,,
1,path,0,11,21,3,BG,,1
1,path,1,12.5,25,3,BG,,1
1,path,2,12,30,3,BG,,1
2,rectangle,0,1,1,3,FG,part,
2,rectangle,1,5,9,3,FG,part,
3,rectangle,0,12,22,3,BG,,
3,rectangle,1,14,24,3,BG,,
4,polygon,0,40,40,5,FG,outline,
4,polygon,1,40,50,5,FG,outline,
4,polygon,2,50,45,5,FG,outline,
5,line,0,12,36,,,,
5,line,1,12,38,,,,
6,rectangle,0,60,60,6,,fine,
6,rectangle,1,66,70,6,,fine,
7,ellipse,0,80,60,7,FG,solid,
7,ellipse,1,86,70,7,FG,solid,
"""


def test_paths_are_scribbles_and_columns_say_what_other_shapes_are(write):
    shapes = read_shapes(write(FULL))
    points = write("index,axis-0,axis-1,label,object\n0,15,30,FG,3\n1,16,31,BG,3\n", "points.csv")
    prompts = collect_prompts(shapes.boxes, read_clicks(points) + shapes.clicks, shapes.areas)
    assert prompts[3] == Prompts.from_strokes(
        (10, 20, 30, 40),
        [
            (((15, 30),), True),
            (((11, 21), (12.5, 25), (12, 30)), False),
            (((16, 31),), False),
            (((12, 36), (12, 38)), True),
        ],
        areas=[Area.of((1, 1, 5, 9)), Area.of((12, 22, 14, 24), False)],
    )
    assert prompts[5] == Prompts(areas=[Area.of([(40, 40), (40, 50), (50, 45)])])
    assert prompts[6] == Prompts((60, 60, 66, 70), answer="fine")
    assert prompts[7] == Prompts((80, 60, 86, 70), answer="solid")


def test_written_prompts_come_back(write, tmp_path):
    shapes = read_shapes(write(FULL))
    start = np.zeros((20, 20), bool)
    start[3:9, 4:12] = True
    prompts = collect_prompts(shapes.boxes, shapes.clicks, shapes.areas)
    prompts[9] = Prompts(points=[(5, 5), (1, 2)], labels=[False, True], mask=start)
    write_prompts(tmp_path / "b.csv", tmp_path / "p.csv", prompts)
    again, clicks = read_shapes(tmp_path / "b.csv"), read_clicks(tmp_path / "p.csv")
    found = collect_prompts(again.boxes, clicks + again.clicks, again.areas)
    assert [found[n] for n in (3, 5, 6, 7)] == [prompts[n] for n in (3, 5, 6, 7)]
    assert found[9].strokes == prompts[9].strokes
    assert found[9].with_start().mask.box == prompts[9].mask.box
    assert found[9].with_start().mask.crop.all()


def test_written_prompts_open_in_napari(write, tmp_path):
    io = pytest.importorskip("napari_builtins.io", reason="napari is not installed")
    shapes = read_shapes(write(FULL))
    prompts = collect_prompts(shapes.boxes, shapes.clicks, shapes.areas)
    write_prompts(tmp_path / "b.csv", tmp_path / "p.csv", prompts)
    data, settings, kind = io.csv_to_layer_data(str(tmp_path / "b.csv"), require_type="shapes")
    assert kind == "shapes"
    assert sorted(settings["shape_type"]) == ["path"] * 2 + ["polygon"] + ["rectangle"] * 5
    assert [np.asarray(one).shape[1] for one in data] == [2] * 8


def test_a_name_of_a_class_in_the_labels_of_shapes_is_no_bg(write):
    lines = [f"{line},0" if line[0].isdigit() else line for line in SHAPES.splitlines()]
    text = "\n".join(lines).replace("axis-1", "axis-1,label") + "\n"
    assert len(read_shapes(write(text)).boxes) == 2


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("0,path,0,1,1,3,maybe,,", "line 2: the shape has the label 'maybe'"),
        (
            "0,path,0,1,1,3,FG,hole,",
            "line 2: use is 'hole', expected box, solid, fine, part",
        ),
        ("0,path,0,1,1,3,FG,,soon", "line 2: after is 'soon'"),
    ],
)
def test_a_column_that_says_nothing_known_is_refused(write, row, match):
    header = FULL.splitlines()[0]
    with pytest.raises(ValueError, match=match):
        read_shapes(write(f"{header}\n{row}\n"))


def test_any_shape_gives_its_bounding_box(write):
    assert read_shapes(write(SHAPES)).boxes == [
        DrawnBox(1, (10.0, 20.5, 30.0, 40.0)),
        DrawnBox(2, (5.0, 50.0, 25.0, 70.0)),
    ]


def test_shapes_are_read_as_napari_writes_them(tmp_path):
    io = pytest.importorskip("napari_builtins.io", reason="napari is not installed")
    from napari.layers import Shapes

    layer = Shapes([[[1, 2.5], [30, 40]]], shape_type="rectangle")
    layer.add_ellipses(np.array([[20, 30], [10, 15]]))
    layer.add_polygons(np.array([[5, 5], [9, 12], [3, 8.0]]))
    path = io.napari_write_shapes(str(tmp_path / "shapes.csv"), *layer.as_layer_data_tuple()[:2])
    assert [box.box for box in read_shapes(tmp_path / path).boxes] == [
        (1, 2.5, 30, 40),
        (10, 15, 30, 45),
        (3, 5, 9, 12),
    ]


def test_shapes_of_a_stack_are_read_as_napari_writes_them(tmp_path):
    io = pytest.importorskip("napari_builtins.io", reason="napari is not installed")
    from napari.layers import Shapes

    corners = np.array([[1, 2], [1, 8], [6, 8], [6, 2]])
    planes = [np.insert(corners, 0, z, axis=1) for z in (0, 4)]
    layer = Shapes(planes, shape_type="rectangle")
    path = io.napari_write_shapes(str(tmp_path / "shapes.csv"), *layer.as_layer_data_tuple()[:2])
    assert read_shapes(tmp_path / path, plane=(4,)).boxes == [DrawnBox(2, (1, 2, 6, 8))]


@pytest.mark.parametrize(
    "features",
    [
        {"label": ["FG", "BG"]},
        {"label": [True, False]},
        {"label": [1, 0]},
        {"other": [0.5, 1.5], "label": ["fg", "Bg"]},
        {"label": ["positive", "negative"]},
        {"label": ["foreground", "background"]},
    ],
)
def test_points_are_read_as_napari_writes_them(tmp_path, features):
    io = pytest.importorskip("napari_builtins.io", reason="napari is not installed")
    from napari.layers import Points

    layer = Points([[1, 2.5], [3, 4]], features=features)
    path = io.napari_write_points(str(tmp_path / "points.csv"), *layer.as_layer_data_tuple()[:2])
    clicks = read_clicks(tmp_path / path)
    assert [(click.point, click.is_foreground) for click in clicks] == [
        ((1, 2.5), True),
        ((3, 4), False),
    ]


def test_object_of_napari_points_may_be_missing(tmp_path):
    io = pytest.importorskip("napari_builtins.io", reason="napari is not installed")
    from napari.layers import Points

    layer = Points([[1, 2.5], [3, 4]], features={"object": [7, None], "label": ["FG", "FG"]})
    path = io.napari_write_points(str(tmp_path / "points.csv"), *layer.as_layer_data_tuple()[:2])
    assert [click.object_id for click in read_clicks(tmp_path / path)] == [7, None]


def test_points_without_labels_are_foreground(write):
    path = write("index,axis-0,axis-1\n0,1,2\n1,3,4\n")
    assert read_clicks(path) == [Click(None, (1, 2), True), Click(None, (3, 4), True)]


def test_file_without_rows_has_no_prompts(write):
    assert read_clicks(write("index,axis-0,axis-1\n")) == []
    assert read_shapes(write("index,shape-type,vertex-index,axis-0,axis-1\n")).boxes == []


def test_spreadsheet_mark_and_line_ends_do_not_matter(write):
    text = SHAPES.replace("\n", "\r\n")
    assert len(read_shapes(write(text, encoding="utf-8-sig")).boxes) == 2


def test_only_shapes_of_the_plane_are_read(write):
    path = write(STACKED)
    assert read_shapes(path, plane=(0, 3)).boxes == [DrawnBox(1, (1, 2, 8, 9))]


def test_object_number_does_not_depend_on_the_plane(write):
    assert read_shapes(write(STACKED), plane=(1, 3)).boxes == [DrawnBox(2, (4, 5, 6, 7))]


def test_axis_of_channels_matches_any_index(write):
    path = write(STACKED)
    assert [box.object_id for box in read_shapes(path, plane=(None, 3)).boxes] == [1, 2]


def test_prompts_without_the_axis_of_channels_match_too(write):
    text = "index,axis-0,axis-1,axis-2\n0,3.0,1.0,2.0\n1,4.0,1.0,2.0\n"
    assert len(read_clicks(write(text), plane=(None, 3))) == 1


def test_prompts_without_leading_axes_belong_to_every_plane(write):
    assert len(read_shapes(write(SHAPES), plane=(0, 3)).boxes) == 2


def test_prompts_of_one_plane_fit_an_image_without_planes(write):
    text = "index,axis-0,axis-1,axis-2\n0,3.0,1.0,2.0\n1,3.0,5.0,6.0\n"
    assert [click.point for click in read_clicks(write(text))] == [(1, 2), (5, 6)]


def test_prompts_of_several_planes_do_not_fit_an_image_without_planes(write):
    with pytest.raises(ValueError, match=r"2 axes before row and column.*2 planes"):
        read_shapes(write(STACKED))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "columns"),
        ("index;axis-0;axis-1\n0;1;2\n", "separated by commas"),
        ("a,b\n1,2\n", "expected axis-0, axis-1"),
        ("index,axis-0,axis-2\n0,1,2\n", "expected axis-0, axis-1"),
        ("index,axis-0,axis-1\n0,1\n", "line 2: the row does not have"),
        ("index,axis-0,axis-1\n0,1,2,3\n", "line 2: the row does not have"),
        ("index,axis-0,axis-1\n0,1,nan\n", "line 2: axis-1 is 'nan', expected a finite number"),
        ("index,axis-0,axis-1\n0,1,two\n", "axis-1 is 'two'"),
        (
            "index,axis-0,axis-1,label\n0,1,2,maybe\n",
            "line 2: the click has the label 'maybe', expected FG or BG",
        ),
        ("index,axis-0,axis-1,label\n0,1,2,FG\n1,3,4,\n", "line 3: the click has the label ''"),
        ("index,axis-0,axis-1,label\n0,1,2,nan\n", "line 2: the click has the label 'nan'"),
        (
            "index,axis-0,axis-1,sign\n0,1,2,positive\n1,3,4,negative\n",
            "line 3: the click has no column 'label', and its column 'sign' is 'negative'",
        ),
        ("index,axis-0,axis-1,object\n0,1,2,-3\n", "object is -3"),
        ("index,axis-0,axis-1,object\n0,1,2,1.5\n", "object is '1.5', expected a whole number"),
        (SHAPES, "pass the file with --boxes"),
        ('index,axis-0,axis-1\n"0,1,2\n', "not a CSV file"),
    ],
)
def test_points_file_that_is_none_is_refused(write, text, match):
    with pytest.raises(ValueError, match=match):
        read_clicks(write(text))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("index,axis-0,axis-1\n0,1,2\n", "pass the file with --points"),
        (
            "index,shape-type,vertex-index,axis-0,axis-1\n0,ellipse,0,1,1\n0,ellipse,1,1,9\n",
            "line 2: shape 0 has no area",
        ),
        (
            "index,shape-type,vertex-index,axis-0,axis-1,object\n"
            "0,ellipse,0,1,1,4\n0,ellipse,1,5,9,4\n1,ellipse,0,1,1,4\n1,ellipse,1,5,9,4\n",
            "line 4: shape 1 is of object 4, which has a box already",
        ),
    ],
)
def test_shapes_file_that_is_none_is_refused(write, text, match):
    with pytest.raises(ValueError, match=match):
        read_shapes(write(text))


def test_file_in_another_encoding_is_refused(write):
    path = write("index,axis-0,axis-1,label\n0,1,2,ö\n", encoding="latin-1")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        read_clicks(path)


def test_click_that_names_its_object_may_lie_anywhere():
    boxes = [DrawnBox(1, (0, 0, 5, 5)), DrawnBox(2, (10, 10, 20, 20))]
    prompts = collect_prompts(boxes, [Click(1, (15, 15), False)])
    assert prompts[1].points.tolist() == [[15, 15]]


def test_clicks_outside_all_boxes_are_named(write):
    [click] = read_clicks(write("index,axis-0,axis-1\n0,30,4.5\n"))
    with pytest.raises(ValueError, match=r"1 click.*prompts.csv, line 2, at \(30, 4.5\).*'object'"):
        collect_prompts([DrawnBox(1, (0, 0, 5, 5))], [click])


def test_clicks_alone_are_one_object():
    clicks = [Click(None, (1, 2), True), Click(None, (30, 40), False)]
    prompts = collect_prompts([], clicks)
    assert list(prompts) == [1]
    assert prompts[1] == Prompts(None, [(1, 2), (30, 40)], [True, False])


def test_clicks_alone_with_numbers_are_those_objects():
    clicks = [Click(9, (1, 2), True), Click(4, (3, 4), True)]
    assert list(collect_prompts([], clicks)) == [4, 9]


def test_object_of_background_clicks_alone_is_named():
    with pytest.raises(ValueError, match="Object 3: Given only BG clicks"):
        collect_prompts([DrawnBox(1, (0, 0, 5, 5))], [Click(3, (1, 1), False)])


@given(st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)), max_size=20))
def test_every_click_in_a_box_is_of_exactly_one_object(points):
    boxes = [
        DrawnBox(1, (0, 0, 99, 99)),
        DrawnBox(2, (20, 20, 60, 60)),
        DrawnBox(3, (0, 50, 9, 99)),
    ]
    prompts = collect_prompts(boxes, [Click(None, point, True) for point in points])
    assert sorted(tuple(p) for one in prompts.values() for p in one.points.tolist()) == sorted(
        points
    )


def test_digest_depends_on_the_prompts_alone():
    one, two = Prompts((0, 0, 5, 5)), Prompts((0, 0, 5, 6))
    assert prompts_digest({1: one, 2: two}) == prompts_digest({2: two, 1: one})
    assert prompts_digest({1: one, 2: two}) != prompts_digest({1: two, 2: one})
    assert prompts_digest({1: one}) != prompts_digest({1: two})


# -- tables of measures -----------------------------------------------------------------------


def test_a_table_of_measures_gives_boxes_under_its_labels(tmp_path):
    """Ours, and scikit-image's: what is segmented again has the same numbers."""
    labels = np.zeros((40, 50), np.uint16)
    labels[3:12, 4:20] = 7
    labels[20:30, 30:45] = 300
    own, theirs = tmp_path / "own.csv", tmp_path / "theirs.csv"
    write_rows(own, {n: {"class": "cell"} | row for n, row in measure_objects(labels).items()})
    table = regionprops_table(labels, properties=("label", "area", "bbox"))
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values()))]  # noqa: B905
    theirs.write_text("\n".join(lines))
    expected = [DrawnBox(7, (2.5, 3.5, 11.5, 19.5)), DrawnBox(300, (19.5, 29.5, 29.5, 44.5))]
    for path in (own, theirs):
        assert read_shapes(path).boxes == expected
        assert planes_of(path) == set()
    assert read_table_boxes(own).classes == {7: "cell", 300: "cell"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("label,area\n1,7\n", "none called bbox-0, bbox-1, bbox-2, bbox-3"),
        ("label,bbox-0,bbox-1,bbox-2,bbox-3\n1,2,2,2,9\n", "line 2: label 1, box 2, 2, 2, 9"),
        ("label,bbox-0,bbox-1,bbox-2,bbox-3\n1.5,2,2,4,9\n", "line 2: label 1.5"),
        ("label,bbox-0,bbox-1,bbox-2,bbox-3\n1,2,x,4,9\n", "line 2: could not convert"),
        ("label,bbox-0,bbox-1,bbox-2,bbox-3\n1,2\n", "line 2: "),
        ("label,bbox-0,bbox-1,bbox-2,bbox-3\n1,2,2,inf,9\n", "line 2: "),
        ("number,area\n1,7\n", "or give boxes as a table"),
    ],
)
def test_what_a_table_lacks_is_said(tmp_path, content, words):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_shapes(path)
