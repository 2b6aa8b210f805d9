from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pisam.learn.losses import (
    balanced_bce_loss,
    click_loss,
    dice_loss,
    local_loss,
)


def square(side: int = 16) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., 4:12, 4:12] = 1
    return mask


def test_dice_is_nearly_zero_for_the_truth_and_nearly_one_for_its_opposite() -> None:
    mask, valid = square(), torch.ones(1, 1, 16, 16)
    assert dice_loss(40 * mask - 20, mask, valid).item() == pytest.approx(0, abs=1e-4)
    assert dice_loss(20 - 40 * mask, mask, valid).item() == pytest.approx(1, abs=0.01)


def test_dice_agrees_with_the_overlap_counted_by_hand() -> None:
    mask, valid = square(), torch.ones(1, 1, 16, 16)
    predicted = torch.zeros_like(mask)
    predicted[..., 4:12, 8:16] = 1  # half of the square, and as much beside it
    expected = 1 - (2 * 32 + 1) / (64 + 64 + 1)
    assert dice_loss(40 * predicted - 20, mask, valid).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss", [dice_loss, balanced_bce_loss])
def test_what_lies_in_the_padding_does_not_count(loss) -> None:  # type: ignore[no-untyped-def]
    mask, valid = square(), torch.ones(1, 1, 16, 16)
    valid[..., 12:] = 0
    logits = torch.randn(1, 1, 16, 16)
    other = logits.clone()
    other[..., 12:] = 30.0
    torch.testing.assert_close(loss(logits, mask, valid), loss(other, mask, valid))


def test_cross_entropy_weighs_a_missed_thin_line_more_than_its_share_of_pixels() -> None:
    mask, valid = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    mask[..., 32, :] = 1
    plain = torch.nn.functional.binary_cross_entropy_with_logits(torch.full_like(mask, -6), mask)
    assert balanced_bce_loss(torch.full_like(mask, -6), mask, valid).item() > 10 * plain.item()


def test_losses_are_per_mask_and_finite_for_extreme_logits() -> None:
    mask = square().expand(3, 1, 16, 16)
    valid = torch.ones_like(mask)
    logits = torch.tensor([-1e4, 0.0, 1e4]).view(3, 1, 1, 1).expand_as(mask)
    for loss in (dice_loss, balanced_bce_loss):
        values = loss(logits, mask, valid)
        assert values.shape == (3,)
        assert torch.isfinite(values).all()


def test_click_loss_reads_the_pixel_that_was_clicked() -> None:
    logits = torch.full((1, 1, 8, 16), -5.0)
    logits[0, 0, 2, 11] = 5.0
    clicked = torch.tensor([[[11.5, 2.5], [3.0, 3.0]]])
    right, wrong = torch.tensor([[1, -1]]), torch.tensor([[0, -1]])
    assert click_loss(logits, clicked, right).item() == pytest.approx(np.log1p(np.exp(-5)))
    assert click_loss(logits, clicked, wrong).item() == pytest.approx(5 + np.log1p(np.exp(-5)))


def test_click_loss_without_clicks_is_zero() -> None:
    none = torch.tensor([[-1]])
    assert click_loss(torch.randn(1, 1, 8, 8), torch.zeros(1, 1, 2), none).item() == 0


def test_near_a_click_wrong_pixels_weigh_as_much_as_all_right_ones_and_far_ones_nothing() -> None:
    mask, valid = square(), torch.ones(1, 1, 16, 16)
    before = mask > 0.5
    before[..., 4, 4] = False  # one pixel of the square is missed
    around = torch.zeros_like(before)
    around[..., :8, :8] = True
    logits = (torch.where(before, 2.0, -2.0)).requires_grad_()
    loss = local_loss(logits, mask, valid, before, around)
    wrong, right = float(np.log1p(np.exp(2.0))), float(np.log1p(np.exp(-2.0)))
    assert loss.item() == pytest.approx(0.5 * wrong + 0.5 * right, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[~around].any()
    assert gradient[..., 4, 4].abs().item() > 10 * gradient[..., 5, 5].abs().item()
    nowhere = local_loss(logits, mask, valid, before, torch.zeros_like(around))
    assert nowhere.item() == 0
