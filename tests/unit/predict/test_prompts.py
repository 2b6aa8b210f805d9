"""Prompts are checked when they are built and never change."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from napari_pisam.predict.click_sorting import (
    Click,
    clicks_by_object,
    describe_strays,
    is_foreground,
    label_column,
)
from napari_pisam.predict.prompts import MaskPrompt, Prompts


@pytest.mark.parametrize("box", [(1, 2, 5, 9), (5, 9, 1, 2), (5, 2, 1, 9), (1, 9, 5, 2)])
def test_box_corners_may_come_in_any_order(box):
    assert Prompts(box).box == (1.0, 2.0, 5.0, 9.0)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompt"),
        ({"points": [(1, 1)], "labels": [False]}, "only BG clicks"),
        ({"points": [], "labels": []}, "no prompt"),
        ({"box": (1, 2, 3)}, "four numbers"),
        ({"box": [(1, 2, 3, 4)]}, "predict_many"),
        ({"box": "here"}, "four numbers"),
        ({"box": (1, 2, np.nan, 4)}, "finite"),
        ({"box": (1, 2, np.inf, 4)}, "finite"),
        ({"box": (1, 2, 1, 4)}, "no area"),
        ({"box": (1, 2, 4, 2)}, "no area"),
        ({"points": [(1, np.nan)], "labels": [True]}, "NaN"),
        ({"points": (1, 2), "labels": [True]}, r"\[\(row, col\)\]"),
        ({"points": [(1, 2, 3)], "labels": [True]}, r"\(n, 2\)"),
        ({"points": [("a", "b")], "labels": [True]}, "numbers of shape"),
        ({"points": [(1, 2)], "labels": [True, False]}, "same length"),
        ({"points": [(1, 2)]}, "no labels"),
        ({"box": (1, 2, 3, 4), "labels": [True]}, "same length"),
        ({"points": [(1, 2)], "labels": [2]}, r"click at \(1, 2\) has the label 2, expected FG"),
        ({"points": [(1, 2)], "labels": ["edge"]}, "the label 'edge', expected FG or BG"),
        ({"points": [(1, 2), (3, 4)], "labels": [True, None]}, r"click at \(3, 4\) .* None"),
        ({"points": [(1, 2), (3, 4)], "labels": [1, np.nan]}, r"click at \(3, 4\) .* nan"),
        ({"points": [(1, 2)], "labels": [""]}, "the label ''"),
        ({"points": [(1, 2)], "labels": [-1]}, "the label -1"),
        ({"mask": np.zeros((3, 3), bool)}, "no True pixel"),
        ({"mask": np.ones(3, bool)}, "2D"),
        ({"mask": np.ones((3, 3))}, "dtype float64"),
        ({"mask": np.full((3, 3), 2)}, "one object"),
        ({"mask": (np.ones((3, 3), bool), (1.5, 2))}, "origin"),
    ],
)
def test_bad_prompts_are_refused_with_a_message(prompts, message):
    with pytest.raises(ValueError, match=message):
        Prompts(**prompts)


@pytest.mark.parametrize(
    ("fg", "bg"),
    [
        ("FG", "BG"),
        ("fg", "bg"),
        ("positive", "negative"),
        ("foreground", "background"),
        (1, 0),
        (1.0, 0.0),
        (True, False),
        ("True", "False"),
        ("1", "0"),
        ("FG", False),
    ],
)
def test_fg_and_bg_may_be_said_in_any_of_the_usual_ways(fg, bg):
    assert (is_foreground(fg), is_foreground(bg)) == (True, False)
    assert Prompts(points=[(1, 2), (3, 4)], labels=[fg, bg]).labels.tolist() == [True, False]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": ["FG"], "sign": ["BG"]}, "label"),
        ({"index": [0, 1], "object": [0, 1], "is_seen": [True, False], "p": [0.0, 1.0]}, None),
        ({"kind": ["positive", "negative"]}, "kind"),
        ({"kind": ["positive", "positive"]}, None),
        ({"sign": [1, -1]}, "sign"),
        ({"is_foreground": [True, False]}, "is_foreground"),
        ({"is_foreground": [True, True]}, None),
        ({"Labels": ["1", "0"]}, "Labels"),
    ],
)
def test_signs_under_another_name_are_noticed(columns, expected):
    assert label_column(columns) == expected


BOXES = {7: (0, 0, 40, 40), 2: (10, 10, 20, 20), 5: (0, 50, 9, 59), 9: (30, 30, 40, 80)}


@pytest.mark.parametrize(
    ("point", "object_id", "owner"),
    [
        ((15, 15), 5, 5),  # it names its object
        ((15, 15), None, 2),  # of two boxes that hold it the one whose centre is nearest
        ((19, 19), None, 7),
        ((30, 10), None, 7),
        ((12, 48), None, 5),  # the nearest within reach: half of the longer side
        ((47, 20), None, 7),
        ((60, 5), None, 7),
        ((60.1, 5), None, None),
        ((14, 70), None, 9),  # box 5 is nearer, but out of reach
    ],
)
def test_a_click_has_one_owner(point, object_id, owner):
    members, strays = clicks_by_object(BOXES, [Click(object_id, point, False)])
    assert {number for number, clicks in members.items() if clicks} == {owner} - {None}
    assert len(strays) == (owner is None)


def test_of_concentric_boxes_the_smaller_one_owns_the_click():
    boxes = {1: (0, 0, 40, 40), 2: (10, 10, 30, 30), 3: (5, 5, 35, 35)}
    members, _ = clicks_by_object(boxes, [Click(None, (25, 25), True)])
    assert [len(clicks) for clicks in members.values()] == [0, 1, 0]


def test_clicks_that_are_nobodys_are_named():
    clicks = [Click(1, (3, 4), True), Click(None, (30, 4.5), True, "Point 7")]
    for boxes in ({1: (0, 0, 5, 5)}, {}):
        members, strays = clicks_by_object(boxes, clicks)
        assert members == {1: clicks[:1]}
        assert "Point 7 at (30, 4.5)" in describe_strays(strays)


def test_clicks_without_boxes_and_names_are_one_object():
    clicks = [Click(None, (1, 2), True), Click(None, (30, 40), False)]
    assert clicks_by_object({}, clicks) == ({1: clicks}, [])


def test_arrays_are_copies_and_read_only():
    points = np.array([[1.0, 2.0]])
    prompts = Prompts(points=points, labels=[True])
    points[0] = 7
    assert prompts.points.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        prompts.points[0] = 3


def test_box_is_clipped_to_the_image():
    assert Prompts((-20, 3, 5, 900)).validated_for((10, 12)).box == (-0.5, 3.0, 5.0, 11.5)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"box": (-5, 0, -1, 5)}, "outside the image of 10 rows x 12 cols"),
        ({"box": (0, 12, 5, 20)}, "outside"),
        ({"points": [(3, 3), (10, 3)], "labels": [True, True]}, r"\[\[10.0, 3.0\]\]"),
        ({"points": [(-1, 3)], "labels": [True]}, "outside"),
        ({"mask": np.ones((11, 3), bool)}, "rows 0:11"),
        ({"mask": (np.ones((2, 2), bool), (-1, 0))}, "rows -1:1"),
    ],
)
def test_prompts_outside_the_image_are_refused(prompts, message):
    with pytest.raises(ValueError, match=message):
        Prompts(**prompts).validated_for((10, 12))


@pytest.mark.parametrize("click", [(-0.5, -0.5), (9.5, 11.5), (0, 0), (9, 11)])
def test_clicks_on_any_part_of_a_border_pixel_are_inside(click):
    Prompts(points=[click], labels=[True]).validated_for((10, 12))


def test_mask_is_kept_as_its_crop():
    array = np.zeros((8, 9), bool)
    array[2:5, 3:7] = True
    mask = MaskPrompt.from_any((array, (100, 200)))
    assert mask.bbox == (102, 203, 105, 207)
    assert mask.crop.all()
    assert mask.crop.shape == (3, 4)
    assert mask.box == (101.5, 202.5, 104.5, 206.5)


def test_mask_may_come_with_a_bbox():
    mask = MaskPrompt.from_any((np.ones((2, 3), bool), (10, 20, 12, 23)))
    assert mask.bbox == (10, 20, 12, 23)


def test_mask_may_have_zeros_and_ones():
    assert MaskPrompt.from_any(np.eye(3, dtype=np.uint8)).crop.sum() == 3


def test_digest_is_the_same_in_every_process():
    prompts = Prompts((1, 2, 3, 4), [(1, 2)], [True], np.eye(3, dtype=bool))
    code = (
        "import numpy as np; from napari_pisam.predict.prompts import Prompts;"
        "print(Prompts((1, 2, 3, 4), [(1, 2)], [True], np.eye(3, dtype=bool)).digest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == prompts.digest()


@pytest.mark.parametrize(
    "other",
    [
        {"box": (1, 2, 3, 5), "points": [(1, 2)], "labels": [True]},
        {"box": (1, 2, 3, 4), "points": [(2, 1)], "labels": [True]},
        {"box": (1, 2, 3, 4), "points": [(1, 2)], "labels": [False]},
        {"box": (1, 2, 3, 4)},
        {"points": [(1, 2)], "labels": [True]},
    ],
)
def test_other_prompts_have_another_digest(other):
    assert Prompts((1, 2, 3, 4), [(1, 2)], [True]) != Prompts(**other)


def test_equal_prompts_are_equal_and_hash_alike():
    first, second = (Prompts(box, [(1, 2)], [1]) for box in [(1, 2, 3, 4), (3, 4, 1, 2)])
    assert first == second
    assert hash(first) == hash(second)


def test_clicks_are_added_at_the_end():
    prompts = Prompts((1, 2, 3, 4), [(1, 2)], [True]).with_clicks([(3, 4)], [False])
    assert prompts.points.tolist() == [[1, 2], [3, 4]]
    assert prompts.labels.tolist() == [True, False]
    assert prompts.first_clicks(1) == Prompts((1, 2, 3, 4), [(1, 2)], [True])


def test_module_does_not_import_torch():
    code = "import sys, napari_pisam.predict.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
