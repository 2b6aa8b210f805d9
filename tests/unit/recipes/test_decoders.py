"""Decoders on one footing: SAM and HQ-SAM train and click in the loop that Pi-SAM trains in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from micro import micro_model
from napari_pisam.model import variants
from napari_pisam.model.pisam import build_model
from napari_pisam.predict.predictor import Predictor
from napari_pisam.weights.checkpoint_format import save_checkpoint
from recipes.tiny.config import RecipeConfig
from recipes.tiny.export import model_of_run, run_of
from recipes.tiny.starting import compared_variant, starting_model
from recipes.tiny.training import fit
from training_sets import write_sets

if TYPE_CHECKING:
    from pathlib import Path

DECODERS = ("sam", "hqsam", "pisam")
BOX = torch.tensor([[10.0, 12.0, 50.0, 44.0]])
POINTS = torch.tensor([[[20.0, 22.0], [5.0, 5.0]]])
LABELS = torch.tensor([[1, 0]])


def settings(tmp_path: Path, decoder: str, **changes) -> RecipeConfig:
    values = {
        "data": tmp_path,
        "output": tmp_path / f"run_{decoder}",
        "decoder": decoder,
        "frame": 64,
        "batch": 2,
        "steps": 2,
        "warmup": 1,
        "workers": 0,
        "validation_objects": 1,
        "mixture": (1.0, 0.0, 0.0),
        "rigid": True,
    }
    return RecipeConfig.model_validate(values | changes)


@pytest.mark.parametrize("kind", ["sam", "hqsam"])
def test_clicks_are_decoded_with_the_box_and_the_mask_before_them(kind):
    model = micro_model(kind=kind)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        image = model.encode(picture)
        first = model.decode(image, boxes=BOX)
        expected = model.decode(image, boxes=BOX, points=POINTS, labels=LABELS, masks=first.low_res)
        decoded = model.decode(image, boxes=BOX)
        corrected = model.correct(image, decoded, POINTS, LABELS, boxes=BOX)
        fine = model.upscale(image, corrected)
    torch.testing.assert_close(fine, model.upscale(image, expected))
    assert (fine - model.upscale(image, first)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["sam", "hqsam"])
def test_clicks_alone_are_decoded_all_together(kind):
    model = micro_model(kind=kind)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        image = model.encode(picture)
        decoded = model.decode(image, points=POINTS[:, :1], labels=LABELS[:, :1])
        corrected = model.correct(image, decoded, POINTS, LABELS)
        expected = model.decode(image, points=POINTS, labels=LABELS)
    torch.testing.assert_close(corrected.low_res, expected.low_res)


def test_the_three_differ_in_nothing_but_the_decoder():
    tiny = variants.get_variant("tiny")
    made = [compared_variant(tiny, decoder) for decoder in DECODERS]
    assert [one.kind for one in made] == list(DECODERS)
    assert len({(one.encoder, one.frame, one.focus, one.box_maps) for one in made}) == 1
    assert not any(one.appearance_prior or one.click_maps or one.local_clicks for one in made)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_each_decoder_trains_and_is_used_like_a_model(tmp_path: Path, decoder):
    write_sets(tmp_path)
    config = settings(tmp_path, decoder)
    result = fit(config)
    assert result.step == 2
    assert set(result.last) == {"cells", "discs", "mushrooms"}
    assert run_of(config.output / "last.pt") == config.output
    model, read = model_of_run(config.output)
    assert (model.variant.kind, read.decoder) == (decoder, decoder)
    predictor = Predictor(model)
    predictor.set_image(np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8))
    mask = predictor.predict(box=(10, 10, 50, 60), points=[(30, 30)], labels=[True])
    assert mask.to_array().shape == (80, 90)


def test_all_start_from_the_same_encoder_and_transformer(tmp_path: Path):
    tiny = build_model("tiny", seed=5)
    save_checkpoint(tmp_path / "start.safetensors", tiny, licence="MIT", training_summary={})
    given = tiny.state_dict()
    for decoder in DECODERS:
        model = starting_model(settings(tmp_path, decoder, initial=tmp_path / "start.safetensors"))
        state = model.state_dict()
        shared = [k for k in state if k.startswith(("image_encoder.", "mask_decoder.transformer."))]
        assert shared
        assert all(torch.equal(state[key], given[key]) for key in shared)
        own = "mask_decoder.output_hypernetworks_mlps.0.layers.0.weight"
        assert not torch.equal(state[own], given[own])


def test_weights_of_another_encoder_are_no_start(tmp_path: Path):
    torch.save({"ema": {"image_encoder.x": torch.zeros(1)}}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"lacks \d+ weight"):
        starting_model(settings(tmp_path, "sam", initial=tmp_path / "last.pt"))


def test_a_pisam_starts_without_help_from_the_box(tmp_path: Path):
    model = starting_model(settings(tmp_path, "pisam"))
    assert float(model.prior_gain) == 0
    assert not model.prior_gain.requires_grad
