"""``napari-pisam benchmark``: times and memory on this machine, beside segment_anything's own.

Every measurement runs in a fresh process, so that no model's memory counts for another. This module
does not load torch: a child's peak memory would include it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from napari_pisam.cli.console import answer, progress
from napari_pisam.cli.files import check_output
from napari_pisam.images.files import replacing
from napari_pisam.weights.timings import describe_machine, keep_seconds

if TYPE_CHECKING:
    from pathlib import Path

STEPS = ("encode", "box", "click")
LEAST_IOU = 0.99
"""Of a GPU's mask with the CPU's; less is more than rounding."""


def benchmark(
    models: str, json_file: Path | None, repeats: int, device: str, precision: str
) -> dict[str, Any]:
    """Measure models, print a table, and write the numbers.

    Parameters
    ----------
    models : str
        Names separated by commas, or "all".
    json_file : Path or None
        Where to write the numbers.
    repeats : int
        How often each step is timed.
    device, precision : str
        As for the predictor; segment_anything computes in fp32 always.

    Returns
    -------
    dict
        What the JSON file holds.

    Raises
    ------
    ValueError
        If there is no such model or the file cannot be written.
    RuntimeError
        If a measurement fails.
    """
    names = _names(models)
    if json_file is not None:
        check_output(json_file, (".json",), ())
    references = {name: reference_of(name) for name in names}
    common = {"device": device, "precision": precision}
    result: dict[str, Any] = {"machine": {}, "repeats": repeats, "models": {}}
    memory: dict[str, Any] = {}
    with progress("Measuring", 2 * len(names) + len(set(references.values()))) as advance:
        for name in names:
            reference = references[name]
            timed = _measure(
                task="time", model=name, reference=reference, repeats=repeats, **common
            )
            result["machine"] = describe_machine() | timed.pop("machine")
            advance(1)
            if reference not in memory:
                theirs = _measure(task="memory", model=None, reference=reference, **common)
                memory[reference] = theirs
                advance(1)
            own = _measure(task="memory", model=name, reference=None, **common)
            advance(1)
            timed["memory"] = {"ours": own, "reference": memory[reference]}
            if device == "auto" and precision == "auto":
                _keep(name, timed)
            result["models"][name] = {"reference": f"SamPredictor {reference}"} | timed
    if json_file is not None:
        with replacing(json_file) as part:
            part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print_table(result)
    return result


def check(models: str, device: str, precision: str) -> None:
    """Compare the masks of a GPU with those of the CPU, and print the result.

    Parameters
    ----------
    models : str
        Names separated by commas, or "all"; those whose weights are not on this machine are
        left out, as masks of random weights say nothing.
    device, precision : str
        As for the predictor.

    Raises
    ------
    ValueError
        If there is no such model.
    RuntimeError
        If the masks differ, or a check fails.
    """
    from napari_pisam.weights.cache import cached_path
    from napari_pisam.weights.catalogue import EMBEDDED, is_public

    differing = []
    for name in _names(models):
        if name != EMBEDDED and not (is_public(name) and cached_path(name).is_file()):
            answer(f"{name}: left out, its weights are not on this machine.")
            continue
        found = _measure(task="check", model=name, device=device, precision=precision)
        if found["device"] == "cpu":
            answer("This machine has no GPU that torch can use: there is nothing to check.")
            return
        overlaps = found["overlaps"]
        words = ", ".join(f"{what} {overlap:.4f}" for what, overlap in overlaps.items())
        answer(f"{name}: IoU of the masks of {found['device']} with those of the CPU: {words}.")
        differing += [name] if min(overlaps.values()) < LEAST_IOU else []
    if differing:
        raise RuntimeError(
            f"The GPU gives other masks than the CPU with {', '.join(differing)} (IoU below "
            f"{LEAST_IOU}). Choose the device cpu or the precision fp32, and report it, please."
        )


def _names(models: str) -> list[str]:
    from napari_pisam.model.variants import VARIANTS, get_variant

    names = list(VARIANTS) if models == "all" else [name.strip() for name in models.split(",")]
    for name in names:
        get_variant(name)
    return list(dict.fromkeys(names))


def _keep(name: str, timed: dict[str, Any]) -> None:
    """Let the list of models say how long an image takes."""
    seconds = sum(timed[step]["ours"]["p50"] for step in ("encode", "box"))
    with contextlib.suppress(OSError):  # a cache that cannot be written to
        keep_seconds({name: seconds})


def reference_of(name: str) -> str:
    """Name segment_anything's model beside one of ours: the same ViT, or else the smallest."""
    return name[-5:] if name[-5:] in ("vit_b", "vit_l", "vit_h") else "vit_b"


def measure_once(name: str) -> float:
    """Time from an image to the mask of its first box, s, with random weights; nothing is fetched.

    Raises
    ------
    RuntimeError
        If it fails, for example for want of memory.
    """
    seconds = _measure(task="once", model=name, device="auto", precision="auto")["seconds"]
    return float(seconds)


def _measure(**task: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "napari_pisam.cli.benchmark_worker", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        what = task["model"] or f"SamPredictor {task['reference']}"
        if done.returncode == 2:
            raise ValueError(lines[-1])
        raise RuntimeError(
            f"Measuring {what} failed: {lines[-1]}. A larger model may need more memory than there "
            "is; leave it out of --models."
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def print_table(result: dict[str, Any]) -> None:
    """Print what was measured; x: how many times faster than segment_anything's own."""
    from rich.console import Console
    from rich.table import Table

    machine = result["machine"]
    table = Table(
        caption=(
            f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, "
            f"{machine['device']}, {machine['precision']}. x: SamPredictor's time / ours, median "
            f"of {result['repeats']} turns. IoU: with SamPredictor's mask, same weights."
        )
    )
    table.add_column("model")
    for step in STEPS:
        table.add_column(f"{step} s\np50 / p95", justify="right")
        table.add_column("x", justify="right")
    table.add_column("peak MB\nours / SAM", justify="right")
    table.add_column("IoU", justify="right")
    for name, row in result["models"].items():
        cells = [name]
        for step in STEPS:
            times = row[step]["ours"]
            cells += [f"{times['p50']:.3f} / {times['p95']:.3f}", f"{row[step]['ratio']:.2f}"]
        peaks = [row["memory"][who]["peak_bytes"] for who in ("ours", "reference")]
        cells.append(" / ".join("?" if peak is None else f"{peak / 1e6:.0f}" for peak in peaks))
        cells.append("" if row["mask_iou"] is None else f"{row['mask_iou']:.4f}")
        table.add_row(*cells)
    console = Console()
    # In a file or a pipe nothing has to be squeezed into 80 columns.
    Console(width=None if console.is_terminal else 140).print(table)
