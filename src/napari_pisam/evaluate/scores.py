"""Scores that are gathered object by object: means by source, and the mean over sources.

Every source counts the same in the mean, however many images it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pisam.evaluate.saliency import SaliencyMeter
from napari_pisam.measure import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_pisam.evaluate.protocols import ClickRun

CHECKPOINTS = (0, 1, 3, 5, 10, 20)
"""Numbers of clicks after which the IoU is reported."""

TARGETS = (0.85, 0.90, 0.95)
"""IoUs that NoC and NoF ask for."""


class Scores:
    """Measures of masks, one per object.

    Parameters
    ----------
    with_saliency : bool
        Also those of `SaliencyMeter`.
    """

    def __init__(self, *, with_saliency: bool = False) -> None:
        self._with_saliency = with_saliency
        self._values: dict[str, list[dict[str, float]]] = {}
        self._overlaps: dict[str, list[tuple[int, int]]] = {}
        self._meters: dict[str, SaliencyMeter] = {}

    def add(
        self, source: str, predicted: NDArray[np.generic], truth: NDArray[np.bool_]
    ) -> dict[str, float]:
        """Score one mask.

        Parameters
        ----------
        source : str
            Where the image is from.
        predicted : (H, W) bool, or float in 0..1
            Above 0.5 is the object.
        truth : (H, W) bool

        Returns
        -------
        dict
            Its ``iou``, ``boundary_iou``, ``mba`` and ``mae``.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        metrics.check_pair(predicted, truth)
        mask = metrics.as_mask(predicted)
        values = {
            "iou": metrics.iou(mask, truth),
            "boundary_iou": metrics.boundary_iou(mask, truth),
            "mba": metrics.mean_boundary_accuracy(mask, truth),
            "mae": metrics.mean_absolute_error(predicted, truth),
        }
        if self._with_saliency:
            self._meters.setdefault(source, SaliencyMeter()).step(predicted, truth)
        self._values.setdefault(source, []).append(values)
        self._overlaps.setdefault(source, []).append(metrics.overlap(mask, truth))
        return values

    def by_source(self) -> dict[str, dict[str, float]]:
        """Means over the objects of each source; ``dataset_iou`` is of all its pixels together."""
        result = {}
        for source in sorted(self._values):
            means = mean_of(self._values[source])
            shared, either = np.sum(self._overlaps[source], axis=0).tolist()
            means["dataset_iou"] = shared / either if either else 1.0
            if source in self._meters:
                means |= self._meters[source].result()
            result[source] = means | {"objects": float(len(self._values[source]))}
        return result

    def mean(self) -> dict[str, float]:
        """Mean over the sources, and the number of objects in all; empty without any."""
        return mean_over_sources(self.by_source())


class ClickScores:
    """What rows of clicks amount to, one row per object.

    Parameters
    ----------
    limit : int
        Most clicks of a row.
    """

    def __init__(self, limit: int = 20) -> None:
        self.limit = limit
        self._values: dict[str, list[dict[str, float]]] = {}
        self._clicks: dict[str, list[tuple[int, int, int]]] = {}

    @property
    def checkpoints(self) -> list[int]:
        """Numbers of clicks, up to the limit, after which the IoU is given."""
        return [count for count in CHECKPOINTS if count <= self.limit]

    def add(self, source: str, run: ClickRun) -> None:
        """Add the clicks on one object."""
        values = {f"iou_{n}": metrics.iou_after(run.ious, n) for n in self.checkpoints}
        for target in TARGETS:
            name = f"{target * 100:.0f}"
            values[f"noc_{name}"] = float(metrics.number_of_clicks(run.ious, target, self.limit))
            values[f"nof_{name}"] = float(metrics.is_failure(run.ious, target, self.limit))
        values["worst_drop"] = metrics.worst_drop(run.ious)
        values["seconds"] = float(np.mean(run.seconds))
        self._values.setdefault(source, []).append(values)
        counts = (len(run.clicks), sum(run.obeyed), sum(run.kept))
        self._clicks.setdefault(source, []).append(counts)

    def by_source(self) -> dict[str, dict[str, float]]:
        """Means over the objects of each source; ``obeyed`` and ``kept`` are shares of clicks."""
        result = {}
        for source in sorted(self._values):
            means = mean_of(self._values[source])
            clicks, obeyed, kept = np.sum(self._clicks[source], axis=0).tolist()
            # Where nothing had to be clicked, no click was disobeyed.
            means["obeyed"] = obeyed / clicks if clicks else 1.0
            means["kept"] = kept / clicks if clicks else 1.0
            means["clicks"] = float(clicks)
            result[source] = means | {"objects": float(len(self._values[source]))}
        return result

    def mean(self) -> dict[str, float]:
        """Mean over the sources; NoF is the number of objects in all, as the field reports it."""
        sources = self.by_source()
        means = mean_over_sources(sources)
        for name in means:
            if name.startswith("nof_"):
                means[name] = sum(row[name] * row["objects"] for row in sources.values())
        return means


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each value over rows that have the same names."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def mean_over_sources(sources: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over the sources, each counting the same; ``objects`` and ``clicks`` are sums."""
    means = mean_of(list(sources.values()))
    for name in ("objects", "clicks"):
        if name in means:
            means[name] = sum(row[name] for row in sources.values())
    return means


def as_json(scores: Scores | ClickScores) -> dict[str, Any]:
    """Return the mean over sources and the sources themselves."""
    return {"mean": scores.mean(), "sources": scores.by_source()}
