"""What the cache of a frozen encoder saves: training steps of a Pi-SAM on ViT-B, on random weights.

    python benchmarks/frozen_cache.py --precision bf16-mixed --profile

A step without the cache encodes its picture and then does what a step with the cache does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_pisam.learn.batches import to_batch
from napari_pisam.learn.config import TrainConfig
from napari_pisam.learn.dataset import as_sample
from napari_pisam.learn.encoding import FrozenEncoder, freeze
from napari_pisam.learn.objective import Objective
from napari_pisam.model.deform_conv import ModulatedDeformConv2d
from napari_pisam.model.pisam import build_model
from napari_pisam.weights.checkpoint import initialise_pisam_from

if TYPE_CHECKING:
    from collections.abc import Callable


def batch_of(frame: int, count: int) -> dict[str, Any]:
    """Return a batch of discs on noise."""
    ys, xs = np.mgrid[:frame, :frame]
    samples = []
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = np.hypot(ys - frame * 0.45, xs - frame * 0.5) < frame * 0.2
        image = rng.integers(0, 90, (frame, frame, 3)) + 120 * mask[..., None]
        samples.append(as_sample(image.astype(np.uint8), mask, frame, "disc", rng))
    return to_batch(samples)


def median_seconds(run: Callable[[], None], steps: int, seconds: float) -> float:
    """Processor time of a step, by threads, so that others do not count; the first is left out."""
    run()
    times = []
    ends = time.perf_counter() + seconds
    for _ in range(steps):
        started = time.process_time()
        run()
        times.append((time.process_time() - started) / torch.get_num_threads())
        if time.perf_counter() > ends:
            break
    return float(np.median(times))


def main() -> None:
    """Time both, print samples a second and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="pisam_vit_b")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60, help="of each, at most")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--rigid", action="store_true", help="deformable convolutions stay rigid")
    parser.add_argument("--compiled", action="store_true", help="compile the high-resolution head")
    parser.add_argument("--profile", action="store_true", help="where a cached step's time goes")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    model = build_model(options.variant)
    base = build_model(options.variant.replace("pisam", "sam"))
    model = initialise_pisam_from(model, base.state_dict())
    for module in model.modules():
        if isinstance(module, ModulatedDeformConv2d):
            module.rigid = options.rigid
            module.offset_conv.requires_grad_(not options.rigid)
            module.modulator_conv.requires_grad_(not options.rigid)
    freeze(model, "both")
    config = TrainConfig(
        output=Path(),
        trains="both",
        frame=model.frame,
        max_clicks=1,
        compiled=options.compiled,
    )
    batch = batch_of(model.frame, options.batch)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)

    def stepper(frozen: FrozenEncoder) -> Callable[[], None]:
        objective = Objective(model, config, frozen).train()

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision != "32-true"):
                loss = objective(batch, 1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()

        return run

    with tempfile.TemporaryDirectory() as folder:
        cached = stepper(FrozenEncoder(model, Path(folder), 1 << 30))
        with_cache = median_seconds(cached, options.steps, options.seconds)
        if options.profile:
            with torch.profiler.profile(record_shapes=True) as profile:
                cached()
            averages = profile.key_averages(group_by_input_shape=True)
            print(averages.table("self_cpu_time_total", 25, max_shapes_column_width=60))
    without = median_seconds(stepper(FrozenEncoder(model, None, 0)), 3, options.seconds)
    for title, seconds in (("without the cache", without), ("with it", with_cache)):
        print(f"{title}: {seconds:.2f} s a step, {options.batch / seconds:.2f} samples/s")
    print(
        f"{without / with_cache:.1f} times, {options.precision}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
