"""The interactor's attention is rearranged for speed; segment_anything's own is the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling.transformer import Attention

from napari_pisam.model.precise_interactor import (
    PreciseInteractor,
    image_to_tokens,
    tokens_to_image,
)


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    attention = Attention(32, 1)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return attention


@torch.inference_mode()
def test_image_to_tokens_equals_sam_s_attention(attention: Attention) -> None:
    image, tokens = torch.randn(2, 50, 32), torch.randn(2, 4, 32)
    ours = image_to_tokens(attention, image, tokens, torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(ours, attention(image, tokens, tokens), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_tokens_to_image_equals_sam_s_attention(attention: Attention) -> None:
    image, tokens = torch.randn(2, 50, 32), torch.randn(2, 4, 32)
    ours = tokens_to_image(attention, tokens, image)
    torch.testing.assert_close(ours, attention(tokens, image, image), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_padding_tokens_get_no_attention(attention: Attention) -> None:
    image, tokens = torch.randn(1, 50, 32), torch.randn(1, 4, 32)
    padding = torch.tensor([[False, False, True, True]])
    ours = image_to_tokens(attention, image, tokens, padding)
    expected = attention(image, tokens[:, :2], tokens[:, :2])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_grid_encoding_is_sam_s_and_follows_a_load_of_weights() -> None:
    interactor = PreciseInteractor(32)
    reference = interactor.pe_layer((6, 10)).flatten(1).T
    torch.testing.assert_close(interactor.grid_position_encoding((6, 10))[0], reference)
    other = PreciseInteractor(32)
    interactor.load_state_dict(other.state_dict())
    reference = other.pe_layer((6, 10)).flatten(1).T
    torch.testing.assert_close(interactor.grid_position_encoding((6, 10))[0], reference)


@torch.inference_mode()
def test_a_click_samples_the_feature_under_it() -> None:
    interactor = PreciseInteractor(32)
    feature = torch.zeros(1, 32, 8, 16)
    marked = feature.clone()
    marked[:, :, 5, 3] = 1.0  # row 5, column 3: x = 3.5 / 16, y = 5.5 / 8
    there, elsewhere = torch.tensor([[[3.5 / 16, 5.5 / 8]]]), torch.tensor([[[5.5 / 16, 3.5 / 8]]])
    label = torch.tensor([[1]])
    changed = [
        not torch.equal(
            interactor.embed_clicks(feature, point, label),
            interactor.embed_clicks(marked, point, label),
        )
        for point in (there, elsewhere)
    ]
    assert changed == [True, False]


def test_click_maps_peak_at_the_click_in_the_map_of_its_kind() -> None:
    interactor = PreciseInteractor(32, click_maps=True)
    points = torch.tensor([[[10.5 / 64, 20.5 / 32], [40.5 / 64, 4.5 / 32], [0.5, 0.5]]])
    maps = interactor._draw_clicks(points, torch.tensor([[1, 0, -1]]), (32, 64))[0]
    for foreground, background in ((maps[0], maps[1]), (maps[2], maps[3])):
        assert np.unravel_index(int(foreground.argmax()), (32, 64)) == (20, 10)
        assert np.unravel_index(int(background.argmax()), (32, 64)) == (4, 40)
        assert foreground.max() == background.max() == 1.0


def test_an_untrained_interactor_changes_nothing() -> None:
    interactor = PreciseInteractor(32, click_maps=True)
    feature = torch.randn(1, 32, 16, 16)
    result = interactor(
        feature, torch.randn(1, 32), torch.tensor([[[0.5, 0.5]]]), torch.tensor([[1]])
    )
    torch.testing.assert_close(result, feature)
