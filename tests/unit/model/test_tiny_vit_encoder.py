"""TinyViT against the packages that published MobileSAM and Light HQ-SAM, on random weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from torch import nn

from napari_pisam.model import tiny_vit_encoder
from napari_pisam.model.folding import folded
from napari_pisam.model.layer_norm import LayerNorm2d
from napari_pisam.model.pisam import build_model
from napari_pisam.model.variants import TinyVitEncoder, get_variant
from napari_pisam.weights.checkpoint import build_from_checkpoint, initialise_pisam_from
from napari_pisam.weights.checkpoint_format import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from napari_pisam.model.pisam import PiSam

BOX = torch.tensor([[200.0, 150.0, 700.0, 620.0]])


def _with_values(model: nn.Module) -> nn.Module:
    """Change what would hide an error: norms and biases start at 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.image_encoder.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.ndim <= 2 and value.is_floating_point() and "fc" not in name:
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
            if name.endswith("conv3.bn.weight"):
                value.add_(0.5)
    # The packages keep a copy of the position biases, made when training ends.
    return model.train().eval()


@pytest.fixture(scope="module")
def mobile_sam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("mobile_sam", reason="mobilesam-mirror is not installed")
    torch.manual_seed(0)
    return _with_values(module.sam_model_registry["vit_t"]())


@pytest.fixture(scope="module")
def light_hq_sam() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("segment_anything_hq", reason="it is not installed")
    torch.manual_seed(0)
    return _with_values(module.sam_model_registry["vit_tiny"]())


def _ours(theirs: nn.Module, path: Path) -> PiSam:
    """Read their weights from a file, strictly."""
    torch.save(theirs.state_dict(), path)
    return build_from_checkpoint(read_checkpoint(path))


def _pictures() -> list[torch.Tensor]:
    """A square picture, one that has to be padded, and real ones: a photograph, and grey coins."""
    generator = torch.Generator().manual_seed(2)
    drawn = [
        torch.rand(1, 3, h, w, generator=generator) * 255 for h, w in ((1024, 1024), (700, 1024))
    ]
    coins = np.stack([data.coins()] * 3, axis=-1)
    real = [torch.from_numpy(picture).permute(2, 0, 1) for picture in (data.astronaut(), coins)]
    sides = [(1024, 1024), (round(1024 * coins.shape[0] / coins.shape[1]), 1024)]
    return drawn + [
        F.interpolate(picture[None].float(), side, mode="bilinear")
        for picture, side in zip(real, sides, strict=True)
    ]


@pytest.mark.parametrize("place", range(4), ids=["square", "padded", "photograph", "coins"])
@torch.inference_mode()
def test_mobile_sam_gives_the_same_embedding_and_masks(
    mobile_sam: Any, tmp_path: Path, place: int
) -> None:
    model = _ours(mobile_sam, tmp_path / "mobile_sam.pt")
    assert model.variant.name == "sam_vit_t"
    picture = _pictures()[place]
    expected = mobile_sam.image_encoder(mobile_sam.preprocess(picture))
    encoded = folded(model).encode(picture)
    torch.testing.assert_close(encoded.embedding, expected, atol=1e-4, rtol=0)
    sparse, dense = mobile_sam.prompt_encoder(points=None, boxes=BOX - 0.5, masks=None)
    pe = mobile_sam.prompt_encoder.get_dense_pe()
    masks, iou = mobile_sam.mask_decoder(
        image_embeddings=expected,
        image_pe=pe,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    decoded = model.decode(encoded, boxes=BOX)
    torch.testing.assert_close(decoded.low_res, masks, atol=1e-4, rtol=0)
    torch.testing.assert_close(decoded.iou, iou, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_light_hq_sam_gives_the_same_masks(light_hq_sam: Any, tmp_path: Path) -> None:
    model = _ours(light_hq_sam, tmp_path / "sam_hq_vit_tiny.pth")
    assert model.variant.name == "hqsam_vit_t"
    picture = _pictures()[1]
    embedding, early = light_hq_sam.image_encoder(light_hq_sam.preprocess(picture))
    sparse, dense = light_hq_sam.prompt_encoder(points=None, boxes=BOX - 0.5, masks=None)
    masks, _ = light_hq_sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=light_hq_sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        hq_token_only=False,
        interm_embeddings=early,
    )
    decoded = model.decode(folded(model).encode(picture), boxes=BOX)
    torch.testing.assert_close(decoded.low_res, masks, atol=1e-4, rtol=0)


SMALL = TinyVitEncoder((8, 16, 20, 40), (1, 1, 2, 1), (2, 4, 5, 10), (7, 7, 14, 7))


def _small() -> Any:
    torch.manual_seed(0)
    return SMALL.build(64).eval()


@pytest.mark.parametrize("size", [(64, 64), (224, 96)])
@torch.inference_mode()
def test_outputs_have_sams_shapes_at_any_frame(size: tuple[int, int]) -> None:
    embedding, early = _small().forward_features(torch.rand(2, 3, *size))
    assert embedding.shape == (2, 256, size[0] // 16, size[1] // 16)
    assert early.shape == (2, SMALL.early_channels, size[0] // 16, size[1] // 16)


def test_a_frame_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        _small().forward_features(torch.rand(1, 3, 72, 64))


@pytest.mark.parametrize("size", [(64, 64), (224, 96)])
@torch.inference_mode()
def test_strips_of_any_height_give_the_same(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, x = _small(), torch.randn(2, 3, *size)
    monkeypatch.setattr(tiny_vit_encoder, "_STRIP_VALUES", 1 << 30)
    whole = encoder.forward_features(x)
    for values in (1, 1 << 12, 3 << 13):
        monkeypatch.setattr(tiny_vit_encoder, "_STRIP_VALUES", values)
        strips = encoder.forward_features(x)
        torch.testing.assert_close(strips, whole, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_weights_are_cast_once_where_autocast_would_cast_them_at_every_call() -> None:
    model = build_model("sam_vit_t")
    picture = torch.rand(1, 3, 300, 256) * 255
    view, cast = folded(model), folded(model, torch.bfloat16)
    types = {type(m): m.weight.dtype for m in cast.image_encoder.modules() if hasattr(m, "weight")}
    assert types[nn.Conv2d] == types[nn.Linear] == torch.bfloat16
    assert types[nn.LayerNorm] == types[LayerNorm2d] == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = (one.encode(picture).embedding.float() for one in (view, cast))
    exact = view.encode(picture).embedding
    assert (found - exact).abs().mean() <= 1.1 * (expected - exact).abs().mean()


def test_position_biases_follow_the_weights_and_are_trained() -> None:
    encoder = _small()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(x)
        for name, parameter in encoder.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_()
        after = encoder(x)
    assert not torch.allclose(before, after)
    trained = encoder.train().eval()(x)
    torch.testing.assert_close(trained, after)
    trained.square().sum().backward()
    biases = [p for n, p in encoder.named_parameters() if n.endswith("attention_biases")]
    assert all(p.grad is not None and p.grad.any() for p in biases)


def test_pisam_on_mobile_sam_starts_as_its_own_mask() -> None:
    base = build_model(get_variant("sam_vit_t"), seed=1)
    pisam = initialise_pisam_from(build_model(get_variant("pisam_vit_t")), base.state_dict())
    with torch.inference_mode():
        picture = torch.rand(1, 3, 1024, 800) * 255
        masks = []
        for model in (base, pisam):
            encoded = model.encode(picture)
            masks.append(model.upscale(encoded, model.decode(encoded, boxes=BOX)))
    torch.testing.assert_close(masks[0], masks[1], atol=1e-4, rtol=1e-4)
