"""The likelihood of a colour inside a box, against counting by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_pisam.model.appearance_prior import (
    LEVELS,
    AppearancePrior,
    appearance,
    likelihoods,
)
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import get_variant


def red_disc(side=64, radius=14):
    rows, cols = np.mgrid[:side, :side]
    disc = (rows - 30) ** 2 + (cols - 34) ** 2 < radius**2
    image = np.full((3, side, side), 60, np.float32)
    image[0][disc] = 220
    return torch.from_numpy(image)[None], torch.from_numpy(disc)


def box_map(low, high, side):
    inside = torch.zeros(1, 1, side, side)
    inside[..., low[0] : high[0], low[1] : high[1]] = 1
    return inside


def test_the_object_s_colour_is_likely_and_the_background_s_is_not():
    image, disc = red_disc()
    bins = appearance(image, 64)
    found = likelihoods(bins, box_map((8, 10), (22, 24), 32))[0, 0]
    inner = torch.from_numpy(ndimage.binary_erosion(disc[::2, ::2].numpy(), iterations=3))
    outer = torch.from_numpy(~ndimage.binary_dilation(disc[::2, ::2].numpy(), iterations=3))
    assert found[inner].min() > 0.9
    assert found[outer].max() < 0.4


def test_bins_and_likelihoods_do_not_change_under_automatic_casts():
    # Machines that compute bfloat16 encode in it; numbers of bins above 256 need more digits.
    image = torch.from_numpy(
        np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 64)).astype(np.float32)
    )
    inside = box_map((8, 10), (22, 24), 32)
    bins = appearance(image, 64)
    found = likelihoods(bins, inside)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(appearance(image, 64), bins)
        assert torch.equal(likelihoods(bins, inside.bfloat16()), found)


def test_a_likelihood_is_the_share_of_smoothed_frequencies():
    rng = np.random.default_rng(0)
    bins = torch.from_numpy(rng.integers(0, LEVELS**3, (1, 2, 8, 8)).astype(np.float32))
    inside = box_map((2, 1), (6, 7), 8)
    found = likelihoods(bins, inside)[0, 1].numpy()

    index, mask = bins[0, 1].numpy().astype(int), inside[0, 0].numpy() > 0
    frequencies = []
    for chosen in (mask, ~mask):
        count = np.bincount(index[chosen], minlength=LEVELS**3).reshape((LEVELS,) * 3)
        smooth = ndimage.gaussian_filter(count.astype(float), 1.0, mode="constant", truncate=3.0)
        frequencies.append(smooth / smooth.sum())
    own, other = (f.ravel()[index] for f in frequencies)
    expected = ndimage.gaussian_filter(own / (own + other), 1.0, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_padding_counts_for_nothing():
    image, _ = red_disc()
    cropped = image[..., :48, :56]
    bins = appearance(cropped, 64)
    assert bool((bins[..., 24:, :] == -1).all())
    assert bool((bins[..., 28:] == -1).all())
    assert bool((bins[..., :24, :28] >= 0).all())
    inside = box_map((8, 10), (22, 24), 32)
    found = likelihoods(bins, inside)
    assert bool((found[..., 26:, :] == 0).all())


def test_a_batch_is_its_images_one_by_one():
    first, second = red_disc()[0], red_disc(radius=8)[0].flip(1)
    inside = torch.cat([box_map((8, 10), (22, 24), 32), box_map((4, 4), (30, 20), 32)])
    together = likelihoods(appearance(torch.cat([first, second]), 64), inside)
    for place, image in enumerate((first, second)):
        alone = likelihoods(appearance(image, 64), inside[place : place + 1])
        torch.testing.assert_close(together[place : place + 1], alone)


def test_one_image_serves_many_boxes():
    bins = appearance(red_disc()[0], 64)
    inside = torch.cat([box_map((8, 10), (22, 24), 32), box_map((4, 4), (30, 20), 32)])
    together = likelihoods(bins, inside)
    torch.testing.assert_close(together[1:], likelihoods(bins, inside[1:]))


@pytest.mark.parametrize("frame", [64, 1024])
def test_a_blank_image_and_a_box_around_everything_are_finite(frame):
    bins = appearance(torch.zeros(1, 3, frame, frame), frame)
    side = bins.shape[-1]
    assert torch.isfinite(likelihoods(bins, torch.ones(1, 1, side, side))).all()


def test_an_untrained_prior_adds_to_the_coarse_logits_alone():
    prior = AppearancePrior(256, 32)
    bins = appearance(red_disc()[0], 64)
    with torch.inference_mode():
        embedding, feature, coarse = prior(bins, box_map((4, 5), (11, 12), 16))
    assert embedding.shape == (1, 256, 4, 4)
    assert feature.shape == (1, 32, 16, 16)
    assert not embedding.any()
    assert not feature.any()
    assert float(coarse[0, 0, 7, 8]) > 1
    assert float(coarse[0, 0, 0, 0]) == 0


def test_the_embedded_model_s_untrained_network_follows_the_colour():
    model = build_model(replace(get_variant("tiny"), frame=64))
    image, disc = red_disc()
    with torch.inference_mode():
        encoded = model.encode(image)
        boxes = torch.tensor([[18.0, 14.0, 50.0, 46.0]])
        with_prior = model.decode(encoded, boxes=boxes).coarse
        without = model.decode(replace(encoded, bins=None), boxes=boxes).coarse
    change = (with_prior - without)[0, 0]
    assert change[disc[::4, ::4]].mean() > 1
    corner = change[5, 5]
    assert corner < change[7, 8]
