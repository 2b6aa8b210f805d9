"""Encoding of training batches, and a frozen encoder that computes each picture once."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_pisam.model.states import EncodedImage
from napari_pisam.predict.embedding_cache import EmbeddingCache, model_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from napari_pisam.learn.config import TrainConfig, Trains
    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Variant

_OWN = (
    "hf_token",
    "hf_mlp",
    "compress_vit_feat",
    "embedding_encoder",
    "embedding_maskfeature",
    "embedding_act",
    "mask_aspp",
    "output_upscaling_2",
    "out_act",
    "interact_2",
    "fine_token",
    "fine_mlp",
)
TRAINED_ON_A_BASE = (
    *(f"mask_decoder.{part}." for part in _OWN),
    "rgb_embedding.",
    "appearance_prior.",
    "prior_gain",
)
"""Beginnings of the names of all weights that SAM does not have."""

# Largest value that float16 holds, with room for rounding.
_LARGEST_HALF = 6e4


INTERACTOR = "mask_decoder.interact_2."
"""Beginning of the names of the weights that clicks act through."""


def freeze(model: PiSam, trains: Trains) -> None:
    """Let only a part of a network be trained.

    Parameters
    ----------
    model
        Changed in place; what takes no gradient already stays so.
    trains
        See `TrainConfig`.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and _may_change(name, trains))


def _may_change(name: str, trains: Trains) -> bool:
    if trains == "all":
        return True
    if trains == "decoder":
        return not name.startswith("image_encoder.")
    is_interactor = name.startswith(INTERACTOR)
    if trains == "interactor":
        return is_interactor
    return name.startswith(TRAINED_ON_A_BASE) and not (trains == "modules" and is_interactor)


def set_training_mode(model: PiSam, config: TrainConfig) -> None:
    """Put what trains into training mode, and what is frozen into eval mode."""
    model.train()
    if config.trains != "all":
        model.image_encoder.eval()
    if config.frozen_norms:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class FrozenEncoder:
    """What a frozen image encoder says of a picture, computed once and kept on the disk.

    Values are rounded to float16 before their first use, so that a run does not depend on what
    happens to be on the disk. Pixels are not kept: they come with the sample.

    Parameters
    ----------
    model
        Whose image encoder is frozen.
    folder
        Where to keep what was computed; ``None`` computes every time.
    max_bytes
        What the folder may hold.
    """

    def __init__(self, model: PiSam, folder: Path | None, max_bytes: int) -> None:
        self._fingerprint = model_fingerprint(model)
        disk = max_bytes if folder is not None else 0
        self.cache = EmbeddingCache(max_bytes=0, disk=folder, disk_max_bytes=disk)

    def of(self, model: PiSam) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Return what `PiSam.encode` takes as ``features``, of the network at some frame."""
        return partial(self._features, model)

    @torch.no_grad()
    def _features(self, model: PiSam, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and early feature of normalised pictures, (B, 3, S, S), zero in padding."""
        entries = [self._entry(model, picture) for picture in x]
        # Types first: where autocast is on, a CPU does not join float16.
        found = [entry.to(x.device, x.dtype) for entry in entries]
        early = [entry.hq_features for entry in found if entry.hq_features is not None]
        return torch.cat([entry.embedding for entry in found]), torch.cat(early)

    def _entry(self, model: PiSam, picture: Tensor) -> EncodedImage:
        pixels = picture.detach().cpu().contiguous().numpy().tobytes()
        key = hashlib.sha256(f"{self._fingerprint} {model.frame}".encode() + pixels).hexdigest()
        entry = self.cache.get(key)
        if entry is None:
            # One by one: the values must not depend on what else is in a batch.
            single = picture.unsqueeze(0).contiguous(memory_format=torch.channels_last)
            embedding, early = model.image_encoder.forward_features(single)  # type: ignore[operator]
            entry = EncodedImage(_half(embedding), _half(early), None, (model.frame, model.frame))
            self.cache.put(key, entry)
        return entry


def _half(values: Tensor) -> Tensor:
    if float(values.abs().max()) > _LARGEST_HALF:
        return values.float()
    return values.to(torch.float16)


def frozen_encoder(
    model: PiSam, config: TrainConfig, held: int
) -> tuple[FrozenEncoder | None, TrainConfig]:
    """Set up the cache of a frozen image encoder.

    Parameters
    ----------
    model
        The network.
    config
        Its ``trains``, ``views``, ``cache_gb`` and ``output`` count.
    held
        Pictures to validate on, which need a place in the cache as well.

    Returns
    -------
    FrozenEncoder or None
        None where the encoder trains.
    TrainConfig
        With as many views as the cache can hold.
    """
    if config.trains == "all":
        return None, config
    cache_bytes = int(config.cache_gb * 1e9)
    if not config.views:
        return FrozenEncoder(model, None, cache_bytes), config
    views = affordable_views(model.variant, config.views + held, cache_bytes) - held
    config = config.model_copy(update={"views": max(1, views)})
    return FrozenEncoder(model, config.output / "cache", cache_bytes), config


def affordable_views(variant: Variant, wanted: int, max_bytes: int) -> int:
    """Count how many of some views a cache can hold; to go around in more would forget them all."""
    encoder = variant.encoder
    embedding = 256 * (variant.frame // 16) ** 2
    values = embedding + encoder.early_channels * (variant.frame // encoder.early_stride) ** 2
    # A little more for what the files say about themselves.
    return max(1, min(wanted, max_bytes // (2 * values + 512)))
