"""Images and prompts in, masks out: nothing twice, nothing lost, coordinates exact."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from micro import MICRO, micro_model
from napari_pisam.model.pisam import Decoded, EncodedImage, PiSam
from napari_pisam.model.variants import Focus
from napari_pisam.predict.areas import Answer, Area
from napari_pisam.predict.device import select_device, select_precision
from napari_pisam.predict.embedding_cache import EmbeddingCache
from napari_pisam.predict.predictor import Predictor
from napari_pisam.predict.prompts import Prompts

FRAME = MICRO.frame


class Painter(torch.nn.Module):
    """A network whose mask is the distance to the box, or (``bright``) the image above 127."""

    def __init__(self, kind="pisam", bright=False):
        super().__init__()
        self.variant, self.bright = replace(MICRO, kind=kind, focus=None), bright
        self.frame = FRAME
        self.calls, self.fail = Counter(), {}
        self.decoded_with = []

    has_interactor = PiSam.has_interactor
    offers_alternatives = PiSam.offers_alternatives

    def at_frame(self, frame):
        assert frame == FRAME
        return self

    def count(self, name):
        self.calls[name] += 1
        if self.fail.get(name, 0) > 0:
            self.fail[name] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")

    def encode(self, image):
        self.count("encode")
        height, width = image.shape[2:]
        padding = (0, FRAME - width, 0, FRAME - height)
        return EncodedImage(torch.nn.functional.pad(image, padding), None, None, (height, width))

    def decode(
        self,
        image,
        *,
        boxes=None,
        points=None,
        labels=None,
        masks=None,
        multimask=False,
        wants_fine=None,
    ):
        self.count("decode")
        given = {"boxes": boxes, "points": points, "labels": labels, "masks": masks}
        self.decoded_with.append({**given, "multimask": multimask})
        batch = len(boxes if boxes is not None else points)
        token = boxes if boxes is not None else points[:, 0].repeat(1, 2)
        low = torch.zeros(batch, 3 if multimask else 1, FRAME // 4, FRAME // 4)
        iou = torch.tensor([[0.1, 0.7, 0.3]]) if multimask else torch.full((batch, 1), 0.5)
        return Decoded(low[:, :1], torch.zeros(batch, 1, 1, 1), token, iou, low)

    def correct(self, image, decoded, points, labels, *, boxes=None):
        self.count("correct")
        self.clicks = points, labels
        if self.has_interactor:
            return decoded
        masks = decoded.low_res
        return self.decode(image, boxes=boxes, points=points, labels=labels, masks=masks)

    def upscale(self, image, decoded, feature=None, region=None):
        self.count("upscale")
        if self.bright:
            return image.embedding.mean(1, keepdim=True) - 127.5
        y, x = torch.meshgrid(*[torch.arange(FRAME) + 0.5] * 2, indexing="ij")
        x0, y0, x1, y1 = decoded.token[0]
        return torch.stack([x - x0, x1 - x, y - y0, y1 - y]).amin(0)[None, None]


class TwoAnswers(Painter):
    """A network that gives a whole box, or its upper and its lower quarter."""

    def decode(self, image, *, boxes, wants_fine=None, **prompts):
        fine = torch.tensor([False]) if wants_fine is None else wants_fine
        solid = super().upscale(image, super().decode(image, boxes=boxes))[..., 2::4, 2::4]
        rows = torch.arange(FRAME // 4)[:, None] * 4 + 2
        y0, y1 = boxes[0, 1::2]
        apart = torch.maximum(y0 + (y1 - y0) / 4 - rows, rows - (y1 - (y1 - y0) / 4))
        low = torch.cat([solid, torch.minimum(solid, apart)], 1)
        low = low.flip(1) if fine else low
        iou = torch.tensor([[0.4, 0.6]] if fine else [[0.6, 0.4]])
        return Decoded(low[:, :1], torch.zeros(1, 1, 1, 1), boxes, iou, low, fine)

    def upscale(self, image, decoded, feature=None, region=None):
        return torch.nn.functional.interpolate(decoded.low_res[:, :1], scale_factor=4)


class Lazy:
    """A huge image that counts what is read and refuses to be read whole."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape):
        self.shape, self.bytes_read, self.largest_read = shape, 0, 0

    def __array__(self, *args, **kwargs):
        raise AssertionError("the whole array was read")

    def __getitem__(self, key):
        rows, cols = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
        block = ((rows[:, None] // 3 + cols // 5) % 256).astype(np.uint8)
        self.bytes_read += block.nbytes
        self.largest_read = max(self.largest_read, block.nbytes)
        return block


def painter(image=None, **arguments):
    predictor = Predictor(Painter(**arguments), device="cpu", precision="fp32")
    if image is not None:
        predictor.set_image(image)
    return predictor


def micro(image, **changes):
    predictor = Predictor(micro_model(**changes), device="cpu", precision="fp32")
    predictor.set_image(image)
    return predictor


def same(first, second):
    return first.bbox == second.bbox and np.array_equal(first.crop, second.crop)


GREY = np.random.default_rng(0).integers(0, 255, (90, 120), dtype=np.uint8)
SMALL = GREY[:50, :64]


# -- coordinates --------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    share=st.tuples(*[st.floats(0, 1)] * 4),
    levels=st.integers(1, 3),
)
# An edge that falls between px of the frame and, rounded to one, between px of the image.
@example(height=145, width=145, share=(0.0996, 0.1875, 0.13757, 0.546875), levels=1)
def test_the_mask_lies_where_the_box_is(height, width, share, levels):
    r0, c0 = share[0] * (height - 1), share[1] * (width - 1)
    r1, c1 = r0 + share[2] * (height - 1 - r0), c0 + share[3] * (width - 1 - c0)
    box = np.array([r0 - 0.5, c0 - 0.5, r1 + 0.5, c1 + 0.5])
    image = np.zeros((height, width), np.uint8)
    predictor = painter([image[:: 2**k, :: 2**k] for k in range(levels)])
    mask = predictor.predict(box=box)
    # What is shown at a fraction of its resolution cannot be better than that fraction.
    shown = max(1.0, max(mask.window[2] - mask.window[0], mask.window[3] - mask.window[1]) / FRAME)
    if min(box[2] - box[0], box[3] - box[1]) < 2 * shown:
        return
    edges = np.array(mask.bbox) - 0.5
    # Half a px of the frame and half a px of the image, where the frame is not much coarser.
    np.testing.assert_allclose(edges, box, atol=max(0.5 + 0.5 * shown, 0.75 * shown))


def test_a_large_box_is_found_to_a_pixel_of_the_image_in_windows_of_it():
    image = Lazy((100_000, 100_000))
    box = (10_000, 20_000, 11_000, 22_000)
    bbox = painter(image).predict(box=box).bbox
    np.testing.assert_allclose(bbox, box, atol=2_200 / FRAME / 3)
    assert image.largest_read < 2 << 20


def test_clicks_arrive_as_x_y_with_half_pixels():
    predictor = painter(np.zeros((64, 50), np.uint8))
    predictor.predict(box=(10, 10, 20, 20), points=[(12, 34), (-0.5, 49.5)], labels=[True, False])
    points, labels = predictor.model.clicks
    np.testing.assert_allclose(points[0], [(34.5, 12.5), (50, 0)])
    assert labels.tolist() == [[1, 0]]


# -- what is not computed twice -----------------------------------------------------------------


def test_the_same_prompt_again_neither_encodes_nor_decodes():
    predictor = painter(SMALL)
    first, second = (predictor.predict(box=(10, 10, 30, 40)) for _ in range(2))
    assert same(first, second)
    assert predictor.model.calls == {"encode": 1, "decode": 1, "upscale": 2}


def test_another_box_of_a_small_image_does_not_encode_again():
    predictor = painter(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    predictor.predict(box=(1, 1, 8, 8))
    assert predictor.model.calls["encode"] == 1


def test_clicks_after_a_box_neither_encode_nor_decode():
    predictor = painter(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    before = predictor.model.calls.copy()
    predictor.predict(box=(10, 10, 30, 40), points=[(12, 12)], labels=[True])
    predictor.refine([(45, 50)], [False])
    assert predictor.model.calls - before == {"correct": 2, "upscale": 2}


def local_painter(image):
    """A painter whose clicks are local: what they change is compared with what was there."""
    predictor = painter(image)
    predictor.model.variant = replace(predictor.model.variant, local_clicks=True)
    return predictor


def test_a_local_click_runs_the_head_once_and_what_was_there_before_is_kept():
    predictor = local_painter(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    assert predictor.model.calls["upscale"] == 1
    predictor.refine([(12, 12)], [True])
    predictor.refine([(20, 35)], [False])
    assert predictor.model.calls["upscale"] == 3
    predictor.predict(box=(10, 10, 30, 40))
    assert predictor.model.calls["upscale"] == 3


def test_a_click_that_widens_where_the_head_looks_has_it_look_there_again_once():
    predictor = local_painter(SMALL)
    predictor.predict(box=(2, 2, 6, 6))
    predictor.refine([(40, 55)], [False])
    assert predictor.model.calls["upscale"] == 3
    predictor.refine([(41, 54)], [False])
    assert predictor.model.calls["upscale"] == 4


def test_local_clicks_give_the_same_bits_whatever_was_asked_before():
    box, points, labels = (10, 10, 22, 25), [(12, 12), (48, 58), (20, 20)], [True, False, True]
    asked = micro(SMALL, click_maps=True, local_clicks=True, residual=True)
    first = asked.predict(box=box)
    first.frame_logits[:] = 0  # the caller's own
    for count in (1, 3, 2, 1, 0):
        given = {"points": points[:count], "labels": labels[:count]}
        alone = micro(SMALL, click_maps=True, local_clicks=True, residual=True).predict(
            box=box, **given
        )
        found = asked.predict(box=box, **given)
        assert np.array_equal(found.frame_logits, alone.frame_logits)


class Forgetful(Painter):
    """With a click the box reaches 12 px further towards the newest one, and only there."""

    def correct(self, image, decoded, points, labels, *, boxes=None):
        self.count("correct")
        side = 0 if points[0, -1, 0] < decoded.token[0, 0] else 2
        token = decoded.token.clone()
        token[0, side] += 12 * (side - 1)
        return replace(decoded, token=token)


def test_a_click_leaves_what_an_earlier_one_put_right():
    network = Forgetful()
    network.variant = replace(network.variant, local_clicks=True)
    predictor = Predictor(network, device="cpu", precision="fp32")
    predictor.set_image(SMALL)
    box, points, labels = (10, 20, 30, 40), [(20, 44), (20, 16)], [True, True]
    areas = [predictor.predict(box=box, points=points[:n], labels=labels[:n]).area for n in (0, 1)]
    both = predictor.predict(box=box, points=points, labels=labels)
    gained = areas[1] - areas[0]
    assert gained > 0
    assert both.area == areas[0] + 2 * gained
    assert both.bbox[1] < 20
    assert both.bbox[3] > 41
    # One click fewer is known already.
    before = network.calls.copy()
    assert predictor.predict(box=box, points=points[:1], labels=labels[:1]).area == areas[1]
    assert not network.calls - before


def test_a_click_outside_the_window_encodes_one_that_holds_all():
    predictor = painter(np.zeros((500, 500), np.uint8))
    first = predictor.predict(box=(100, 100, 120, 120))
    second = predictor.refine([(110, 300)], [False])
    assert first.window[3] < 300 <= second.window[3]
    before = predictor.model.calls.copy()
    predictor.refine([(110, 250)], [False])
    assert (predictor.model.calls - before)["encode"] == 0


def test_refine_adds_to_the_clicks_so_far():
    predictor = micro(SMALL)
    box, points, labels = (10, 10, 30, 40), [(12, 12), (28, 38)], [True, False]
    predictor.predict(box=box)
    predictor.refine(points[:1], labels[:1])
    refined = predictor.refine(points[1:], labels[1:])
    assert same(refined, micro(SMALL).predict(box=box, points=points, labels=labels))


def test_nothing_is_read_or_encoded_before_a_prompt():
    lazy = Lazy((100_000, 100_000))
    predictor = painter(lazy)
    assert lazy.bytes_read == 0
    assert not predictor.model.calls


def test_encode_prepares_the_prediction():
    predictor = painter(SMALL)
    predictor.encode()
    predictor.predict(box=(10, 10, 30, 40))
    assert predictor.model.calls["encode"] == 1


def test_an_image_set_again_is_found_in_the_cache():
    predictor = painter(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    predictor.set_image(SMALL.copy())
    predictor.predict(box=(10, 10, 30, 40))
    assert predictor.model.calls["encode"] == 1
    predictor.set_image(255 - SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    assert predictor.model.calls["encode"] == 2


def test_a_disk_cache_serves_the_next_predictor_of_the_same_weights(tmp_path, monkeypatch):
    masks = []
    for _ in range(2):
        model = micro_model()
        predictor = Predictor(model, "cpu", "fp32", EmbeddingCache(disk=tmp_path))
        predictor.set_image(SMALL)
        masks.append(predictor.predict(box=(10, 10, 30, 40)))
        monkeypatch.setattr("napari_pisam.model.pisam.PiSam.encode", None)
    assert same(*masks)


def test_without_any_memory_it_still_works():
    predictor = Predictor(Painter(), "cpu", "fp32", EmbeddingCache(max_bytes=0))
    predictor.set_image(np.zeros((2000, 2000), np.uint8))
    for start in (100, 500, 900, 1300, 1700, 100):
        predictor.predict(box=(start, start, start + 20, start + 20))
    assert predictor.model.calls["encode"] == 6


# -- many boxes ---------------------------------------------------------------------------------


def test_many_boxes_give_the_masks_of_single_calls_in_order():
    boxes = [(10, 10, 30, 40), (300, 300, 330, 350), (1, 1, 20, 9), (310, 310, 320, 345)]
    image = np.random.default_rng(1).integers(0, 255, (400, 400), dtype=np.uint8)
    predictor = painter(image)
    together = predictor.predict_many(boxes)
    assert predictor.model.calls["decode"] < 4
    for box, mask in zip(boxes, together, strict=True):
        assert same(mask, painter(image).predict(box=box))


def test_many_boxes_of_one_window_are_decoded_together():
    predictor = micro(SMALL)
    boxes = [(r, c, r + 15, c + 20) for r in (1, 20, 30) for c in (2, 30, 40)]
    for box, mask in zip(boxes, predictor.predict_many(boxes), strict=True):
        single = micro(SMALL).predict(box=box)
        assert (mask.to_array() != single.to_array()).mean() < 0.005
        assert mask.score == pytest.approx(single.score, abs=1e-4)


def test_no_boxes_give_no_masks():
    assert painter(SMALL).predict_many([]) == []


# -- kinds of networks and prompts --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sam", "hqsam", "pisam"])
@pytest.mark.parametrize(
    "prompts",
    [
        {"box": (10, 10, 30, 40)},
        {"points": [(20, 20)], "labels": [True]},
        {"points": [(20, 20), (5, 5)], "labels": [True, False]},
        {"box": (10, 10, 30, 40), "points": [(20, 20)], "labels": [True]},
        {"mask": np.pad(np.ones((9, 9), bool), ((8, 33), (9, 46)))},
        {"mask": (np.ones((9, 9), bool), (8, 9)), "points": [(5, 5)], "labels": [False]},
    ],
    ids=["box", "click", "clicks", "box+click", "mask", "mask+click"],
)
def test_every_kind_takes_every_prompt(kind, prompts):
    mask = micro(SMALL, kind=kind).predict(**prompts)
    assert mask.shape == SMALL.shape
    assert mask.logits.shape == SMALL.shape
    assert np.isfinite(mask.logits).all()
    assert np.isfinite(mask.score)


def test_a_click_in_the_middle_of_what_another_answer_mends_brings_it():
    predictor = Predictor(TwoAnswers(), device="cpu", precision="fp32")
    predictor.set_image(SMALL)
    box = (3.5, 3.5, 43.5, 51.5)
    middle, rim = (23, 28), (5, 28)
    solid = predictor.predict(box=box)
    fine = predictor.predict(box=box, points=[middle], labels=[False])
    assert 0.3 < fine.area / solid.area < 0.6
    assert not fine.to_array()[18:28].any()
    at_the_rim = predictor.predict(box=box, points=[rim], labels=[False])
    assert same(at_the_rim, solid)
    # A later click corrects; and without the first one everything is as it was.
    assert same(predictor.refine([middle], [False]), solid)
    assert same(predictor.predict(box=box), solid)
    assert same(predictor.predict(box=box, points=[middle, rim], labels=[False, False]), fine)


def test_the_answer_that_is_asked_for_is_given_whatever_is_clicked():
    predictor = Predictor(TwoAnswers(), device="cpu", precision="fp32")
    predictor.set_image(SMALL)
    box, middle = (3.5, 3.5, 43.5, 51.5), (23, 28)
    likelier = predictor.predict(box=box)
    fine = predictor.predict(Prompts(box, answer="fine"))
    assert 0.3 < fine.area / likelier.area < 0.6
    assert (likelier.answer, fine.answer) == (Answer.SOLID, Answer.FINE)
    assert fine.without_logits().answer is Answer.FINE
    for answer, mask in (("fine", fine), ("solid", likelier)):
        for is_fg in (True, False):
            asked = Prompts(box, [middle], [is_fg], answer=answer)
            assert same(predictor.predict(asked), mask)
    # Every box of several, of an object.
    first, parts = (1.5, 3.5, 21.5, 51.5), [Area.of((25.5, 3.5, 45.5, 51.5))]
    asked = [Prompts(first, areas=parts, answer=answer) for answer in ("solid", "fine")]
    solid, fine = (predictor.predict(one).to_array() for one in asked)
    for rows in (slice(0, 23), slice(23, 50)):
        assert 0.3 < fine[rows].sum() / solid[rows].sum() <= 0.6


def test_each_answer_is_scored_by_its_own_curve_of_the_weights():
    one, other = ((0.0, 0.7), (1.0, 0.7)), ((0.0, 0.2), (1.0, 0.2))
    asked = [Prompts((10, 10, 30, 40), answer=answer) for answer in ("solid", "fine")]
    for of_fine, worth in ((other, 0.2), ((), 0.7)):
        predictor = micro(SMALL, fine_answer=True, score_curve=one, fine_score_curve=of_fine)
        for masks in (predictor.predict_many(asked), [predictor.predict(each) for each in asked]):
            assert [mask.score for mask in masks] == pytest.approx([0.7, worth])


def test_boxes_together_have_the_answers_that_each_is_to_have():
    predictor = micro(SMALL, fine_answer=True)
    boxes = [(3.5, 3.5, 23.5, 31.5), (10.5, 20.5, 43.5, 51.5), (1.5, 2.5, 20.5, 40.5)]
    answers = [None, "fine", "solid", None, "solid", "fine"]
    asked = [Prompts(box, answer=a) for box, a in zip(boxes + boxes, answers, strict=True)]
    together = predictor.predict_many(asked)
    for one, mask in zip(asked, together, strict=True):
        alone = predictor.predict(one)
        assert mask.answer is alone.answer
        assert one.answer in (None, mask.answer)
        assert same(mask, alone)
    with pytest.raises(ValueError, match="more than a box"):
        predictor.predict_many([*asked, Prompts(boxes[0], [(9, 9)], [True])])


def test_lines_that_a_frame_shows_reduced_are_looked_at_in_tiles_and_nothing_else_is():
    predictor = micro(GREY, fine_answer=True, focus=Focus(frame=64))
    # A window of 66 px is hardly reduced; one of 88 px is, to 64.
    small, wide = (20.5, 30.5, 40.5, 60.5), (20.5, 30.5, 60.5, 66.5)
    look, seen = predictor.predict_tile, []
    predictor.predict_tile = lambda window, *rest: seen.append(window) or look(window, *rest)
    told = []
    for box, answer, is_finer in (
        (small, "fine", False),
        (small, "solid", False),
        (wide, "solid", False),
        (wide, "fine", True),
    ):
        asked = Prompts(box, answer=answer)
        assert predictor.is_in_tiles(asked) == (box is wide)
        mask = predictor.predict(asked, progress=lambda *done: told.append(done))
        assert bool(seen) == bool(told) == is_finer
        assert mask.answer == answer
        (together,) = predictor.predict_many([asked])
        assert same(mask, together)
        assert (mask.window, mask.score) == (together.window, together.score)
    assert all((one.step, one.level) == (1, 0) for one in seen)
    # A mask to start from is kept in the frame's pixels, as before.
    count = len(seen)
    start = np.zeros(GREY.shape, bool)
    start[20:60, 30:66] = True
    predictor.predict(Prompts(None, [(30, 40)], [True], start, answer="fine"))
    assert len(seen) == count


def test_what_several_boxes_are_and_what_is_kept_of_a_start():
    predictor = Predictor(TwoAnswers(), device="cpu", precision="fp32")
    predictor.set_image(SMALL)
    box, further = (1.5, 3.5, 21.5, 51.5), [Area.of((25.5, 3.5, 45.5, 51.5))]
    for answer in ("solid", "fine"):
        assert predictor.predict(Prompts(box, areas=further, answer=answer)).answer == answer
    start = np.zeros(SMALL.shape, bool)
    start[10:30:4, 10:40] = True
    network = TwoAnswers()
    network.variant = replace(network.variant, focus=Focus())
    keeping = Predictor(network, device="cpu", precision="fp32")
    keeping.set_image(SMALL)
    assert keeping.predict(mask=start, points=[(11, 11)], labels=[True]).answer is None
    asked = Prompts(None, [(11, 11)], [True], start, answer="fine")
    assert keeping.predict(asked).answer is Answer.FINE


def test_a_network_of_one_answer_gives_it_whichever_is_asked_for():
    predictor = micro(SMALL, kind="hqsam")
    asked = [Prompts((10, 10, 30, 40), answer=answer) for answer in (None, "fine", "solid")]
    first, *others = [predictor.predict(one) for one in asked]
    assert first.answer is None
    assert all(same(first, other) for other in others)


def test_sam_gets_clicks_with_the_box_and_the_mask_so_far():
    predictor = painter(SMALL, kind="sam")
    predictor.predict(box=(10, 10, 30, 40), points=[(20, 20)], labels=[True])
    first, second = predictor.model.decoded_with
    assert first["points"] is None
    assert first["masks"] is None
    assert second["points"].shape == (1, 1, 2)
    assert second["boxes"] is not None
    assert second["masks"].shape == (1, 1, FRAME // 4, FRAME // 4)
    assert predictor.model.calls["correct"] == 1


def test_sam_chooses_the_best_of_three_masks_of_a_single_click():
    predictor = painter(SMALL, kind="sam")
    assert predictor.predict(points=[(20, 20)], labels=[True]).score == pytest.approx(0.7)
    assert predictor.predict(points=[(20, 20), (1, 1)], labels=[True, False]).score == 0.5
    assert [call["multimask"] for call in predictor.model.decoded_with] == [True, False]


def test_prompts_may_be_given_whole():
    predictor = painter(SMALL)
    asked = Prompts((10, 10, 30, 40), [(20, 20)], [True])
    whole = predictor.predict(asked)
    assert same(whole, predictor.predict(asked.box, asked.points, asked.labels))
    with pytest.raises(ValueError, match="expected either"):
        predictor.predict(asked, points=[(1, 1)], labels=[True])


def test_a_mask_to_start_from_is_given_as_logits_and_as_a_box():
    predictor = painter(np.zeros((64, 64), np.uint8))
    predictor.predict(mask=(np.ones((8, 12), bool), (16, 20)))
    call = predictor.model.decoded_with[0]
    np.testing.assert_allclose(call["boxes"], [(20, 16, 32, 24)])
    assert (call["masks"] > 0).sum() == 2 * 3


def test_a_mask_that_was_predicted_may_start_the_next_one():
    predictor = painter(SMALL)
    mask = predictor.predict(box=(10, 10, 30, 40))
    assert same(predictor.predict(mask=mask), mask)


# -- images -------------------------------------------------------------------------------------


def bright_mask(image, **arguments):
    predictor = painter(bright=True)
    predictor.set_image(image, **arguments)
    return predictor.predict(box=(20, 30, 40, 60)).to_array()


def in_zarr(array):
    store = zarr.create_array({}, shape=array.shape, dtype=array.dtype, chunks=(32, 32))
    store[...] = array
    return store


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def with_nan(array):
    array = array.astype(np.float64)
    array[0, :3] = np.nan, np.inf, -np.inf
    return array


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.astype(np.uint16) * 257,
        lambda a: a.astype(np.int32) * 1000 - 100_000,
        lambda a: a.astype(np.int64) << 40,
        lambda a: a.astype(np.float16),
        lambda a: a.astype(np.float32) / 255,
        lambda a: a.astype(">u2"),
        lambda a: da.from_array(a, chunks=32),
        in_zarr,
        read_only,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: [a, a],
        lambda a: a[None],
    ],
)
def test_equivalent_images_give_the_same_mask(make):
    np.testing.assert_array_equal(bright_mask(make(GREY)), bright_mask(GREY))


def test_nan_and_infinity_change_their_own_pixels_alone():
    found = bright_mask(with_nan(GREY), contrast_limits=(0, 255))
    expected = bright_mask(GREY, contrast_limits=(0, 255))
    np.testing.assert_array_equal(found[1:], expected[1:])


def test_rgb_rgba_and_channels_first_give_the_same_mask():
    rgb = np.random.default_rng(2).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    rgba = np.concatenate([rgb, np.zeros((90, 120, 1), np.uint8)], axis=-1)
    expected = bright_mask(rgb)
    np.testing.assert_array_equal(bright_mask(rgba), expected)
    np.testing.assert_array_equal(bright_mask(rgb.transpose(2, 0, 1), channel_axis=0), expected)


def test_a_boolean_image_works():
    assert bright_mask(GREY > 100).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 64), (65, 65)])
def test_images_of_any_shape_work(shape):
    mask = micro(np.ones(shape, np.float32)).predict(box=(-0.5, -0.5, 0.5, 0.5))
    assert mask.to_array().shape == shape


def test_only_windows_of_a_huge_image_are_read():
    lazy = Lazy((100_000, 100_000))
    mask = painter(lazy).predict(box=(70_000, 80_000, 70_030, 80_040))
    np.testing.assert_allclose(mask.bbox, (70_000, 80_000, 70_030, 80_040), atol=1)
    assert lazy.bytes_read <= (1 << 20) + FRAME**2


# -- errors change nothing ----------------------------------------------------------------------


BAD_CALLS = [
    ("predict", {}),
    ("predict", {"box": (200, 200, 300, 300)}),
    ("predict", {"box": (10, 10, np.nan, 40)}),
    ("predict", {"box": (10, 10, 10, 40)}),
    ("predict", {"box": (1, 2, 3)}),
    ("predict", {"points": [(1, 1)], "labels": [False]}),
    ("predict", {"box": (10, 10, 30, 40), "points": [(99, 1)], "labels": [True]}),
    ("predict", {"box": (10, 10, 30, 40), "points": [(9, 1)], "labels": [True, True]}),
    ("predict", {"mask": np.zeros((5, 5), bool)}),
    ("predict", {"mask": np.ones((500, 5), bool)}),
    ("predict_many", {"boxes": [(10, 10, 30, 40), (200, 200, 300, 300)]}),
    ("predict_many", {"boxes": (10, 10, 30, 40)}),
    ("refine", {"points": [(99, 99)], "labels": [True]}),
    ("refine", {"points": [(1, np.inf)], "labels": [True]}),
    ("encode", {"box": (200, 200, 300, 300)}),
    ("set_image", {"image": np.zeros(5)}),
    ("set_image", {"image": np.zeros((5, 6, 7, 8)), "plane": 9}),
    ("set_image", {"image": None}),
]


@pytest.mark.parametrize(("name", "arguments"), BAD_CALLS)
def test_a_bad_call_changes_nothing(name, arguments):
    predictor = micro(SMALL)
    first = predictor.predict(box=(10, 10, 30, 40), points=[(12, 12)], labels=[True])
    with pytest.raises(ValueError, match="expected"):
        getattr(predictor, name)(**arguments)
    refined = predictor.refine([(28, 38)], [False])
    fresh = micro(SMALL)
    assert same(first, fresh.predict(box=(10, 10, 30, 40), points=[(12, 12)], labels=[True]))
    assert same(refined, fresh.refine([(28, 38)], [False]))


def test_a_network_that_fails_changes_nothing():
    predictor = painter(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    upscale, predictor.model.upscale = predictor.model.upscale, None
    with pytest.raises(TypeError):
        predictor.predict(box=(1, 1, 8, 8))
    predictor.model.upscale = upscale
    assert same(predictor.refine([(12, 12)], [True]), painter(SMALL).predict(box=(10, 10, 30, 40)))


@pytest.mark.parametrize("call", ["predict", "encode", "predict_many"])
def test_without_an_image_the_message_says_so(call):
    with pytest.raises(RuntimeError, match="set_image"):
        getattr(painter(), call)((1, 2, 3, 4) if call != "predict_many" else [(1, 2, 3, 4)])


def test_without_a_prediction_there_is_nothing_to_refine():
    with pytest.raises(RuntimeError, match="Call predict first"):
        painter(SMALL).refine([(1, 1)], [True])


def test_masks_do_not_hold_gradients():
    predictor = micro(SMALL)
    predictor.predict(box=(10, 10, 30, 40))
    assert all(p.grad is None for p in predictor.model.parameters())
    assert torch.is_grad_enabled()


# -- device, memory, threads --------------------------------------------------------------------


@pytest.mark.parametrize("step", ["encode", "decode", "correct", "upscale"])
def test_out_of_memory_goes_on_with_the_cpu_and_a_warning(step):
    predictor, prompts = painter(SMALL), {"points": [(12, 12)], "labels": [True]}
    predictor.model.fail[step] = 1
    with pytest.warns(RuntimeWarning, match="goes on with the CPU"):
        mask = predictor.predict(box=(10, 10, 30, 40), **prompts)
    assert same(mask, painter(SMALL).predict(box=(10, 10, 30, 40), **prompts))
    assert predictor.device.type == "cpu"
    predictor.refine([(13, 13)], [True])
    assert predictor.model.calls["encode"] == (2 if step == "encode" else 1)


def test_out_of_memory_on_the_cpu_too_is_an_error():
    predictor = painter(SMALL)
    predictor.model.fail["encode"] = 2
    with (
        pytest.warns(RuntimeWarning, match="goes on with the CPU"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        predictor.predict(box=(10, 10, 30, 40))


def test_bf16_gives_nearly_the_same_logits():
    exact = micro(SMALL).predict(box=(10, 10, 30, 40)).logits
    predictor = Predictor(micro_model(), device="cpu", precision="bf16")
    predictor.set_image(SMALL)
    close = predictor.predict(box=(10, 10, 30, 40)).logits
    assert close.dtype == np.float32
    assert 0 < np.abs(close - exact).max() < 0.1 * np.abs(exact).max() + 0.05


def test_threads_get_the_masks_of_their_own_prompts():
    predictor, found = painter(SMALL), {}
    boxes = [(n, n, n + 15, n + 20) for n in range(12)]

    def work(box):
        found[box] = predictor.predict(box=box)

    threads = [threading.Thread(target=work, args=(box,)) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert predictor.model.calls["encode"] == 1
    for box in boxes:
        assert same(found[box], painter(SMALL).predict(box=box))


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match=name):
        select_device(name)


def test_auto_is_a_device_of_this_machine():
    assert select_device("auto").type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize(
    ("device", "name", "dtype"),
    [
        ("mps", "auto", torch.float32),
        ("mps", "bf16", torch.float32),
        ("cpu", "fp32", torch.float32),
        ("cpu", "bf16", torch.bfloat16),
    ],
)
def test_precision_of_a_device(device, name, dtype):
    assert select_precision(torch.device(device), name) == dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)]
)
def test_auto_is_bf16_where_cuda_computes_it(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert select_precision(torch.device("cuda")) == dtype


@pytest.mark.parametrize(("has", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_auto_is_bf16_where_the_cpu_computes_it(monkeypatch, has, dtype):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has, raising=False)
    assert select_precision(torch.device("cpu")) == dtype


@pytest.mark.parametrize("name", ["fp64", "", "fp16"])
def test_a_precision_that_the_cpu_lacks_is_refused(name):
    with pytest.raises(ValueError, match="precision"):
        select_precision(torch.device("cpu"), name)
