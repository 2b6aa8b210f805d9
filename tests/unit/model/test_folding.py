"""Folding batch norms must change the speed only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from micro import micro_model
from napari_pisam.model.folding import folded
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import CompactEncoder, get_variant


@pytest.fixture(scope="module", params=["hgnetv2_b0", "tf_efficientnet_lite0"])
def network(request):
    encoder = CompactEncoder(request.param)
    model = build_model(replace(get_variant("tiny"), encoder=encoder, frame=64))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.running_mean, module.bias):
                    value.normal_(0, 0.3, generator=generator)
                for value in (module.running_var, module.weight):
                    value.uniform_(0.5, 2, generator=generator)
        for name, parameter in model.named_parameters():
            if ".lab." in name:
                parameter.uniform_(-0.5, 1.5, generator=generator)
    return model


def test_the_folded_encoder_gives_the_same_features(network):
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    with torch.inference_mode():
        ours, theirs = folded(network).encode(image), network.encode(image)
    torch.testing.assert_close(ours.embedding, theirs.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.hq_features, theirs.hq_features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.rgb, theirs.rgb, rtol=1e-4, atol=1e-4)


def test_weights_cast_once_give_what_autocast_gives(network):
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        once, every_time = (
            one.encode(image) for one in (folded(network, torch.bfloat16), folded(network))
        )
    assert torch.equal(once.embedding, every_time.embedding)
    assert torch.equal(once.hq_features, every_time.hq_features)


def test_the_network_itself_keeps_its_norms_and_weights(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    view = folded(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in view.image_encoder.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.image_encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert view.mask_decoder is network.mask_decoder


def test_a_vit_is_returned_as_it_is():
    model = micro_model()
    assert folded(model) is model


def test_by_strips_the_head_gives_what_it_gives_at_once():
    decoder = micro_model(residual=True).mask_decoder
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        decoder.out_act[-1].weight.normal_(generator=generator)
    feature = torch.randn(2, 32, 70, 12, generator=generator)
    rgb = torch.randn(1, 8, 280, 48, generator=generator)
    at_once = decoder.head(feature, rgb).detach()  # as gradients want it
    with torch.inference_mode():
        torch.testing.assert_close(decoder.head(feature, rgb), at_once, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("region", [(0, 0, 16, 16), (3, 2, 9, 15), (0, 5, 16, 6), (15, 15, 16, 16)])
def test_inside_a_region_the_head_gives_what_it_gives_for_the_frame(region):
    model = micro_model(residual=True)
    row0, col0, row1, col1 = (4 * edge for edge in region)
    with torch.inference_mode():
        encoded = model.encode(torch.rand(1, 3, 64, 64) * 255)
        decoded = model.decode(encoded, boxes=torch.tensor([[8.0, 8.0, 40.0, 50.0]]))
        whole = model.upscale(encoded, decoded)
        part = model.upscale(encoded, decoded, region=region)
        coarse = nn.functional.interpolate(decoded.coarse, (64, 64), mode="bilinear")
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[row0:row1, col0:col1] = True
    torch.testing.assert_close(part[..., inside], whole[..., inside], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part[..., ~inside], coarse[..., ~inside])
