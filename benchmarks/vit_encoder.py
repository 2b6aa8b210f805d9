"""Time the ViT image encoder against segment_anything's `SamPredictor.set_image`.

Both take turns (A B A B ...) in one process on the same picture and the same weights, so that
whatever else the machine does falls on both; what counts is the median of the pairs' ratios.
CPU time is printed beside wall time: with ``--threads 1`` it hardly depends on the machine's load.

Random weights serve for the time. For an overlap of masks that means something, name SAM's own
weights with ``--checkpoint`` (a .pth file of the same variant).

    python benchmarks/vit_encoder.py --model vit_b --repeats 5
    python benchmarks/vit_encoder.py --threads 1 --json out.json
    python benchmarks/vit_encoder.py --profile
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry

from napari_pisam.model.image_encoder import SamImageEncoder, build_vit_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from segment_anything.modeling import Sam

SHAPES: dict[str, dict[str, Any]] = {
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)},
    "vit_l": {
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "global_attn_indexes": (5, 11, 17, 23),
    },
    "vit_h": {
        "embed_dim": 1280,
        "depth": 32,
        "num_heads": 16,
        "global_attn_indexes": (7, 15, 23, 31),
    },
}
BOX = np.array([200, 200, 800, 800])  # (x_min, y_min, x_max, y_max), px


def build(model: str, checkpoint: Path | None) -> tuple[Sam, SamImageEncoder]:
    """Return segment_anything's model and our encoder with the same weights."""
    torch.manual_seed(0)
    sam = sam_model_registry[model]().eval()
    if checkpoint is not None:
        sam.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    else:
        with torch.no_grad():  # they start at zero, which would hide an error in their use
            for name, parameter in sam.image_encoder.named_parameters():
                if "pos" in name:
                    parameter.normal_(0, 0.1)
    ours = build_vit_encoder(**SHAPES[model]).eval()
    ours.load_state_dict(sam.image_encoder.state_dict())
    return sam, ours


def picture() -> np.ndarray:
    """Return (1024, 1024, 3) uint8: scikit-image's astronaut, enlarged to the frame."""
    from skimage import data, transform

    enlarged = transform.resize(data.astronaut(), (1024, 1024), order=1, preserve_range=True)
    return enlarged.astype(np.uint8)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Run `function` once; return its wall and CPU time in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time both encoders in turn and compare what they give."""
    sam, ours = build(args.model, args.checkpoint)
    theirs = SamPredictor(sam)
    image = picture()
    low = torch.autocast("cpu", dtype=torch.bfloat16) if args.precision == "bf16" else nullcontext()
    kept: dict[str, torch.Tensor] = {}

    def original() -> None:
        theirs.set_image(image)

    @torch.inference_mode()
    def fused() -> None:
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        with low:
            embedding, _early = ours.forward_features(sam.preprocess(tensor))
        kept["embedding"] = embedding.float()

    pairs = []
    for number in range(args.repeats + 1):
        pair = {"original": timed(original), "fused": timed(fused)}
        if number:  # the first turn pays for the allocator and the thread pool
            pairs.append(pair)
            print(
                f"original {pair['original'][0]:6.2f} s (CPU {pair['original'][1]:6.2f}), "
                f"fused {pair['fused'][0]:6.2f} s (CPU {pair['fused'][1]:6.2f}), "
                f"ratio {pair['original'][0] / pair['fused'][0]:.2f}",
                flush=True,
            )

    error = (kept["embedding"] - theirs.features).abs().max().item()
    with torch.inference_mode():
        expected, _, _ = theirs.predict(box=BOX, multimask_output=True)
        theirs.features = kept["embedding"]
        masks, _, _ = theirs.predict(box=BOX, multimask_output=True)
    union = (masks | expected).sum(axis=(1, 2))
    overlap = np.where(union > 0, (masks & expected).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)

    def ratio(which: int) -> float:
        return statistics.median(p["original"][which] / p["fused"][which] for p in pairs)

    return {
        "model": args.model,
        "precision": args.precision,
        "threads": torch.get_num_threads(),
        "weights": "random" if args.checkpoint is None else args.checkpoint.name,
        "load_before": args.load,
        "original_s": statistics.median(p["original"][0] for p in pairs),
        "fused_s": statistics.median(p["fused"][0] for p in pairs),
        "wall_ratio": ratio(0),
        "cpu_ratio": ratio(1),
        "max_abs_error": error,
        "mask_iou": overlap.tolist(),
    }


def profile(args: argparse.Namespace) -> None:
    """Print where the time of our encoder goes."""
    _, ours = build(args.model, args.checkpoint)
    image = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        ours(image)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as run:
            ours(image)
    print(run.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))


def main() -> None:
    """Parse the arguments and print the result."""
    parser = argparse.ArgumentParser(description="ViT encoder beside SamPredictor.set_image")
    parser.add_argument("--model", choices=sorted(SHAPES), default="vit_b")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; at least one pair is needed")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    args.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if args.profile:
        profile(args)
        return
    result = measure(args)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
