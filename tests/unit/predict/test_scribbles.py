"""Scribbles, outlines, several boxes and boxes without the object, from prompts to masks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micro import micro_model
from napari_pisam.model.variants import Focus
from napari_pisam.predict.areas import Answer, Area, pixels_of
from napari_pisam.predict.click_sorting import Click, strokes_in_order
from napari_pisam.predict.clicks import ClickPolicy
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts

BOX = (10.0, 12.0, 40.0, 50.0)
LINE = [(15.0, 15.0), (20.0, 40.0), (35.0, 44.0)]
IMAGE = np.random.default_rng(0).integers(0, 255, (50, 64), dtype=np.uint8)
POLICY = ClickPolicy()


def scribble(places, is_fg=True, box=BOX):
    return Prompts.from_strokes(box, [(tuple(places), is_fg)])


def predictor(**changes):
    made = Predictor(micro_model(**changes), device="cpu", precision="fp32")
    made.set_image(IMAGE)
    return made


def same(first, second):
    return first.bbox == second.bbox and np.array_equal(first.crop, second.crop)


def pixels_along(line):
    """Pixels that a line passes; by another way than the policy's."""
    found = set()
    for (r0, c0), (r1, c1) in pairwise(line):
        for part in np.linspace(0, 1, 400):
            found.add((round(r0 + part * (r1 - r0)), round(c0 + part * (c1 - c0))))
    return found


# -- what they are ----------------------------------------------------------------------------


def test_a_scribble_of_one_place_is_that_click():
    assert scribble([(15, 15)]) == Prompts(BOX, [(15, 15)], [True])


def test_prompts_without_anything_new_keep_the_digest_of_earlier_versions():
    digest = Prompts(BOX, [(15, 15), (3, 4)], [True, False]).digest()
    assert digest == ("fc23a124d8931baedd95869207ecbda79f0cb45808e2ce8e6258772a1053c531")


def test_what_is_joined_and_where_the_object_is_not_makes_other_prompts():
    clicks = Prompts(BOX, LINE, [True] * 3)
    assert clicks != scribble(LINE)
    assert Prompts(BOX) != Prompts(BOX, areas=[Area.of((1, 1, 5, 5), False)])


def test_another_answer_makes_other_prompts_whatever_else_is_asked():
    prompts = Prompts(BOX, [(15, 15)], [True])
    fine = prompts.with_answer(Answer.FINE)
    assert fine == Prompts(BOX, [(15, 15)], [True], answer="fine") != prompts
    assert fine.with_clicks([(3, 4)], [False]).first_clicks(0).answer is Answer.FINE
    assert fine.with_answer(None) == prompts
    assert Prompts(BOX, answer="solid").is_only_box
    with pytest.raises(ValueError, match="answer is 'thin', expected 'solid' or 'fine'"):
        Prompts(BOX, answer="thin")


def test_scribbles_and_clicks_come_back_in_order():
    strokes = [(((1.0, 2.0),), False), (tuple(LINE), True), (((5.0, 5.0), (6.0, 6.0)), False)]
    prompts = Prompts.from_strokes(BOX, strokes)
    assert prompts.strokes == strokes
    assert prompts.click_count == 3
    assert prompts.first_clicks(2) == Prompts.from_strokes(BOX, strokes[:2])
    assert prompts.first_clicks(9) == prompts
    added = prompts.with_clicks([(9, 9), (9, 12)], [True, True], [False, True])
    assert added.strokes == [*strokes, (((9.0, 9.0), (9.0, 12.0)), True)]


@pytest.mark.parametrize(
    ("joined", "labels", "said"),
    [([True, False], [True, True], "none of the first"), ([False, True], [True, False], "FG and")],
)
def test_a_scribble_begins_with_a_click_of_its_own_kind(joined, labels, said):
    with pytest.raises(ValueError, match=said):
        Prompts(BOX, [(1, 1), (2, 2)], labels, joined=joined)


def test_a_scribble_goes_after_as_many_clicks_as_it_says():
    first, second = Click(1, (1, 1), True), Click(1, (2, 2), False)
    late = Click(1, (3, 3), True, line=((4, 4),))
    early = Click(1, (5, 5), True, line=((6, 6),), after=1)
    order = strokes_in_order([late, early, first, second])
    assert [places[0] for places, _ in order] == [(1, 1), (5, 5), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    ("corners", "said"),
    [([(1, 1)], "two or more"), ([(1, 1), (1, 9)], "no extent"), ([(0, 0), (np.nan, 1)], "finite")],
)
def test_an_area_without_extent_is_refused(corners, said):
    with pytest.raises(ValueError, match=said):
        Area.of(corners)


def test_prompts_that_say_only_where_the_object_is_not_are_refused():
    with pytest.raises(ValueError, match="expected a box"):
        Prompts(areas=[Area.of((1, 1, 5, 5), False)])
    assert Prompts(areas=[Area.of((1, 1, 5, 5))]).boxes == ((1, 1, 5, 5),)


def test_areas_are_cut_at_the_edge_of_the_image_and_refused_beside_it():
    inside = Prompts(BOX, areas=[Area.of((20, 30, 400, 1e9))]).validated_for((50, 64))
    assert inside.areas == (Area.of((20, 30, 49.5, 63.5)),)
    with pytest.raises(ValueError, match="lies outside the image"):
        Prompts(BOX, areas=[Area.of((60, 70, 80, 90))]).validated_for((50, 64))


def test_an_outline_is_drawn_where_pixel_centres_are_inside_it():
    crop, origin = pixels_of([Area.of([(2, 2), (2, 6), (6, 6), (6, 2)])])
    assert (origin, crop.sum()) == ((2, 2), 25)
    boxed, where = pixels_of([Area.of((1.5, 1.5, 6.5, 6.5))])
    trimmed = np.argwhere(boxed) + where
    assert (trimmed.min(), trimmed.max(), boxed.sum()) == (2, 6, 25)


def test_a_start_is_mask_and_outlines_without_what_is_said_not_to_be_there():
    start = np.zeros((50, 64), bool)
    start[2:6, 2:6] = True
    areas = [Area.of([(10, 10), (10, 19), (19, 19), (19, 10)]), Area.of((1.5, 1.5, 3.5, 9), False)]
    made = Prompts(mask=start, areas=areas).with_start()
    expected = start.copy()
    expected[10:20, 10:20] = True
    expected[:4] = False
    found = np.zeros_like(start)
    row0, col0, row1, col1 = made.mask.bbox
    found[row0:row1, col0:col1] = made.mask.crop
    assert np.array_equal(found, expected)
    assert made.areas == (areas[1],)


# -- along a line -----------------------------------------------------------------------------


def test_a_network_gets_few_clicks_of_a_line_at_equal_steps_with_its_ends():
    line = np.array([(0.5, 0.5), (0.5, 100.5), (300.5, 100.5)])
    few = POLICY.clicks_along(line)
    assert len(few) == POLICY.most
    assert np.array_equal(few[[0, -1]], line[[0, -1]])
    steps = np.abs(np.diff(few, axis=0)).sum(axis=1)
    assert np.allclose(steps, 400 / (POLICY.most - 1))
    short = POLICY.clicks_along(np.array([(0.5, 0.5), (0.5, 12.5)]))
    assert np.diff(short[:, 1]).max() <= POLICY.spacing * POLICY.spot
    assert len(POLICY.clicks_along(line[:1])) == len(POLICY.clicks_along(line[[0, 0]])) == 1


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_whole_of_a_scribble_has_the_asked_value(seed, is_fg):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (40, 40)).astype(np.float32)
    line = rng.uniform(0, 40, (int(rng.integers(2, 6)), 2))
    places = POLICY.clicks_along(line, every_pixel=True)
    POLICY.obey(logits, places, np.full(len(places), int(is_fg)))
    for col, row in np.floor(places).astype(int):
        assert (logits[row, col] > 0) == is_fg


# -- masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("box", "is_fg"), [(BOX, True), (BOX, False), (None, True)])
def test_a_scribbled_place_has_the_asked_value_all_along(box, is_fg):
    mask = predictor(local_clicks=True).predict(scribble(LINE, is_fg, box)).to_array()
    assert {bool(mask[place]) for place in pixels_along(LINE)} == {is_fg}


def test_a_scribble_of_one_place_gives_the_mask_of_the_click():
    model = predictor(local_clicks=True)
    assert same(model.predict(scribble([(15, 15)])), model.predict(BOX, [(15, 15)], [True]))


def test_a_scribble_is_one_step_whatever_was_asked_before():
    strokes = [(((15.0, 15.0),), True), (tuple(LINE), False), (((30.0, 30.0),), True)]
    prompts = Prompts.from_strokes(BOX, strokes)
    once, step_by_step = predictor(local_clicks=True), predictor(local_clicks=True)
    for count in range(4):
        last = step_by_step.predict(prompts.first_clicks(count))
    assert same(once.predict(prompts), last)


def test_refine_takes_scribbles():
    first, second = predictor(local_clicks=True), predictor(local_clicks=True)
    first.predict(BOX)
    joined = [False, True, True]
    assert same(first.refine(LINE, [False] * 3, joined), second.predict(scribble(LINE, False)))


@pytest.mark.parametrize("changes", [{}, {"kind": "sam"}, {"local_clicks": True}])
def test_nothing_is_in_a_box_that_the_object_is_not_in_but_an_fg_click(changes):
    not_here = Area.of((9.5, 11.5, 30.5, 40.5), False)
    prompts = Prompts(BOX, [(15, 15)], [True], areas=[not_here])
    plain = predictor(**changes).predict(Prompts(BOX, [(15, 15)], [True])).to_array()
    mask = predictor(**changes).predict(prompts).to_array()
    expected = plain.copy()
    expected[10:31, 12:41] = False
    expected[14:17, 14:17] = plain[14:17, 14:17]
    assert np.array_equal(mask, expected)


def test_several_boxes_give_what_each_gives_and_clicks_change_it():
    model = predictor(local_clicks=True)
    other = (5.0, 52.0, 30.0, 62.0)
    prompts = Prompts(BOX, areas=[Area.of(other)])
    both = model.predict(BOX).to_array() | model.predict(other).to_array()
    assert np.array_equal(model.predict(prompts).to_array(), both)
    clicked = Prompts(BOX, [(45, 60)], [True], areas=[Area.of(other)])
    assert model.predict(clicked).to_array()[45, 60]


def test_an_outline_is_the_object_until_something_is_clicked():
    outline = Area.of([(10, 10), (10, 19), (19, 19), (19, 10)])
    model = predictor(local_clicks=True, focus=Focus(frame=64, click_window=64))
    mask = model.predict(Prompts(areas=[outline]))
    assert mask.bbox == (10, 10, 20, 20)
    assert mask.crop.all()
    corrected = model.predict(Prompts(points=[(15, 15)], labels=[False], areas=[outline]))
    assert not corrected.to_array()[15, 15]
    assert corrected.to_array()[10, 10]
