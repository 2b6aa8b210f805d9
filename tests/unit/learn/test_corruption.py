from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from micro import micro_model
from napari_pisam.learn.corruption import decode_with_flaws, flaws

SIDE = 64


def disc(radius: float) -> np.ndarray:
    ys, xs = np.ogrid[:SIDE, :SIDE]
    return np.hypot(ys - 30, xs - 34) < radius


@pytest.mark.parametrize("predicted_radius", [8, 12, 16])
def test_a_mask_gets_the_kinds_of_error_that_it_lacks(predicted_radius: float) -> None:
    truth, found = disc(12), disc(predicted_radius)
    inside = np.ones_like(truth)
    inside[:, 60:] = False
    for seed in range(20):
        drawn = flaws(found[None], truth[None], inside[None], [np.random.default_rng(seed)])[0]
        spoilt = np.where(drawn, drawn > 0, found)
        assert (truth & ~spoilt).any()
        assert (spoilt & ~truth & inside).any()
        assert not (drawn.astype(bool) & ~inside).any()
        # What was wrong stays as it is.
        assert (spoilt == found)[truth != found].all()


def test_a_mask_with_errors_of_both_kinds_is_left_alone() -> None:
    truth = disc(12)
    found = np.roll(truth, 3, axis=0)
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert not flaws(found[None], truth[None], np.ones_like(truth)[None], [rng]).any()
    assert rng.bit_generator.state == state


def test_a_flaw_is_in_the_mask_that_is_corrected_and_in_what_the_embedder_sees() -> None:
    model = micro_model(residual=True)
    with torch.inference_mode():
        image = model.encode(torch.rand(1, 3, model.frame, model.frame) * 255)
        decode = partial(model.decode, image, boxes=torch.tensor([[20.0, 16.0, 48.0, 44.0]]))
        plain = decode()
        truth = model.upscale(image, plain)[0].numpy() > 0
        assert 30 < truth.sum() < truth.size - 30
        drawn = flaws(truth, truth, np.ones_like(truth), [np.random.default_rng(1)])
        flawed = decode_with_flaws(model, decode, drawn)
        found = model.upscale(image, flawed)[0].numpy() > 0
        assert (truth & ~found).any()
        assert (found & ~truth).any()
        assert not torch.allclose(plain.feature, flawed.feature)
        again = decode()
    torch.testing.assert_close(plain.coarse, again.coarse)
