"""What the scores of weights are worth, and weights whose scores say so.

    python -m recipes.tiny.calibration ../shared/data runs/a2/tiny.safetensors --objects 6

On objects of sources that were in no training: the curve from scores to IoU (isotonic regression
by the pool-adjacent-violators algorithm), how far scores are from IoU on sources that the curve was
not fitted to, and the weights anew with the curve in their header.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from napari_pisam.evaluate import protocols
from napari_pisam.measure import metrics
from napari_pisam.predict.predictor import Predictor
from napari_pisam.weights.checkpoint import build_from_checkpoint
from napari_pisam.weights.checkpoint_format import read_checkpoint
from recipes.tiny.export import write_weights
from recipes.tiny.scoring import chosen_objects, jobs_of, left_out, names
from recipes.tiny.sets import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_pisam.model.pisam import PiSam

KNOTS = 12
CLICKS = 3
# Scores as they are: the mean of the network's estimate and of the expected IoU.
_AS_SAID = ((0.0, 0.0), (1.0, 1.0))

Curve = tuple[tuple[float, float], ...]


def fitted_curve(said: Sequence[float], was: Sequence[float], knots: int = KNOTS) -> Curve:
    """Fit a rising curve of few knots, none steeper than the objects between them can tell.

    Parameters
    ----------
    said, was : sequence of float
        Scores and IoU of the same masks.
    knots : int
        At most.

    Returns
    -------
    tuple of (float, float)
        Score, IoU; both rise.

    Raises
    ------
    ValueError
        If there are fewer than two different scores.
    """
    order = np.argsort(said)
    x, y = np.asarray(said)[order], np.asarray(was)[order]
    groups = np.array_split(np.arange(len(x)), min(knots, max(2, len(x) // 8)))
    means = np.array([[x[g].mean(), y[g].mean(), len(g)] for g in groups if len(g)])
    rising = isotonic_regression(means[:, 1], weights=means[:, 2]).x
    kept = np.append(np.diff(means[:, 0]) > 1e-3, True)
    if kept.sum() < 2:
        raise ValueError(f"{len(x)} scores have {kept.sum()} different values; expected 2 at least")
    pairs = np.stack([means[:, 0], rising], 1)[kept].clip(0, 1).round(4)
    return tuple((float(a), float(b)) for a, b in pairs)


def scored_objects(model: PiSam, data: Path, count: int, sources: set[str]) -> list[dict[str, Any]]:
    """Score and measure the masks of the fixed objects of some sources, box and clicks.

    Returns
    -------
    list of dict
        ``source``, ``clicks``, ``said`` and ``iou``.
    """
    model.variant = replace(model.variant, score_curve=_AS_SAID)
    predictor = Predictor(model)
    rows = []
    for job in jobs_of(chosen_objects(data, count, sorted(sources))):
        item = load_image(data, job.source, job.image)
        predictor.set_image(item.pixels)
        for wanted in job.objects:
            wanted.index_in(item)
            truth = item.mask(wanted.object, slice(None), slice(None))
            box, clicks = protocols.box_of(truth), protocols.run_clicks(predictor, truth, CLICKS)
            for number in {0, 1, len(clicks.clicks)}:
                given = clicks.clicks[:number]
                mask = predictor.predict(
                    box=box,
                    points=[place[:2] for place in given] or None,
                    labels=[place[2] for place in given] or None,
                )
                iou = metrics.iou(mask.to_array(), truth)
                rows.append(
                    {"source": job.source, "clicks": number, "said": mask.score, "iou": iou}
                )
    return rows


def error(rows: Sequence[dict[str, Any]], curve: Curve = ()) -> float:
    """Mean over sources of how far scores are from IoU."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        said = float(row["said"])
        if curve:
            said = float(np.interp(said, [x for x, _ in curve], [y for _, y in curve]))
        by_source.setdefault(row["source"], []).append(abs(said - row["iou"]))
    return float(np.mean([np.mean(values) for values in by_source.values()]))


def _fitted(rows: Sequence[dict[str, Any]]) -> Curve:
    return fitted_curve([row["said"] for row in rows], [row["iou"] for row in rows])


def main() -> None:
    """Fit, tell, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--objects", type=int, default=6, help="of each source and part")
    parser.add_argument("--sources", default="", help="by commas; those in no training by default")
    parser.add_argument("--output", type=Path, help="weights with the curve in their header")
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.weights)
    model = build_from_checkpoint(checkpoint)
    header = checkpoint.header
    held_out = [] if header is None else header.training.get("held_out", [])
    sources = set(names(options.sources)) or left_out(held_out, [], options.data)
    listed = {one.source for one in chosen_objects(options.data, 1)}
    rows = scored_objects(model, options.data, options.objects, sources & listed)
    curve = _fitted(rows)
    others = {
        name: _fitted([row for row in rows if row["source"] != name])
        for name in {row["source"] for row in rows}
    }
    apart = [
        error([row for row in rows if row["source"] == name], other)
        for name, other in others.items()
    ]
    print(f"{len(rows)} masks of {len(others)} sources; mean absolute error of the score:")
    print(f"as said {error(rows):.3f}, by the curve {error(rows, curve):.3f},")
    print(f"by curves of the other sources {np.mean(apart):.3f}")
    print(curve)
    if options.output is not None:
        if header is None:
            parser.error(f"{options.weights} has no header of ours")
        model.variant = replace(model.variant, score_curve=curve)
        write_weights(
            options.output,
            checkpoint.tensors,
            variant=model.variant,
            licence=header.licence,
            training_summary=header.training,
        )


if __name__ == "__main__":
    main()
