"""Windows around boxes: what a network with a focus sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micro import micro_model
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import Focus, get_variant
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.preprocessing import FrameTransform
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.windows import choose_window, frame_for, stable_window

FOCUS = Focus(factor=2.2, frame=1024, click_window=512)
TINY = get_variant("tiny")


def focused(prompts, shape, frame=1024, levels=None):
    return choose_window(prompts, shape, levels, frame, focus=FOCUS)


def side(window):
    return window.row1 - window.row0, window.col1 - window.col0


def test_a_box_gets_a_square_around_its_middle():
    window = focused(Prompts((499.5, 599.5, 599.5, 639.5)), (4000, 4000))
    assert side(window) == (220, 220)
    assert (window.row0 + window.row1) / 2 == pytest.approx(550, abs=0.5)
    assert (window.col0 + window.col1) / 2 == pytest.approx(620, abs=0.5)


def test_at_the_border_the_window_moves_into_the_image():
    window = focused(Prompts((-0.5, -0.5, 99.5, 99.5)), (300, 400))
    assert (window.row0, window.col0, *side(window)) == (0, 0, 220, 220)
    window = focused(Prompts((199.5, 299.5, 299.5, 399.5)), (300, 400))
    assert (window.row1, window.col1, *side(window)) == (300, 400, 220, 220)


def test_an_image_smaller_than_the_window_is_seen_whole():
    window = focused(Prompts((10, 10, 80, 50)), (90, 60))
    assert (window.row0, window.col0, window.row1, window.col1) == (0, 0, 90, 60)


@pytest.mark.parametrize(
    ("length", "frame"),
    [(5, 256), (256, 256), (257, 384), (385, 512), (513, 768), (769, 1024), (1024, 1024)],
)
def test_the_frame_is_the_smallest_that_loses_no_pixel(length, frame):
    assert frame_for(length, 1024) == frame


def test_a_small_network_has_its_own_frame_only():
    assert frame_for(10, 64) == 64


def test_an_object_too_large_for_the_frame_is_read_with_the_same_share_of_surroundings():
    shape = (6000, 6000)
    window = focused(Prompts((2000, 2000, 2999, 2999)), shape, levels=[shape, (3000, 3000)])
    assert (window.level, window.frame) == (1, 1024)
    assert side(window)[0] * 2 == pytest.approx(2200, abs=8)


def test_clicks_alone_get_a_window_of_their_own_size():
    prompts = Prompts(points=[(700, 700)], labels=[True])
    expected = choose_window(prompts, (5000, 5000), frame=512)
    assert focused(prompts, (5000, 5000)) == replace(expected, frame=512)


@pytest.mark.parametrize(("length", "frame"), [(80, 256), (150, 384), (400, 384), (3000, 384)])
def test_a_large_object_is_reduced_to_the_largest_frame(length, frame):
    focus = replace(FOCUS, frame=384)
    box = (1000, 1000, 1000 + length, 1000 + length)
    window = choose_window(Prompts(box), (9000, 9000), focus=focus)
    assert window.frame == frame
    assert max(FrameTransform.of(window).size) == frame


def test_a_click_outside_makes_the_window_grow_and_one_inside_does_not():
    box, shape = (500, 500, 599, 599), (4000, 4000)
    first = focused(Prompts(box), shape)

    def stable(points):
        prompts = Prompts(box, points, [True] * len(points))
        return stable_window(prompts, shape, focus=FOCUS)

    assert stable([(520, 520)]) == first
    grown = stable([(520, 520), (800, 550)])
    assert grown.row1 > 800
    assert grown.row0 <= first.row0


@given(
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 1), st.floats(0.01, 1)),
    st.tuples(st.integers(40, 5000), st.integers(40, 5000)),
)
@settings(max_examples=60, deadline=None)
def test_every_box_lies_in_its_window_and_in_its_frame(part, shape):
    low = np.array(part[:2]) * shape
    high = np.minimum(low + np.array(part[2:]) * shape, np.array(shape)) - 0.5
    box = (*low, *np.maximum(high, low + 0.5))
    window = focused(Prompts(box), shape)
    assert window.holds(Prompts(np.clip(box, -0.5, np.tile(shape, 2) - 0.5)))
    assert 0 <= window.row0 < window.row1 <= shape[0]
    assert 0 <= window.col0 < window.col1 <= shape[1]
    assert max(FrameTransform.of(window).size) == (window.frame or 1024)


def test_a_compact_network_at_another_frame_is_the_network_built_for_it():
    model = build_model(replace(TINY, frame=64))
    image = torch.rand(1, 3, 96, 96) * 255
    box = torch.tensor([[20.0, 24.0, 60.0, 70.0]])
    built = build_model(replace(TINY, frame=96), seed=1)
    built.load_state_dict(model.state_dict())
    answers = []
    with torch.inference_mode():
        for network in (model.at_frame(96), built):
            encoded = network.encode(image)
            decoded = network.decode(encoded, boxes=box)
            clicks = torch.tensor([[[30.0, 30.0]]]), torch.tensor([[1]])
            boxes = torch.tensor([[20.0, 24.0, 60.0, 70.0]])
            corrected = network.correct(encoded, decoded, *clicks, boxes=boxes)
            answers.append(network.upscale(encoded, corrected))
    assert answers[0].shape == (1, 1, 96, 96)
    torch.testing.assert_close(answers[0], answers[1])
    assert model.frame == 64


def test_a_network_at_another_frame_shares_its_weights():
    model = build_model(replace(TINY, frame=64))
    view = model.at_frame(96)
    ours, theirs = dict(model.named_parameters()), dict(view.named_parameters())
    assert all(theirs[name] is value for name, value in ours.items())


def test_a_vit_cannot_change_its_frame():
    model = micro_model()
    with pytest.raises(ValueError, match="cannot be used at 96"):
        model.at_frame(96)


@pytest.fixture
def predictor():
    model = build_model(replace(TINY, frame=512, focus=FOCUS))
    result = Predictor(model, device="cpu", precision="fp32")
    rng = np.random.default_rng(3)
    result.set_image(rng.integers(0, 255, (400, 500), dtype=np.uint8))
    return result


BOXES = [(10, 10, 60, 70), (100, 200, 150, 260), (200, 300, 380, 480), (300, 20, 330, 60)]


def test_many_boxes_get_what_each_gets_alone(predictor):
    together = predictor.predict_many(BOXES)
    for box, mask in zip(BOXES, together, strict=True):
        single = predictor.predict(box=box)
        assert mask.window == single.window
        assert (mask.to_array() != single.to_array()).mean() < 0.005
        assert mask.score == pytest.approx(single.score, abs=1e-4)


def test_boxes_of_one_size_are_encoded_together(predictor, monkeypatch):
    batches = []
    network = type(predictor.model)
    encode = network.encode

    def counted(self, image):
        batches.append(len(image))
        return encode(self, image)

    monkeypatch.setattr(network, "encode", counted)
    predictor.predict_many(BOXES)
    assert sorted(batches) == [1, 3]


def test_what_was_asked_before_changes_nothing(predictor):
    alone = predictor.predict(box=BOXES[1]).logits
    predictor.set_image(np.zeros((10, 10)))
    predictor.set_image(np.random.default_rng(3).integers(0, 255, (400, 500), dtype=np.uint8))
    predictor.predict_many(BOXES)
    np.testing.assert_array_equal(predictor.predict(box=BOXES[1]).logits, alone)


def test_clicks_after_a_box_do_not_encode_again(predictor, monkeypatch):
    predictor.predict(box=BOXES[0])
    monkeypatch.setattr(type(predictor.model), "encode", None)
    predictor.predict(box=BOXES[0], points=[(20, 20), (50, 60)], labels=[True, False])


DISC = np.hypot(*np.mgrid[-200:200, -180:320]) < 50


def test_a_mask_to_start_from_is_kept_where_nothing_is_clicked(predictor):
    found = predictor.predict(mask=DISC).to_array()
    assert (found & DISC).sum() / (found | DISC).sum() > 0.97


def test_a_click_changes_the_mask_to_start_from_at_the_click(predictor):
    found = predictor.predict(mask=DISC, points=[(200, 180), (200, 240)], labels=[False, True])
    assert not found.to_array()[200, 180]
    assert found.to_array()[200, 240]
    assert (found.to_array() != DISC).sum() < 0.5 * DISC.sum()
