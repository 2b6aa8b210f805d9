from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pisam.learn.losses import (
    balanced_bce_loss,
    click_loss,
    dice_loss,
    local_loss,
    point_loss,
    uncertain_points,
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


def rngs(count: int = 1) -> list[np.random.Generator]:
    return [np.random.default_rng((7, i)) for i in range(count)]


def edge(side: int = 64) -> torch.Tensor:
    """Logits that are sure on either side of a vertical line in the middle."""
    columns = torch.arange(side) + 0.5 - side / 2
    return columns.expand(1, 1, side, side).contiguous()


def test_three_quarters_of_the_points_are_where_the_mask_is_unsure() -> None:
    points = uncertain_points(edge(), torch.ones(1, 1, 64, 64), rngs())
    assert points.shape == (1, 112**2, 2)
    near = (points[0, :, 0] - 0.5).abs()
    count = int(0.75 * 112**2)
    # The 3/4 of n nearest of 3 n uniform points lie within an eighth of the frame of the line.
    assert near[:count].max().item() == pytest.approx(0.125, abs=0.01)
    assert near[count:].mean().item() == pytest.approx(0.25, abs=0.01)


def test_the_loss_of_points_is_that_of_all_pixels_where_none_is_surer_than_another() -> None:
    mask, valid = square(64).roll(8, dims=3), torch.ones(1, 1, 64, 64)
    logits = torch.full_like(mask, -1.5)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
    probability = torch.sigmoid(torch.tensor(-1.5))
    share = mask.mean()
    dice = 1 - 2 * probability * share / (probability + share)
    expected = (bce + dice).item()
    assert point_loss(logits, mask, valid, rngs()).item() == pytest.approx(expected, rel=0.03)


def test_points_in_the_padding_do_not_count() -> None:
    mask, valid = square(), torch.ones(1, 1, 16, 16)
    valid[..., 12:] = 0
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[..., 12:] = 30.0
    torch.testing.assert_close(
        point_loss(logits, mask, valid, rngs()), point_loss(other, mask, valid, rngs())
    )


def test_the_points_of_an_object_do_not_depend_on_the_others() -> None:
    mask, valid = square().expand(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    logits = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    both = point_loss(logits, mask, valid, rngs(2))
    apart = [point_loss(logits[i : i + 1], mask[:1], valid[:1], [rngs(2)[i]]) for i in range(2)]
    torch.testing.assert_close(both, torch.stack(apart).mean())


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
