"""How good a network is on a run's objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_pisam.learn.dataset import ValidationSamples
from napari_pisam.learn.engine import evaluate
from napari_pisam.learn.objective import iou
from napari_pisam.measure.metrics import boundary_iou
from napari_pisam.predict.prompts import Prompts
from napari_pisam.predict.windows import choose_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_pisam.learn.encoding import FrozenEncoder
    from napari_pisam.learn.finetune.material import TuneObject
    from napari_pisam.learn.store import StoredImage
    from napari_pisam.model.pisam import PiSam
    from napari_pisam.model.variants import Focus

COUNTS = (0, 3)
"""Numbers of simulated clicks that are scored: the box alone, and after three corrections."""


@dataclass(frozen=True)
class ObjectScore:
    """One object's measures, by number of clicks as in `COUNTS`.

    Attributes
    ----------
    iou, boundary : tuple of float
    """

    iou: tuple[float, ...]
    boundary: tuple[float, ...]

    @property
    def value(self) -> float:
        """One number: the mean of all."""
        return float(np.mean(self.iou + self.boundary))


@dataclass(frozen=True, eq=False)
class Shown:
    """What a picture of an object needs.

    Attributes
    ----------
    image : (h, w, 3) uint8
        What the network looked at.
    truth, mask : (h, w) bool
        The mask is that of the box alone.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]


class Scorer:
    """Scores networks on fixed objects, seen as the predictor sees them.

    Parameters
    ----------
    objects : sequence of TuneObject
    model
        Any of the networks: how it looks at an object counts.
    largest : int
        Largest side of the pictures, px; smaller objects are shown in smaller ones, as the
        predictor does.
    frozen
        Gives what the image encoder says, where it does not train.
    shown : int
        Objects to keep pictures of.
    """

    def __init__(
        self,
        objects: Sequence[TuneObject],
        model: PiSam,
        largest: int,
        frozen: FrozenEncoder | None,
        shown: int = 0,
    ) -> None:
        focus = model.variant.focus
        by_frame: dict[int, list[StoredImage]] = {}
        for i, known in enumerate(objects):
            # A source each, so that the scores come back by object.
            item = replace(known.item, source=f"{i:06d}")
            by_frame.setdefault(natural_frame(item, focus, largest), []).append(item)
        self.groups = {
            frame: ValidationSamples(items, size=frame, objects=1, focus=focus)
            for frame, items in sorted(by_frame.items())
        }
        """The objects by the frame that they are shown in."""
        self.places = [
            int(item.source) for samples in self.groups.values() for item, _ in samples.entries
        ]
        """Which of the objects are scored: one that vanishes at the frame's size is not."""
        self._frozen = frozen
        self._shown = shown
        self.shown: dict[int, Shown] = {}

    def __len__(self) -> int:
        """Count the objects that are scored."""
        return len(self.places)

    def score(
        self, model: PiSam, check: Callable[[], None] | None = None
    ) -> dict[int, ObjectScore]:
        """Score a network.

        Parameters
        ----------
        model
            In eval mode.
        check : callable, optional
            Called between two masks; what it raises ends the scoring.

        Returns
        -------
        dict of int to ObjectScore
            By place among the objects.
        """
        found: list[tuple[float, float]] = []
        per_object = len(COUNTS)

        def measure(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
            if check is not None:
                check()
            rows, cols = (int(valid[0, 0].any(dim).sum()) for dim in (1, 0))
            predicted = (logits[0, 0, :rows, :cols] > 0).cpu().numpy()
            truth = (mask[0, 0, :rows, :cols] > 0.5).cpu().numpy()
            number, turn = divmod(len(found), per_object)
            if turn == 0 and self.places[number] < self._shown:
                image = samples[number - first]["image"][:, :rows, :cols].permute(1, 2, 0)
                self.shown[self.places[number]] = Shown(image.numpy(), truth, predicted)
            value = iou(logits, mask, valid)
            found.append((float(value), boundary_iou(predicted, truth)))
            return value

        for frame, samples in self.groups.items():
            first = len(found) // per_object
            view = model.at_frame(frame).eval()
            evaluate(view, samples, COUNTS, frozen=self._frozen, measure=measure)
        scores = {}
        for number, place in enumerate(self.places):
            own = found[number * per_object : (number + 1) * per_object]
            scores[place] = ObjectScore(tuple(a for a, _ in own), tuple(b for _, b in own))
        return scores


def natural_frame(item: StoredImage, focus: Focus | None, largest: int) -> int:
    """Give the side of the frame that the predictor shows an object in, of at most ``largest``."""
    if focus is None:
        return largest
    row0, col0, row1, col1 = (float(v) for v in item.boxes[0])
    prompts = Prompts(box=(row0 - 0.5, col0 - 0.5, row1 - 0.5, col1 - 0.5))
    height, width = item.labels.shape
    seen = choose_window(prompts, (int(height), int(width)), None, focus=focus)
    return min(seen.frame or largest, largest)


def means(scores: dict[int, ObjectScore]) -> tuple[float, float]:
    """Mean IoU and boundary IoU from the box alone."""
    return (
        float(np.mean([score.iou[0] for score in scores.values()])),
        float(np.mean([score.boundary[0] for score in scores.values()])),
    )


def overall(scores: dict[int, ObjectScore]) -> float:
    """One number by which weights are compared."""
    return float(np.mean([score.value for score in scores.values()]))


def pack(scores: dict[int, ObjectScore]) -> dict[str, list[list[float]]]:
    """Give scores as plain values, which a checkpoint can hold."""
    return {str(place): [list(s.iou), list(s.boundary)] for place, s in scores.items()}


def unpack(packed: dict[str, list[list[float]]]) -> dict[int, ObjectScore]:
    """Give the scores that `pack` packed."""
    return {int(place): ObjectScore(tuple(a), tuple(b)) for place, (a, b) in packed.items()}


def check_finite(model: nn.Module) -> bool:
    """Whether all weights are finite."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())
