"""Small image sets, a small bank of cut-outs and textures, and where the real sets are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.tiny.compose import Bank, load_bank

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "sets").is_dir(), reason=f"no image sets in {SHARED}"
)


def write_set(
    root: Path, name: str, stems: list[str], *, kind: str = "binary", side: int = 80
) -> None:
    """Write a small set: a bright disc and a bright bar on noise."""
    for part in ("images", "masks"):
        (root / "sets" / name / part).mkdir(parents=True)
    y, x = np.mgrid[:side, : side + 16]
    for i, stem in enumerate(stems):
        rng = np.random.default_rng(i)
        disc = (y - 25) ** 2 + (x - 25 - i) ** 2 < 144
        bar = (abs(y - 60) < 6) & (x > 10) & (x < 80)
        labels = disc * 1 + bar * 2
        image = rng.integers(0, 60, labels.shape) + 120 * (labels > 0)
        mask = (labels > 0) * 255 if kind == "binary" else labels
        dtype = np.uint8 if kind == "binary" else np.uint16
        Image.fromarray(image.astype(np.uint8)).save(
            root / "sets" / name / "images" / f"{stem}.png"
        )
        Image.fromarray(mask.astype(dtype)).save(root / "sets" / name / "masks" / f"{stem}.png")


def write_sets(root: Path) -> Path:
    """Write two sets to train on and one that is for validation only."""
    write_set(root, "discs", [f"a{i}" for i in range(10)])
    write_set(root, "cells", [f"b{i}" for i in range(5)], kind="instances")
    write_set(root, "mushrooms", ["m0", "m1"], kind="instances")
    return root


def write_bank(root: Path) -> Bank:
    """Write four cut-outs and three textures, and load them."""
    for kind, suffix, count in (("cutouts", "webp", 4), ("textures", "jpg", 3)):
        folder = root / "bank" / kind / "one"
        folder.mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng(i)
            pixels = rng.integers(0, 256, (48, 40, 3)).astype(np.uint8)
            picture = Image.fromarray(pixels).resize((96, 96))
            if kind == "cutouts":
                alpha = np.zeros((96, 96), np.uint8)
                alpha[20:70, 30:80] = 255
                picture.putalpha(Image.fromarray(alpha))
            picture.save(folder / f"{i}.{suffix}")
    return load_bank(root / "bank")


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two samples agree in every value."""
    tensors = all(torch.equal(first[k], second[k]) for k in ("image", "mask", "valid", "box"))
    return tensors and first["source"] == second["source"]
