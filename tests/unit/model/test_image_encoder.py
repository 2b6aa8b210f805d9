"""The fused image encoder against segment_anything's own."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from napari_pisam.model import image_encoder
from napari_pisam.model.image_encoder import SamImageEncoder, build_vit_encoder

SMALL: dict[str, Any] = {
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "global_attn_indexes": (1, 3),
    "img_size": 256,
    "window_size": 14,
}


def _randomise(module: nn.Module, seed: int) -> None:
    """Draw every parameter, so that no bias and no position table is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "pos" not in name:
                noise /= parameter[0].numel() ** 0.5
            elif "pos" not in name:
                noise *= 0.2
            parameter.copy_(noise + 1 if name.endswith(("norm1.weight", "norm2.weight")) else noise)


def _pair(config: dict[str, Any]) -> tuple[SamImageEncoder, ImageEncoderViT]:
    """Return our encoder and segment_anything's with the same random weights."""
    ours = build_vit_encoder(**config).eval()
    theirs = ImageEncoderViT(
        **config,
        patch_size=16,
        mlp_ratio=4,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
    ).eval()
    _randomise(theirs, seed=0)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def _image(batch: int, size: int, valid: tuple[int, int] | None = None) -> Tensor:
    """Return normalised images, zero below and right of `valid` as SAM pads them."""
    image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    if valid is not None:
        image[:, :, valid[0] :] = 0
        image[:, :, :, valid[1] :] = 0
    return image


def _early_of(theirs: ImageEncoderViT, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the original's embedding and the output of its first global block, BHWC."""
    seen: list[Tensor] = []
    block = next(block for block in theirs.blocks if block.window_size == 0)
    handle = block.register_forward_hook(lambda _m, _i, output: seen.append(output))
    try:
        embedding = theirs(x)
    finally:
        handle.remove()
    return embedding, seen[0]


@pytest.mark.parametrize("window_size", [14, 7, 8])
@pytest.mark.parametrize("valid", [None, (160, 256), (256, 90)])
def test_embedding_and_early_feature_equal_the_original(
    window_size: int, valid: tuple[int, int] | None
) -> None:
    ours, theirs = _pair(SMALL | {"window_size": window_size})
    x = _image(1, 256, valid)
    with torch.no_grad():
        embedding, early = ours.forward_features(x)
        expected, expected_early = _early_of(theirs, x)
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(early, expected_early.permute(0, 3, 1, 2), atol=1e-4, rtol=0)


def test_window_larger_than_the_frame_equals_the_original() -> None:
    ours, theirs = _pair(SMALL | {"img_size": 64, "window_size": 14})
    x = _image(2, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_batch_of_two_equals_the_original() -> None:
    ours, theirs = _pair(SMALL)
    x = _image(2, 256, (256, 200))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_float64_equals_the_original_to_rounding() -> None:
    ours, theirs = _pair(SMALL)
    x = _image(1, 256).double()
    with torch.no_grad():
        embedding, early = ours.double().forward_features(x)
        expected = theirs.double()(x)
    assert embedding.dtype == early.dtype == torch.float64
    torch.testing.assert_close(embedding, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("bias_bytes", [1, 70_000, 2**30])
def test_result_does_not_depend_on_the_size_of_the_chunks(
    bias_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = _pair(SMALL)
    x = _image(2, 256)
    monkeypatch.setattr(image_encoder, "_CPU_BIAS_BYTES", bias_bytes)
    monkeypatch.setattr(image_encoder, "_QUERIES", 100)
    monkeypatch.setattr(image_encoder, "_TOKENS", 3)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (320, 320), (256, 160)])
def test_other_frames_interpolate_the_position_tables_as_the_original(
    height: int, width: int
) -> None:
    config = SMALL | {"use_abs_pos": False, "use_rel_pos": True}
    theirs = ImageEncoderViT(**config).eval()
    _randomise(theirs, seed=2)
    ours = SamImageEncoder(**config).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_encoder_without_position_tables_and_qkv_bias_equals_the_original() -> None:
    config = SMALL | {"use_rel_pos": False, "qkv_bias": False}
    theirs = ImageEncoderViT(**config).eval()
    _randomise(theirs, seed=4)
    ours = SamImageEncoder(**config).eval()
    ours.load_state_dict(theirs.state_dict())
    x = _image(1, 256)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_gradients_equal_those_of_the_original() -> None:
    ours, theirs = _pair(SMALL)
    x = _image(1, 256, (192, 256))
    for encoder in (ours, theirs):
        encoder.double()(x.double()).square().mean().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name].grad, atol=1e-9, rtol=1e-6, msg=name
        )


def test_gradient_reaches_the_image_through_the_early_feature() -> None:
    ours, _ = _pair(SMALL)
    x = _image(1, 256).requires_grad_()
    ours.forward_features(x)[1].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_inference_mode_and_gradient_mode_agree() -> None:
    ours, _ = _pair(SMALL)
    x = _image(1, 256)
    with torch.inference_mode():
        inferred = ours(x)
    torch.testing.assert_close(inferred.clone(), ours(x).detach(), atol=1e-5, rtol=0)


def test_bf16_autocast_is_as_close_to_fp32_as_the_original_in_autocast() -> None:
    ours, theirs = _pair(SMALL)
    x = _image(1, 256, (256, 160))
    with torch.no_grad():
        exact = theirs(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedding, early = ours.forward_features(x)
            original = theirs(x)
    assert torch.isfinite(early).all()
    error = (embedding.float() - exact).square().mean().sqrt()
    original_error = (original.float() - exact).square().mean().sqrt()
    assert error <= 1.25 * original_error


def test_outputs_have_the_promised_shapes_and_layout() -> None:
    ours, _ = _pair(SMALL)
    with torch.no_grad():
        embedding, early = ours.forward_features(_image(2, 256))
    assert embedding.shape == (2, 256, 16, 16)
    assert early.shape == (2, 64, 16, 16)
    assert early.is_contiguous()


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 1, 256, 256), (1, 3, 250, 256)])
def test_wrong_image_shape_is_refused(shape: tuple[int, ...]) -> None:
    ours, _ = _pair(SMALL)
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        ours(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "not a multiple of num_heads 5"),
        ({"img_size": 250}, "multiple of 16"),
        ({"window_size": 0}, "at least 1 token"),
        ({"global_attn_indexes": ()}, "global_attn_indexes"),
        ({"global_attn_indexes": (4,)}, r"0\.\.3"),
    ],
)
def test_wrong_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_vit_encoder(**(SMALL | change))


def test_encoder_without_global_block_has_no_early_feature() -> None:
    encoder = SamImageEncoder(**(SMALL | {"global_attn_indexes": ()}))
    with pytest.raises(ValueError, match="no block with global attention"):
        encoder(_image(1, 256))


@pytest.mark.slow
def test_vit_b_at_1024_equals_the_original() -> None:
    ours, theirs = _pair(
        {
            "embed_dim": 768,
            "depth": 3,  # both kinds of block at their real size; depth adds time alone
            "num_heads": 12,
            "global_attn_indexes": (2,),
            "img_size": 1024,
            "window_size": 14,
        }
    )
    x = _image(1, 1024, (683, 1024))
    with torch.no_grad():
        embedding, early = ours.forward_features(x)
        expected, expected_early = _early_of(theirs, x)
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(early, expected_early.permute(0, 3, 1, 2), atol=1e-4, rtol=0)
