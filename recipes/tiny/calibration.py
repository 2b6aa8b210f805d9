"""What the scores of weights are worth, and weights whose scores say so.

    python -m recipes.tiny.calibration ../shared/data runs/a2/tiny.safetensors

On objects of images that were in no training: the curve from the expected IoU (`predict.scores`)
to the IoU, one for each of two answers; how far scores are from the IoU on sources that the curves
were not fitted to; and the weights anew with the curves in their header.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from napari_pisam.evaluate import protocols
from napari_pisam.measure import metrics
from napari_pisam.predict.areas import Answer
from napari_pisam.predict.predictor import Predictor
from napari_pisam.weights.checkpoint import build_from_checkpoint
from napari_pisam.weights.checkpoint_format import read_checkpoint
from recipes.tiny.export import write_weights
from recipes.tiny.scoring import chosen_objects, jobs_of, names
from recipes.tiny.sets import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Variant

KNOTS = 21
# Clicks after which a mask is looked at.
_AFTER = (0, 1, 3, 5)
# Errors below this count by their square: |x| has no slope at 0.
_SMOOTH = 0.03
# How near to 0 and 1 the logit of a score is taken.
_LEAST = 0.02

Curve = tuple[tuple[float, float], ...]


class Curves(NamedTuple):
    """What scores of masks are worth."""

    solid: Curve
    """Of masks of what is solid in a box, and of all that are of neither of two answers."""
    fine: Curve = ()
    """Of masks of what is fine in it; none: as of the others."""


# Scores as they are.
_AS_SAID = Curves(((0.0, 0.0), (1.0, 1.0)))


def fitted_curve(said: Sequence[float], was: Sequence[float], sources: Sequence[str]) -> Curve:
    """Fit a rising curve of two numbers, a line from the logits of scores to those of IoU.

    As near as it can be to the IoU in the mean of absolute errors over sources. (A free rising
    curve, by isotonic regression, follows the sources that it saw and carries less far.)

    Parameters
    ----------
    said, was : sequence of float
        Scores and IoU of the same masks.
    sources : sequence of str
        Of the same masks; all sources count the same.

    Returns
    -------
    tuple of (float, float)
        Score, IoU; both rise.

    Raises
    ------
    ValueError
        If there are fewer than two different scores.
    """
    if np.ptp(said) < 1e-3:
        raise ValueError(f"{len(said)} scores have no different values; expected 2 at least")
    x, y = _logits(said), np.asarray(was, dtype=np.float64)
    _, group, sizes = np.unique(sources, return_inverse=True, return_counts=True)
    weights = 1 / sizes[group] / len(sizes)

    def loss(line: NDArray[np.float64]) -> float:
        errors = expit(line[0] + line[1] * x) - y
        return float((weights * np.sqrt(errors**2 + _SMOOTH**2)).sum())

    # Not falling.
    line = minimize(loss, [0.0, 1.0], method="L-BFGS-B", bounds=[(None, None), (0, None)]).x
    at = np.linspace(0, 1, KNOTS)
    pairs = np.stack([at, expit(line[0] + line[1] * _logits(at))], 1).round(4)
    return tuple((float(a), float(b)) for a, b in pairs)


def _logits(scores: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = logit(np.clip(scores, _LEAST, 1 - _LEAST))
    return result


def scored_objects(
    model: PiSam, data: Path, count: int, sources: Sequence[str]
) -> list[dict[str, Any]]:
    """Score and measure the masks of the fixed objects of some sources, box and clicks.

    Returns
    -------
    list of dict
        ``source``, ``part``, ``clicks``, ``fine`` (the mask is the fine answer), ``said`` and
        ``iou``.
    """
    model.variant = _with(model.variant, _AS_SAID)
    predictor = Predictor(model)
    rows = []
    for job in jobs_of(chosen_objects(data, count, sources)):
        item = load_image(data, job.source, job.image)
        predictor.set_image(item.pixels)
        for wanted in job.objects:
            wanted.index_in(item)
            truth = item.mask(wanted.object, slice(None), slice(None))
            box = protocols.box_of(truth)
            clicks = protocols.run_clicks(predictor, truth, _AFTER[-1])
            for number in _AFTER:
                if number > len(clicks.clicks):
                    break
                given = clicks.clicks[:number]
                mask = predictor.predict(
                    box=box,
                    points=[place[:2] for place in given] or None,
                    labels=[place[2] for place in given] or None,
                )
                iou = metrics.iou(mask.to_array(), truth)
                known = {"source": job.source, "part": wanted.part, "clicks": number}
                is_fine = mask.answer is Answer.FINE
                rows.append(known | {"fine": is_fine, "said": mask.score, "iou": iou})
    return rows


def _with(variant: Variant, curves: Curves) -> Variant:
    return replace(variant, score_curve=curves.solid, fine_score_curve=curves.fine)


def rescored(rows: Sequence[dict[str, Any]], curves: Curves) -> list[dict[str, Any]]:
    """Read the scores of rows from the curve of the answer that each is."""

    def read(row: dict[str, Any]) -> float:
        curve = curves.fine if row["fine"] and curves.fine else curves.solid
        said, was = zip(*curve, strict=True)
        return float(np.interp(row["said"], said, was))

    return [row | {"said": read(row)} for row in rows]


def error(rows: Sequence[dict[str, Any]], curves: Curves = _AS_SAID) -> float:
    """Mean over sources of how far scores are from IoU."""
    by_source: dict[str, list[float]] = {}
    for row in rescored(rows, curves):
        by_source.setdefault(row["source"], []).append(abs(row["said"] - row["iou"]))
    return float(np.mean([np.mean(values) for values in by_source.values()]))


def fitted_to(rows: Sequence[dict[str, Any]]) -> Curves:
    """Curves of what `scored_objects` gave."""

    def fitted(fine: bool) -> Curve:
        members = [row for row in rows if row["fine"] is fine]
        if not members:
            return ()
        return fitted_curve(*([row[key] for row in members] for key in ("said", "iou", "source")))

    return Curves(fitted(False), fitted(True))


def scored_by_others(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score the masks of every source by the curves of all other sources."""
    result = []
    for name in sorted({row["source"] for row in rows}):
        curves = fitted_to([row for row in rows if row["source"] != name])
        result += rescored([row for row in rows if row["source"] == name], curves)
    return result


def main() -> None:
    """Fit, tell, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--objects", type=int, default=2, help="of each source and part")
    parser.add_argument("--sources", default="", help="by commas; all by default")
    parser.add_argument("--output", type=Path, help="weights with the curves in their header")
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.weights)
    model = build_from_checkpoint(checkpoint)
    header = checkpoint.header
    rows = scored_objects(model, options.data, options.objects, names(options.sources))
    curves = fitted_to(rows)
    print(f"{len(rows)} masks; mean over sources of the score's absolute error:")
    print(f"as said {error(rows):.3f}, by the curves {error(rows, curves):.3f},")
    others = scored_by_others(rows)
    print(f"by curves of the other sources {error(others):.3f}: ", end="")
    for part in sorted({row["part"] for row in rows}):
        print(part, f"{error([row for row in others if row['part'] == part]):.3f}", end="; ")
    print()
    print(curves)
    if options.output is not None:
        if header is None:
            parser.error(f"{options.weights} has no header of ours")
        model.variant = _with(model.variant, curves)
        write_weights(
            options.output,
            checkpoint.tensors,
            variant=model.variant,
            licence=header.licence,
            training_summary=header.training,
        )


if __name__ == "__main__":
    main()
