from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from micro import MICRO, micro_model
from napari_pisam.model.pisam import PiSam, build_model
from napari_pisam.model.variants import VARIANTS, CompactEncoder, VitEncoder, get_variant

FRAME = 64
BOX = torch.tensor([[8.0, 10.0, 40.0, 50.0]])
POINTS = torch.tensor([[[20.0, 30.0], [50.0, 12.0]]])
LABELS = torch.tensor([[1, 0]])


def original_sam(model: PiSam) -> Sam:
    """segment_anything's own network with the weights of a micro SAM."""
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=FRAME,
            embed_dim=32,
            depth=2,
            num_heads=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(FRAME // 16, FRAME // 16),
            input_image_size=(FRAME, FRAME),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    sam.load_state_dict(model.state_dict(), strict=False)
    missing = set(sam.state_dict()) - set(model.state_dict()) - {"pixel_mean", "pixel_std"}
    assert not missing
    return sam.eval()


PROMPTS: dict[str, dict[str, Any]] = {
    "box": {"boxes": BOX},
    "points": {"points": POINTS, "labels": LABELS},
    "box and points": {"boxes": BOX, "points": POINTS, "labels": LABELS},
    "mask": {"boxes": BOX, "masks": torch.linspace(-9, 9, 256).reshape(1, 1, 16, 16)},
}


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", list(PROMPTS))
@torch.inference_mode()
def test_a_sam_variant_equals_segment_anything(prompt: str, multimask: bool) -> None:
    model = micro_model(kind="sam")
    sam = original_sam(model)
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(1)) * 255
    arguments = PROMPTS[prompt]
    theirs_input: dict[str, Any] = {"image": image, "original_size": (48, 64)}
    if "boxes" in arguments:  # segment_anything counts pixel centres at integers
        theirs_input["boxes"] = arguments["boxes"] - 0.5
    if "points" in arguments:
        theirs_input["point_coords"] = arguments["points"] - 0.5
        theirs_input["point_labels"] = arguments["labels"]
    if "masks" in arguments:
        theirs_input["mask_inputs"] = arguments["masks"]
    theirs = sam([theirs_input], multimask_output=multimask)[0]

    encoded = model.encode(image.unsqueeze(0))
    decoded = model.decode(encoded, multimask=multimask, **arguments)

    torch.testing.assert_close(decoded.low_res, theirs["low_res_logits"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.iou, theirs["iou_predictions"], atol=1e-4, rtol=1e-4)
    fine = model.upscale(encoded, decoded)
    full = F.interpolate(
        theirs["low_res_logits"], (FRAME, FRAME), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(fine, full, atol=1e-4, rtol=1e-4)


@cache
def without_weights(name: str) -> PiSam:
    """Return a variant of which the shapes alone take part."""
    with torch.device("meta"):
        return PiSam(VARIANTS[name])


def test_all_variants_can_be_built_with_segment_anything_s_sizes() -> None:
    # Embedding widths, depths and heads of segment_anything's registry.
    sizes = {"b": (768, 12, 12), "l": (1024, 24, 16), "h": (1280, 32, 16)}
    assert len(VARIANTS) == 13
    for name, variant in VARIANTS.items():
        model = without_weights(name)
        assert model.frame == 1024
        if isinstance(variant.encoder, VitEncoder):
            width, depth, heads = sizes[name[-1]]
            assert model.state_dict()["image_encoder.pos_embed"].shape == (1, 64, 64, width)
            assert len(model.image_encoder.blocks) == depth
            assert model.image_encoder.blocks[0].attn.num_heads == heads


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_trainable_parameters_of_pisam_are_the_published_count(size: str) -> None:
    published = {"b": 1.395e6, "l": 1.657e6, "h": 1.920e6}[size]
    pisam, sam = without_weights(f"pisam_vit_{size}"), without_weights(f"sam_vit_{size}")
    new = sum(p.numel() for p in pisam.parameters()) - sum(p.numel() for p in sam.parameters())
    interactor = sum(p.numel() for p in pisam.mask_decoder.interact_2.parameters())
    assert interactor == pytest.approx(0.167e6, rel=0.01)
    assert new - interactor == pytest.approx(published, rel=0.01)


def test_an_unknown_variant_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'vit_x'(?=.*\btiny\b).*pisam_vit_h"):
        get_variant("vit_x")


@torch.inference_mode()
def test_shapes_of_every_stage_for_several_prompts_of_one_image() -> None:
    model = micro_model()
    encoded = model.encode(torch.rand(1, 3, 40, 64) * 255)
    decoded = model.decode(encoded, boxes=BOX.expand(3, 4))
    corrected = model.correct(encoded, decoded, POINTS.expand(3, -1, -1), LABELS.expand(3, -1))
    assert encoded.embedding.shape == (1, 256, 4, 4)
    assert encoded.rgb is not None
    assert encoded.rgb.shape == (1, 8, 64, 64)
    assert encoded.size == (40, 64)
    assert decoded.coarse.shape == (3, 1, 16, 16)
    assert decoded.feature.shape == corrected.feature.shape == (3, 32, 16, 16)
    assert model.upscale(encoded, corrected).shape == (3, 1, 64, 64)


@torch.inference_mode()
def test_a_batch_of_images_gives_what_each_image_gives_alone() -> None:
    model = micro_model()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    boxes = torch.cat([BOX, BOX + 5])
    both = model.encode(images)
    together = model.upscale(both, model.decode(both, boxes=boxes))
    for i in range(2):
        one = model.encode(images[i : i + 1])
        alone = model.upscale(one, model.decode(one, boxes=boxes[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_padding_clicks_change_nothing() -> None:
    model = micro_model()
    encoded = model.encode(torch.rand(1, 3, 64, 64) * 255)
    decoded = model.decode(encoded, boxes=BOX)
    padded_points = torch.cat([POINTS, torch.full((1, 3, 2), 7.0)], dim=1)
    padded_labels = torch.cat([LABELS, torch.full((1, 3), -1)], dim=1)
    torch.testing.assert_close(
        model.correct(encoded, decoded, POINTS, LABELS).feature,
        model.correct(encoded, decoded, padded_points, padded_labels).feature,
        atol=1e-5,
        rtol=1e-5,
    )


@torch.inference_mode()
def test_the_order_of_clicks_changes_nothing() -> None:
    model = micro_model(click_maps=True)
    encoded = model.encode(torch.rand(1, 3, 64, 64) * 255)
    decoded = model.decode(encoded, boxes=BOX)
    torch.testing.assert_close(
        model.correct(encoded, decoded, POINTS, LABELS).feature,
        model.correct(encoded, decoded, POINTS.flip(1), LABELS.flip(1)).feature,
        atol=1e-5,
        rtol=1e-5,
    )


@torch.inference_mode()
def test_click_order_rc_swaps_the_coordinates() -> None:
    xy, rc = micro_model(), micro_model(click_order="rc")
    encoded = xy.encode(torch.rand(1, 3, 64, 64) * 255)
    decoded = xy.decode(encoded, boxes=BOX)
    torch.testing.assert_close(
        rc.correct(encoded, decoded, POINTS.flip(-1), LABELS).feature,
        xy.correct(encoded, decoded, POINTS, LABELS).feature,
    )


@torch.inference_mode()
def test_an_untrained_residual_pisam_gives_its_coarse_mask() -> None:
    model = build_model(replace(MICRO, residual=True))
    encoded = model.encode(torch.rand(1, 3, 64, 64) * 255)
    decoded = model.decode(encoded, boxes=BOX)
    enlarged = F.interpolate(decoded.coarse, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.upscale(encoded, decoded), enlarged)


def test_of_two_answers_the_one_with_the_higher_estimate_or_the_wanted_one_is_given() -> None:
    model = micro_model(fine_answer=True)
    boxes = torch.cat([BOX, BOX / 2])
    with torch.no_grad():
        image = model.encode(torch.rand(1, 3, FRAME, FRAME) * 255)
        wanted = torch.zeros(2, dtype=torch.bool)
        solid = model.decode(image, boxes=boxes, wants_fine=wanted)
        fine = model.decode(image, boxes=boxes, wants_fine=~wanted)
        chosen = model.decode(image, boxes=boxes)
        mixed = model.decode(image, boxes=boxes, wants_fine=torch.tensor([True, False]))
        masks = (fine.coarse > 0).float() * 20 - 10
        alike = model.decode(image, boxes=boxes, masks=masks)
    assert not torch.allclose(solid.coarse, fine.coarse)
    torch.testing.assert_close(solid.low_res, fine.low_res.flip(1))
    torch.testing.assert_close(solid.iou, fine.iou.flip(1))
    assert (chosen.iou[:, 0] >= chosen.iou[:, 1]).all()
    shared, either = (
        part.flatten(2).sum(2)
        for part in ((alike.low_res > 0) & (masks > 0), (alike.low_res > 0) | (masks > 0))
    )
    agreement = shared / either
    assert (agreement[:, 0] >= agreement[:, 1]).all()
    for part in ("coarse", "feature", "token", "iou", "low_res"):
        pair = getattr(fine, part)[0], getattr(solid, part)[1]
        torch.testing.assert_close(getattr(mixed, part), torch.stack(pair))


def test_a_loss_after_clicks_trains_the_interactor_and_the_rgb_embedding() -> None:
    model = micro_model().train()
    encoded = model.encode(torch.rand(1, 3, 64, 64) * 255)
    decoded = model.decode(encoded, boxes=BOX)
    corrected = model.correct(encoded, decoded, POINTS, LABELS)
    model.upscale(encoded, corrected).mean().backward()
    for part in (model.mask_decoder.interact_2, model.rgb_embedding, model.image_encoder):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())


def test_no_prompt_is_an_error_that_says_what_to_give() -> None:
    model = micro_model()
    encoded = model.encode(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="There is no prompt"):
        model.decode(encoded)


def test_points_without_labels_are_an_error() -> None:
    model = micro_model()
    encoded = model.encode(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="belong together"):
        model.decode(encoded, points=POINTS)


def test_an_image_larger_than_the_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 65, 64\).*at most 64"):
        micro_model().encode(torch.zeros(1, 3, 65, 64))


def test_building_a_model_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_model(MICRO)
    torch.testing.assert_close(torch.rand(3), expected)
    second = build_model(MICRO)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_a_compact_encoder_keeps_the_contract_at_any_frame() -> None:
    for frame in (64, 128):
        model = build_model(replace(get_variant("tiny"), frame=frame))
        with torch.inference_mode():
            encoded = model.encode(torch.rand(1, 3, frame, frame) * 255)
        assert encoded.embedding.shape == (1, 256, frame // 16, frame // 16)
        assert encoded.hq_features is not None
        assert encoded.hq_features.shape == (1, 32, frame // 4, frame // 4)


def test_a_backbone_without_stride_four_is_refused() -> None:
    variant = replace(get_variant("tiny"), encoder=CompactEncoder("vit_tiny_patch16_224"))
    with pytest.raises(ValueError, match="strides 4, 8, 16 and 32"):
        PiSam(variant)
