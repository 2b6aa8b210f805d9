"""Parts switched off, and what a model costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from micro import micro_model
from napari_pisam.evaluate import efficiency
from napari_pisam.evaluate.ablation import ablated, ablations
from napari_pisam.predict.predictor import Predictor

BOX = torch.tensor([[8.0, 10.0, 50.0, 40.0]])


def fine_logits(model):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        encoded = model.encode(image)
        decoded = model.decode(encoded, boxes=BOX)
        return model.upscale(encoded, decoded), decoded


@pytest.mark.parametrize("residual", [False, True])
def test_without_the_head_the_coarse_logits_are_enlarged(residual):
    logits, decoded = fine_logits(ablated(micro_model(residual=residual), head=False))
    expected = F.interpolate(decoded.coarse, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_without_the_embedder_the_feature_knows_nothing_of_the_coarse_mask():
    model = micro_model()
    seen = []
    model.mask_decoder.mask_aspp.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    fine_logits(model)
    _, decoded = fine_logits(ablated(model, embedder=False))
    torch.testing.assert_close(decoded.feature, seen[0])
    assert len(seen) == 1


def test_without_the_rgb_embedding_only_the_feature_counts():
    model = micro_model()
    off = ablated(model, rgb=False)
    with torch.no_grad():
        model.rgb_embedding[1].weight.zero_()
        model.rgb_embedding[1].bias.zero_()
    torch.testing.assert_close(fine_logits(off)[0], fine_logits(model)[0])


def test_switching_off_changes_neither_the_model_nor_its_weights():
    model = micro_model()
    before, _ = fine_logits(model)
    off = ablated(model, rgb=False, head=False, embedder=False)
    torch.testing.assert_close(fine_logits(model)[0], before, rtol=0, atol=0)
    assert off.image_encoder is model.image_encoder
    assert not torch.allclose(fine_logits(off)[0], before)


def test_every_row_of_the_table_predicts():
    image = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    for model in ablations(micro_model()).values():
        predictor = Predictor(model, "cpu")
        predictor.set_image(image)
        mask = predictor.predict(box=(5, 5, 30, 40), points=[(10, 10)], labels=[True])
        assert mask.shape == (40, 50)


def test_a_sam_has_nothing_to_switch_off():
    with pytest.raises(ValueError, match="Choose a pisam variant"):
        ablated(micro_model(kind="sam"), rgb=False)


@pytest.mark.parametrize("kind", ["hqsam", "pisam"])
def test_learnable_is_all_that_a_sam_does_not_have(kind):
    sam = {name for name, _ in micro_model(kind="sam").named_parameters()}
    added = [p.numel() for n, p in micro_model(kind=kind).named_parameters() if n not in sam]
    total, share = efficiency.count_parameters(micro_model(kind=kind))
    assert share == pytest.approx(sum(added) / total)
    assert total == sum(p.numel() for p in micro_model(kind=kind).parameters())


def test_all_of_a_sam_is_learnable():
    assert efficiency.count_parameters(micro_model(kind="sam"))[1] == 1


def test_flops_are_two_for_a_multiplication_and_its_addition():
    layer = nn.Linear(7, 5, bias=False)
    assert efficiency.count_flops(lambda: layer(torch.ones(3, 7))) == 2 * 3 * 7 * 5


def test_a_model_is_measured():
    cost = efficiency.measure(micro_model(), "cpu", "fp32", repeats=1)
    assert cost.fps > 0
    # The patch embedding alone: 16 patches of 16 x 16 x 3 values to 32 channels.
    assert cost.flops > 2 * 16 * (16 * 16 * 3) * 32
    assert set(cost.as_json()) == {"fps", "flops", "parameters", "learnable"}


def test_what_a_model_costs_is_measured_in_any_precision():
    found = [efficiency.measure(micro_model(), "cpu", name, repeats=1) for name in ("fp32", "bf16")]
    assert found[0].flops == found[1].flops > 0
