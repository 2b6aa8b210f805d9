"""An object is followed from slice to slice, with a predictor that finds what is bright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_pisam.images.image_source import ImageSource
from napari_pisam.predict.areas import Answer
from napari_pisam.predict.mask import Mask
from napari_pisam.predict.propagation import (
    EndOfObject,
    FollowedSlice,
    Propagation,
    anchor_key,
    follow,
    propagate,
    propagate_along,
)

SIDE = 64


def as_mask(inside: np.ndarray, score: float = 0.9) -> Mask:
    rows, cols = np.nonzero(inside)
    if not len(rows):
        return Mask(inside.shape, (0, 0, 0, 0), np.zeros((0, 0), bool), score, (0, 0, 1, 1))
    bbox = (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
    crop = inside[bbox[0] : bbox[2], bbox[1] : bbox[3]].copy()
    return Mask(inside.shape, tuple(int(v) for v in bbox), crop, score, (0, 0, *inside.shape))


class BrightPredictor:
    """Finds the bright pixels of all parts that a box touches: it leaks into neighbours."""

    def __init__(self, score: float = 0.9) -> None:
        self.score, self.planes, self.boxes, self.answers = score, [], [], []

    def set_image(self, image, *, plane=None):
        self.planes.append(plane)
        self.slice = np.asarray(image[plane])

    def predict(self, prompts):
        self.boxes.append(prompts.box)
        self.answers.append(prompts.answer)
        row0, col0, row1, col1 = (round(v + 0.5) for v in prompts.box)
        parts, _ = ndimage.label(self.slice > 0)
        touched = np.unique(parts[row0:row1, col0:col1])
        found = as_mask(np.isin(parts, touched[touched > 0]), self.score)
        return replace(found, answer=prompts.answer or Answer.SOLID)


class PlanePredictor(BrightPredictor):
    """The same, of images that say themselves which plane is looked at."""

    def set_image(self, image, *, plane=None):
        self.slice = image.read((slice(0, SIDE), slice(0, SIDE)))[..., 0]


def disc(row: float, col: float, radius: float) -> np.ndarray:
    down, across = np.mgrid[:SIDE, :SIDE]
    return (down - row) ** 2 + (across - col) ** 2 <= radius**2


def moving(count: int = 10) -> np.ndarray:
    return np.stack([disc(20 + 2 * k, 15 + 3 * k, 8) for k in range(count)]).astype(np.uint8)


def same(masks, stack):
    return all(np.array_equal(mask.to_array(), stack[k] > 0) for k, mask in masks.items())


def test_a_moving_object_is_followed_both_ways():
    stack, predictor = moving(), BrightPredictor()
    masks = propagate(predictor, stack, {4: as_mask(stack[4] > 0)})
    assert list(masks) == list(range(10))
    assert same(masks, stack)
    # The anchor's own slice is not asked about.
    assert 4 not in predictor.planes


def test_the_box_goes_with_the_motion():
    stack, predictor = moving(), BrightPredictor()
    list(follow(predictor, stack, as_mask(stack[0] > 0), range(1, 6)))
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in predictor.boxes[-1:]]
    np.testing.assert_allclose(middles[0], (30, 30), atol=1.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stack: stack.__setitem__(slice(6, None), 0), "nothing found"),
        (lambda stack: stack.__setitem__(6, disc(32, 33, 3)), "area changed"),
    ],
)
def test_it_ends_where_the_object_ends(change, words):
    stack = moving()
    change(stack)
    steps = list(follow(BrightPredictor(), stack, as_mask(stack[0] > 0), range(1, 10)))
    assert [step.index for step in steps] == list(range(1, 7))
    assert steps[-1].mask is None
    assert words in steps[-1].end


def test_a_low_score_ends_it_if_the_limits_say_so():
    stack = moving()
    start = as_mask(stack[0] > 0)
    assert next(iter(follow(BrightPredictor(0.5), stack, start, [1]))).mask is not None
    (step,) = follow(BrightPredictor(0.5), stack, start, [1], end=EndOfObject(score=0.6))
    assert step.end == "score 0.50"


def test_an_object_that_leaves_the_image_ends():
    stack = np.stack([disc(32, 30 + 9 * k, 8) for k in range(6)]).astype(np.uint8)
    steps = list(follow(BrightPredictor(), stack, as_mask(stack[0] > 0), range(1, 6)))
    assert steps[-1].mask is None


def test_a_neighbour_that_touches_is_not_taken_in():
    stack = np.stack([disc(32, 20, 8) for _ in range(4)])
    stack[2] |= disc(32, 40, 12)
    masks = propagate(BrightPredictor(), stack.astype(np.uint8), {0: as_mask(stack[0])})
    truth = disc(32, 20, 8)
    found = masks[2].to_array()
    assert (found & truth).sum() / (found | truth).sum() > 0.6
    assert not found[:, 34:].any()


def test_it_goes_on_with_the_answer_that_the_object_is():
    stack = np.stack([disc(30, 20 + 2 * k, 8) for k in range(4)]).astype(np.uint8)
    anchor, predictor = as_mask(stack[0]), BrightPredictor()
    # It is not known of what was drawn by hand; what the network takes it for then stays.
    propagate(predictor, stack, {0: anchor})
    assert predictor.answers[0] is None
    assert set(predictor.answers[2:]) == {Answer.SOLID}
    predictor.answers.clear()
    propagate(predictor, stack, {0: replace(anchor, answer=Answer.FINE)})
    assert set(predictor.answers) == {Answer.FINE}


def test_the_nearer_anchor_counts_more_between_two():
    small, large = disc(32, 32, 8), disc(32, 32, 12)

    class Stubborn(BrightPredictor):
        def predict(self, prompts):
            return as_mask(large if prompts.box[2] - prompts.box[0] > 20 else small)

    stack = np.zeros((6, SIDE, SIDE), np.uint8)
    masks = propagate(Stubborn(), stack, {0: as_mask(small), 5: as_mask(large)})
    areas = [mask.area for mask in masks.values()]
    assert areas == sorted(areas)
    assert areas[0] == small.sum()
    assert areas[-1] == large.sum()
    assert small.sum() < areas[2] < areas[3] < large.sum()


def test_what_one_side_lost_the_other_gives():
    stack = moving()
    stack[3] = 0
    anchors = {0: as_mask(stack[0] > 0), 9: as_mask(stack[9] > 0)}
    masks = propagate(BrightPredictor(), stack, anchors)
    assert list(masks) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert same(masks, stack)


def test_whoever_reports_can_stop():
    stack, seen = moving(), []

    def report(step):
        seen.append(step.index)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        propagate(BrightPredictor(), stack, {0: as_mask(stack[0] > 0)}, report=report)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("anchors", [{}, {12: disc(5, 5, 3)}, {3: np.zeros((SIDE, SIDE), bool)}])
def test_anchors_have_to_be_there(anchors):
    masks = {index: as_mask(mask) for index, mask in anchors.items()}
    with pytest.raises(ValueError, match="expected at least one mask"):
        propagate(BrightPredictor(), moving(), masks)


def run(propagation, stack):
    predictor = BrightPredictor()
    return list(propagation.steps(predictor, stack)), predictor


def test_what_comes_from_the_same_anchors_is_not_done_again():
    stack = moving()
    anchors = {index: as_mask(stack[index] > 0) for index in (0, 5, 9)}
    steps, _ = run(Propagation(anchors, 0, 9), stack)
    carried = {step.index: step for step in steps}
    assert run(Propagation(anchors, 0, 9, carried), stack)[0] == []
    # Another one in between: only what lies beside it.
    anchors[7] = as_mask(stack[7] | disc(5, 5, 2))
    steps, predictor = run(Propagation(anchors, 0, 9, carried), stack)
    assert {step.index for step in steps} == {6, 8}
    assert set(predictor.planes) == {6, 8}
    # One that was corrected is another one.
    anchors[0] = as_mask(stack[0] | disc(60, 60, 2))
    carried |= {step.index: step for step in steps}
    steps, _ = run(Propagation(anchors, 0, 9, carried), stack)
    assert {step.index for step in steps} == {1, 2, 3, 4}


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been():
    stack = moving()
    anchors = {0: as_mask(stack[0] > 0), 9: as_mask(stack[9] > 0)}
    whole, _ = run(Propagation(anchors, 0, 9), stack)
    for cut in (3, 11):
        carried = {step.index: step for step in whole[:cut]}
        rest, _ = run(Propagation(anchors, 0, 9, carried), stack)
        assert len(rest) == len(whole) - cut
        final = carried | {step.index: step for step in rest}
        for step in whole:
            assert final[step.index].source == whole[-1].source
        assert same({k: step.mask for k, step in final.items()}, stack)


def test_what_came_earlier_beyond_the_end_is_not_kept():
    stack = moving()
    start = as_mask(stack[0] > 0)
    stack[6:] = 0
    old = {k: FollowedSlice(k, as_mask(disc(9, 9, 5)), source=(1,)) for k in range(5, 9)}
    steps, _ = run(Propagation({0: start}, 0, 9, old), stack)
    assert [step.index for step in steps if step.mask is None] == [6, 7, 8]


def test_anchors_are_told_apart_by_their_place_and_pixels():
    one = as_mask(disc(20, 20, 5))
    keys = [anchor_key(3, one), anchor_key(4, one), anchor_key(3, as_mask(disc(20, 21, 5)))]
    assert len({*keys, anchor_key(3, as_mask(disc(20, 20, 6)))}) == 4
    assert anchor_key(3, as_mask(disc(20, 20, 5))) == keys[0]


def test_one_axis_after_the_other_from_a_single_plane():
    # A disc that moves along the first axis, and grows and ends along the second.
    volume = np.stack(
        [
            [disc(20 + 2 * t, 15 + 3 * t, 6 + z) if z < 3 else disc(0, 0, -1) for z in range(4)]
            for t in range(5)
        ]
    )
    source = ImageSource(volume.astype(np.uint8), plane=(2, 1))
    masks = propagate_along(
        PlanePredictor(), source, {(2, 1): as_mask(volume[2, 1])}, {0: (0, 4), 1: (0, 3)}
    )
    assert set(masks) == {(t, z) for t in range(5) for z in range(3)}
    assert all(np.array_equal(mask.to_array(), volume[place]) for place, mask in masks.items())
