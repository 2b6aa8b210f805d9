"""Checkpoints of the micro model, ours and other people's."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import torch

import micro
from micro import MICRO
from napari_pisam.model import variants


@cache
def _built(seed, changes):
    return micro.micro_model(seed, **dict(changes))


def micro_model(seed=0, **changes):
    """A micro model of one's own; building it afresh each time would take longer."""
    return deepcopy(_built(seed, tuple(sorted(changes.items()))))


def make_micro_a_variant(monkeypatch):
    """Let the micro networks count as variants, as 'sam_vit_m' and so on."""
    for kind in ("sam", "hqsam", "pisam"):
        variant = replace(MICRO, name=f"{kind}_vit_m", kind=kind, residual=kind == "pisam")
        monkeypatch.setitem(variants.VARIANTS, variant.name, variant)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


def masks(model, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.uniform(0, 255, (1, 3, 64, 48)).astype(np.float32))
    with torch.no_grad():
        encoded = model.encode(image)
        decoded = model.decode(encoded, boxes=torch.tensor([[8.0, 9.0, 40.0, 50.0]]))
        return model.upscale(encoded, decoded)


def torch_file(path, content, **options):
    torch.save(content, path, **options)
    return path


def published(model):
    """A decoder as the published software saves it."""
    state = model.mask_decoder.state_dict()
    state["interact_2.img_pe"] = torch.zeros(32, 256, 256)
    state["interact_2.bnd_op.laplacian_kernel"] = torch.ones(1, 1, 3, 3)
    return {"model_state_dict": state}
