"""Large objects in tiles: found to the pixel, without seams, and only where there is something."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from micro import MICRO
from napari_pisam.predict.preprocessing import FrameTransform
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.tiles import TiledObjects, WholeObject, _weights
from napari_pisam.predict.windows import choose_window

SIDE = MICRO.frame


class Ripples:
    """A network that knows the object: a disc with ripples, drawn by a formula anywhere."""

    def __init__(self, size, spoils_edges=False):
        self.size, self.spoils_edges = size, spoils_edges
        self.windows = []

    @property
    def shape(self):
        return self.size, self.size

    def distance(self, rows, cols):
        y, x = rows[:, None] - self.size / 2, cols[None, :] - self.size / 2
        angle = np.arctan2(y, x)
        radius = self.size * (0.35 + 0.01 * np.sin(40 * angle))
        return (radius - np.hypot(y, x)).astype(np.float32)

    def truth(self):
        places = np.arange(self.size, dtype=np.float64)
        return self.distance(places, places) > 0

    def _logits(self, window):
        transform = FrameTransform.of(window, SIDE)
        height, width = transform.size
        rows = transform.from_frame([(0, n + 0.5) for n in range(height)])[:, 0]
        cols = transform.from_frame([(n + 0.5, 0) for n in range(width)])[:, 1]
        return self.distance(rows, cols), transform

    def whole(self, box):
        window = choose_window(Prompts(box), self.shape, frame=SIDE)
        return WholeObject(*self._logits(window), window.native_bbox(self.shape), 0.9)

    def look_at(self, window, prompts, start):
        assert start is None or start.shape == (1, SIDE // 4, SIDE // 4)
        assert prompts.region is not None
        self.windows.append(window)
        logits, _ = self._logits(window)
        if self.spoils_edges:
            for edge in (logits[:2], logits[-2:], logits[:, :2], logits[:, -2:]):
                edge[:] *= -1
        return logits

    def box(self):
        low, high = 0.13 * self.size, 0.87 * self.size
        return low, low, high, high

    def predict(self, tiles, prompts=None, whole=None, progress=None):
        prompts = prompts or Prompts(self.box())
        seen = whole or self.whole(self.box())
        return tiles.predict(seen, prompts, [self.shape], self.look_at, progress)


@pytest.fixture(scope="module")
def found():
    """A network that has looked at its object in tiles: itself, the tiles, the mask, how many."""
    network, tiles = Ripples(1500), TiledObjects(MICRO)
    mask = network.predict(tiles)
    return network, tiles, mask, len(network.windows)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@given(size=st.integers(1, 700), side=st.sampled_from([32, 64, 384]))
@settings(max_examples=60, deadline=None)
def test_the_tiles_of_every_pixel_count_once_in_all(size, side):
    total = np.zeros(size)
    for start, weights in _weights(size, side):
        assert (weights >= 0).all()
        total[start : start + len(weights)] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("spoils_edges", [False, True])
def test_an_outline_is_found_to_the_pixel_whatever_a_tile_says_at_its_edges(found, spoils_edges):
    network, _, mask, _ = found
    if spoils_edges:
        network = Ripples(1500, spoils_edges)
        mask = network.predict(TiledObjects(MICRO))
    coarse = network.whole(network.box())
    assert max(coarse.transform.scale) < 1 / 20
    assert iou(mask.to_array(), network.truth()) > 0.999
    assert mask.score == 0.9
    row0, col0, row1, col1 = mask.bbox
    assert mask.crop.shape == (row1 - row0, col1 - col0)
    assert mask.crop[0].any()
    assert mask.crop[:, -1].any()


def test_the_time_is_that_of_the_outline_and_not_of_the_area():
    counts = []
    for size in (700, 2100):
        network = Ripples(size)
        network.predict(TiledObjects(MICRO))
        counts.append(len(network.windows))
    assert counts[1] < 5 * counts[0]  # by its area it would be 9 times


def test_what_changes_in_one_place_is_looked_at_there_alone(found):
    network, tiles, _, everywhere = found
    network.windows = []
    prompts = Prompts(network.box(), [(750, 1275)], [True])
    network.predict(tiles, prompts)
    assert 0 < len(network.windows) < everywhere / 8
    for window in network.windows:
        assert window.row0 <= 750 < window.row1 * window.step
    network.windows = []
    network.predict(tiles, prompts)
    assert not network.windows


def test_a_scribble_is_looked_at_along_its_whole_line(found, monkeypatch):
    network, tiles, *_ = found
    network.windows, asked = [], []
    look = network.look_at

    def look_at(window, prompts, start):
        asked.append(prompts.strokes)
        return look(window, prompts, start)

    monkeypatch.setattr(network, "look_at", look_at)
    line = ((400.0, 700.0), (400.0, 1000.0))
    network.predict(tiles, Prompts.from_strokes(network.box(), [(line, True)]))
    assert all(one for one in asked)
    native = [w for w in network.windows if w.step == 1]
    assert min(w.col0 for w in native) <= 700 < 1000 < max(w.col1 for w in native)
    assert len(native) >= 300 // SIDE
    for strokes in asked:
        for places, is_foreground in strokes:
            assert is_foreground
            assert {row for row, _ in places} == {400.0}


def test_an_image_set_anew_is_looked_at_anew():
    network, tiles = Ripples(600), TiledObjects(MICRO)
    network.predict(tiles)
    count = len(network.windows)
    tiles.clear()
    network.predict(tiles)
    assert len(network.windows) == 2 * count


def test_progress_goes_up_to_the_number_of_tiles_and_can_end_the_work():
    network, told = Ripples(1500), []
    network.predict(TiledObjects(MICRO), progress=lambda *counts: told.append(counts))
    assert [done for done, _ in told] == list(range(len(network.windows)))
    assert all(done < total for done, total in told)
    assert told[-1][1] == len(network.windows)
    # What was said of it at first was not far off.
    assert 0.5 < told[0][1] / len(network.windows) < 2

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    network.windows = []
    with pytest.raises(KeyboardInterrupt):
        network.predict(TiledObjects(MICRO), progress=stop)
    assert len(network.windows) == 3


def test_nothing_found_in_the_whole_is_nothing():
    network = Ripples(1500)
    seen = network.whole(network.box())
    mask = network.predict(TiledObjects(MICRO), whole=replace(seen, logits=seen.logits * 0 - 1))
    assert mask.area == 0
    assert not network.windows


def test_tiles_are_of_the_largest_frame_that_the_network_knows():
    from napari_pisam.model.variants import VARIANTS, Focus

    assert TiledObjects(VARIANTS["sam_vit_b"]).side == 1024
    assert TiledObjects(replace(VARIANTS["tiny"], focus=Focus(frame=512))).side == 512
    tiles = TiledObjects(VARIANTS["tiny"])
    assert not tiles.is_large(Prompts((0, 0, 1024, 1000)))
    assert tiles.is_large(Prompts((0, 0, 900, 1025)))


@pytest.mark.weights
@pytest.mark.slow
def test_seams_of_forced_tiles_are_not_seen():
    """Tiles of 512 px against one frame of 1,024, with the embedded model."""
    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.weights.loading import load_model

    network = Ripples(1024)
    noise = np.random.default_rng(0).normal(0, 12, network.shape)
    image = np.where(network.truth(), 150, 90) + ndimage.gaussian_filter(noise, 1.5) * 3
    image = np.clip(image, 0, 255).astype(np.uint8)
    model = load_model("tiny").model
    # Else a box of this size would be seen in a smaller frame, which is another question.
    model.variant = replace(model.variant, focus=replace(model.variant.focus, frame=1024))
    predictor = Predictor(model, "cpu", "fp32")
    predictor.set_image(image)
    one = predictor.predict(box=network.box()).to_array()
    predictor._tiles = TiledObjects(model.variant, 512)
    told = []
    tiled = predictor.predict(box=network.box(), progress=lambda *n: told.append(n)).to_array()
    assert len(told) >= 4
    outline = ndimage.binary_dilation(one, iterations=3) & ~ndimage.binary_erosion(
        one, iterations=3
    )
    assert iou(one & ~outline, tiled & ~outline) >= 0.99
    assert iou(tiled, network.truth()) >= iou(one, network.truth()) - 0.005


@pytest.mark.weights
@pytest.mark.slow
def test_thin_lines_are_found_in_the_images_own_pixels():
    """Lines of 3 px in a box of 1,000 px, whose window is shown at less than half its size."""
    from skimage.draw import line

    from napari_pisam.predict.predictor import Predictor
    from napari_pisam.weights.loading import load_model

    rng = np.random.default_rng(0)
    truth = np.zeros((1200, 1200), bool)
    for start in np.linspace(150, 1050, 9).round().astype(int):
        across = (start + 40 * np.sin(np.linspace(0, 7, 21) + start)).round().astype(int)
        along = np.linspace(100, 1100, 21).round().astype(int)
        for ends in itertools.pairwise(zip(across, along, strict=True)):
            truth[line(*ends[0], *ends[1])] = True
    truth = ndimage.binary_dilation(truth, iterations=1)
    image = np.where(truth, 90, 150) + rng.normal(0, 12, truth.shape)
    predictor = Predictor(load_model("tiny").model, "cpu", "fp32")
    predictor.set_image(np.clip(image, 0, 255).astype(np.uint8))
    rows, cols = np.nonzero(truth)
    edges = rows.min() - 0.5, cols.min() - 0.5, rows.max() + 0.5, cols.max() + 0.5
    prompts = Prompts(edges, answer="fine")
    tiled = predictor.predict(prompts).to_array()
    reduced = predictor.predict_whole(prompts).as_mask(truth.shape).to_array()
    assert iou(tiled, truth) > iou(reduced, truth) + 0.05, (iou(tiled, truth), iou(reduced, truth))
