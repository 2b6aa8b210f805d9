from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from micro import MICRO, micro_model
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.encoding import (
    TRAINED_ON_A_BASE,
    FrozenEncoder,
    affordable_views,
    freeze,
    set_training_mode,
)
from napari_pisam.learn.objective import Objective

if TYPE_CHECKING:
    import pytest


def encode_batch(model: Any, batch: dict[str, Any], frozen: FrozenEncoder | None = None) -> Any:
    features = None if frozen is None else frozen.of(model)
    return model.encode(batch["image"], valid=batch["valid"], features=features)


def pictures(count: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(1, 256, (count, 3, 64, 64), generator=generator).float()
    valid = torch.ones(count, 1, 64, 64)
    image[0, :, 48:], valid[0, :, 48:] = 0, 0
    mask = torch.zeros(count, 1, 64, 64)
    mask[:, :, 10:30, 12:40] = 1
    box = torch.tensor([[12.0, 10.0, 40.0, 30.0]]).expand(count, 4)
    return {
        "image": image,
        "valid": valid,
        "mask": mask,
        "box": box,
        "position": torch.arange(count),
    }


def test_a_batch_is_encoded_as_the_predictor_encodes_each_picture() -> None:
    model = micro_model(appearance_prior=True)
    batch = pictures()
    together = encode_batch(model, batch)
    for i, height in ((0, 48), (1, 64)):
        alone = model.encode(batch["image"][i : i + 1, :, :height])
        for name in ("embedding", "hq_features", "rgb", "bins"):
            one, all_ = getattr(alone, name), getattr(together, name)
            torch.testing.assert_close(all_[i : i + 1], one, rtol=1e-4, atol=1e-4)


def test_a_frozen_encoder_says_the_same_to_half_precision() -> None:
    model = micro_model()
    batch = pictures()
    free, frozen = (
        encode_batch(model, batch),
        encode_batch(model, batch, FrozenEncoder(model, None, 0)),
    )
    torch.testing.assert_close(frozen.embedding, free.embedding, rtol=2e-3, atol=2e-3)
    assert frozen.hq_features is not None
    assert free.hq_features is not None
    torch.testing.assert_close(frozen.hq_features, free.hq_features, rtol=1e-2, atol=1e-2)


def test_a_frozen_encoder_is_used_in_mixed_precision_too() -> None:
    model = micro_model(kind="pisam")
    freeze(model, "both")
    config = TrainConfig(output=Path(), trains="both", frame=64)
    objective = Objective(model, config, FrozenEncoder(model, None, 0)).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(pictures(), 0)
    loss.backward()
    assert torch.isfinite(loss)


def test_every_picture_is_computed_once_and_read_from_the_disk_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = micro_model()
    batch = pictures()
    computed = counted(monkeypatch, model)
    first = encode_batch(model, batch, FrozenEncoder(model, tmp_path, 10**7))
    assert len(computed) == 2
    second = encode_batch(model, batch, FrozenEncoder(model, tmp_path, 10**7))
    assert len(computed) == 2
    assert torch.equal(first.embedding, second.embedding)
    other = micro_model(seed=1)
    computed = counted(monkeypatch, other)
    encode_batch(other, batch, FrozenEncoder(other, tmp_path, 10**7))
    assert len(computed) == 2


def counted(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[torch.Tensor]:
    """Let the pictures that an image encoder computes be listed."""
    seen: list[torch.Tensor] = []
    whole = model.image_encoder.forward_features

    def features(x: torch.Tensor) -> Any:
        seen.append(x)
        return whole(x)

    monkeypatch.setattr(model.image_encoder, "forward_features", features)
    return seen


def test_the_cache_stays_below_its_limit(tmp_path: Path) -> None:
    model = micro_model()
    limit = 60_000
    encode_batch(model, pictures(6), FrozenEncoder(model, tmp_path, limit))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert 0 < sum(sizes) <= limit
    held = affordable_views(model.variant, 100, limit)
    assert held * max(sizes) <= limit
    assert held == len(sizes)


def test_a_frozen_base_keeps_all_that_sam_has(tmp_path: Path) -> None:
    config = TrainConfig(output=tmp_path, trains="both", frame=64)
    model = micro_model(residual=True)
    freeze(model, "both")
    objective = Objective(model, config, FrozenEncoder(model, None, 0)).train()
    objective(pictures(), 0).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("interact_2" in name for name in moved)
    assert any("compress_vit_feat" in name for name in moved)
    sam = set(micro_model(kind="sam").state_dict())
    assert not moved & sam
    # And nothing of what Pi-SAM adds is held back.
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {name for name, _ in model.named_parameters()} - sam


def test_frozen_batch_norms_keep_their_statistics(tmp_path: Path) -> None:
    from napari_pisam.model.pisam import build_model
    from napari_pisam.model.variants import CompactEncoder

    compact = CompactEncoder("mobilenetv4_conv_small_050", 16, 32)
    model = build_model(replace(MICRO, encoder=compact))
    config = TrainConfig(output=tmp_path, frozen_norms=True)
    set_training_mode(model, config)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.mask_decoder.training


def test_what_trains_on_a_base_is_all_that_a_sam_lacks() -> None:
    own = micro_model(appearance_prior=True, fine_answer=True, box_maps=True).state_dict()
    sam = micro_model(kind="sam").state_dict()
    assert {key for key in own if key.startswith(TRAINED_ON_A_BASE)} == own.keys() - sam.keys()
