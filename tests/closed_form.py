"""The closed-form weights that the parity numbers were computed with (see shared/golden)."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def closed_form(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values in [-1, 1) that depend on the name and the index alone, float64."""
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    x = np.sin(12.9898 * i + (zlib.crc32(name.encode()) % 10007)) * 43758.5453
    return torch.from_numpy((2 * (x - np.floor(x)) - 1).reshape(shape))


def fill_closed_form(module: nn.Module, prefix: str) -> None:
    """Fill every parameter and buffer of ``module`` in place, by the rules of the parity files."""
    with torch.no_grad():
        for key, tensor in module.state_dict(keep_vars=True).items():
            shape = tuple(tensor.shape)
            w = closed_form(prefix + key, shape)
            if key.endswith("bias"):
                w = 0.1 * w
            elif "gaussian" in key:
                pass
            elif len(shape) == 1:
                w = 1 + 0.1 * w
            elif (
                len(shape) == 2
                and "token" in key
                and not any(part in key for part in ("mlp", "token_embed", "embedding"))
            ):
                pass
            else:
                w = w * np.sqrt(3 / np.prod(shape[1:]))
            tensor.copy_(w)
